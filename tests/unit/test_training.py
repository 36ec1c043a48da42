"""The training loop, on a model that has nothing to do with fields."""

import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nefgpt.base import training
from nefgpt.base.adam import Adam
from nefgpt.base.errors import InputError
from nefgpt.base.training import Course, Plan, State, fit

ITERATIONS = 12
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(40, 3)).astype(np.float32))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


class Toy:
    """A regression with dropout, and how it is trained; records the iterations it is asked for."""

    def __init__(self, parts: int = 1, dropout: float = 0.3, **plan) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Dropout(dropout), nn.Linear(3, 1))
        self.optimiser = Adam([(self.model.parameters(), 0.0)])
        self.parts, self.seen, self.killed_at, self.broken_at = parts, [], None, None
        rate = {"rate_of": lambda iteration: 0.05 / (1 + iteration)}
        common = {"title": "toy", "key": "toy.learning_rate", "iterations": ITERATIONS, "seed": 3}
        self.plan = Plan(**(common | rate | {"eval_every": 5} | plan))

    def losses_of(self, iteration: int):
        if iteration == self.killed_at:
            raise KeyboardInterrupt
        self.seen.append(iteration)
        rows = training.batch_rows(len(X), 16, iteration, 3)
        for x, y in zip(X[rows].chunk(self.parts), Y[rows].chunk(self.parts), strict=True):
            loss = F.mse_loss(self.model(x), y) / self.parts
            yield math.inf * loss if iteration == self.broken_at else loss

    @torch.no_grad()
    def evaluate(self) -> tuple[np.ndarray, dict]:
        self.model.eval()
        errors = (self.model(X) - Y).square()[:, 0].numpy()
        return errors, {"largest": float(errors.max())}

    def fit(self, state: State | None = None) -> Course:
        return fit(self.model, self.optimiser, self.plan, self.losses_of, self.evaluate, state)

    def numbers(self) -> list[torch.Tensor]:
        moments = self.optimiser.state().values()
        return [*self.model.parameters(), *(tensor for kind in moments for tensor in kind)]


def without_clock(course: Course) -> list[dict]:
    return [row | {"iterations_per_second": None} for row in course.rows]


def equal(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture
def often(monkeypatch):
    """A state is saved after every iteration."""
    monkeypatch.setattr(training, "SECONDS_BETWEEN_STATES", 0)


@pytest.mark.parametrize("killed_at", range(ITERATIONS))
def test_killed_at_any_iteration_and_resumed_is_the_whole_run(killed_at, tmp_path, often):
    whole = Toy()
    expected = whole.fit()
    killed, resumed = Toy(), Toy()
    killed.killed_at = killed_at
    with pytest.raises(KeyboardInterrupt):
        killed.fit(State(tmp_path, "toy"))
    found = resumed.fit(State(tmp_path, "toy"))
    assert resumed.seen == list(range(killed_at, ITERATIONS)), "nothing repeated, nothing skipped"
    for ours, theirs in zip(resumed.numbers(), whole.numbers(), strict=True):
        assert torch.equal(ours, theirs)
    assert without_clock(found) == without_clock(expected)
    assert found.best == expected.best and equal(found.weights, expected.weights)


def test_a_run_that_ended_before_its_results_were_written_only_writes_them(tmp_path):
    expected = Toy().fit(State(tmp_path, "toy"))
    again = Toy()
    found = again.fit(State(tmp_path, "toy"))
    assert again.seen == [] and found.rows == expected.rows
    assert equal(found.weights, expected.weights)


def test_state_of_another_run_is_not_gone_on_from(tmp_path, caplog):
    caplog.set_level("INFO")
    Toy().fit(State(tmp_path, "toy", "seed 3"))
    other = Toy()
    other.fit(State(tmp_path, "toy", "seed 4"))
    assert other.seen == list(range(ITERATIONS))
    assert "of another training run: training starts anew" in caplog.text


def test_state_is_cleared_with_halves_of_states_and_nothing_else(tmp_path):
    state = State(tmp_path / "a", "toy")
    Toy().fit(state)
    (tmp_path / "a/.state-x1.pt").write_bytes(b"half")
    (tmp_path / "a/other").touch()
    state.clear()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]
    (tmp_path / "a/other").unlink()
    state.clear()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("broken_at", [0, 7])
def test_a_loss_that_is_not_finite_is_named_and_reaches_nothing(broken_at, tmp_path, often):
    toy, before = Toy(), Toy(iterations=broken_at)
    toy.broken_at = broken_at
    message = rf"^toy: the loss turned inf .*iteration {broken_at}: lower toy\.learning_rate"
    with pytest.raises(InputError, match=message):
        toy.fit(State(tmp_path, "toy"))
    before.fit()
    for ours, theirs in zip(toy.numbers(), before.numbers(), strict=True):
        assert torch.equal(ours, theirs)
    state = State(tmp_path, "toy").load()
    assert (state["course"]["iteration"] if state else 0) == broken_at


def test_parts_of_a_batch_are_the_batch():
    one, four = Toy(dropout=0.0), Toy(parts=4, dropout=0.0)
    expected, found = one.fit(), four.fit()
    for ours, theirs in zip(four.numbers(), one.numbers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert found.rows[-1]["train_loss"] == pytest.approx(expected.rows[-1]["train_loss"])


def test_a_part_goes_back_before_the_next_is_made():
    """Else a batch in parts would take the memory of the whole."""
    weight, parts, seen = nn.Linear(1, 1, bias=False), 3, []

    def losses():
        for _ in range(parts):
            seen.append(0.0 if weight.weight.grad is None else weight.weight.grad.item())
            yield weight.weight.sum()

    training.gradients(weight, losses(), math.inf)
    assert seen == [0.0, 1.0, 2.0]


def test_gradients_are_clipped_to_a_norm_and_by_infinity_not_at_all():
    for clip, expected in ((1.0, [0.6, 0.8]), (10.0, [3.0, 4.0]), (math.inf, [3.0, 4.0])):
        model = nn.Linear(2, 1, bias=False)
        loss = model.weight @ torch.tensor([3.0, 4.0])
        total, norm = training.gradients(model, [loss.sum()], clip)
        assert model.weight.grad[0].tolist() == pytest.approx(expected)
        assert norm == pytest.approx(5) and total == pytest.approx(loss.item())


def test_a_step_has_the_plans_clip():
    toy = Toy(clip=0.125, iterations=1)
    toy.fit()
    gradient = torch.cat([p.grad.flatten() for p in toy.model.parameters()])
    assert gradient.norm().item() == pytest.approx(0.125, rel=1e-3)


def told(losses: list[list[float]], **plan) -> tuple[Toy, Course]:
    """A training whose evaluations find what they are told, once an iteration."""
    toy = Toy(iterations=len(losses) - 1, eval_every=1, **plan)
    seen = iter(losses)
    toy.evaluate = lambda: (np.array(next(seen)), {"mark": toy.model[1].bias.item()})
    return toy, toy.fit()


def test_the_best_checkpoint_is_kept():
    toy, course = told([[3.0, 5.0], [1.0, 2.0], [2.0, 0.5], [4.0, 4.0]])
    assert course.kept == course.rows[2] and course.kept["val_loss"] == 1.25
    assert course.best == [2.0, 0.5]
    assert course.weights["1.bias"].item() == course.kept["mark"]
    assert course.weights["1.bias"].item() != toy.model[1].bias.item()


def test_a_checkpoint_within_the_limit_of_the_best_is_kept():
    _, course = told([[9.0], [1.0], [1.4], [2.0]], limit=lambda best: best.mean() + 0.5)
    assert course.kept["iteration"] == 2 and course.best == [1.0]


def test_rows_say_what_was_learned_since_the_last():
    toy = Toy()
    losses = []
    step = training.gradients

    def spy(*arguments):
        losses.append(step(*arguments)[0])
        return losses[-1], 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "gradients", spy)
        rows = toy.fit().rows
    assert [row["iteration"] for row in rows] == [0, 5, 10, 12]
    assert [row["learning_rate"] for row in rows] == [0, 0.05 / 5, 0.05 / 10, 0.05 / 12]
    assert rows[0]["train_loss"] == "" and rows[0]["iterations_per_second"] == 0
    means = [np.mean(losses[a:b]) for a, b in ((0, 5), (5, 10), (10, 12))]
    assert [row["train_loss"] for row in rows[1:]] == means
    assert all(row["iterations_per_second"] > 0 for row in rows[1:])


def test_losses_are_written_to_the_last_digit(tmp_path):
    course = Toy().fit()
    training.write_losses(tmp_path / "losses.csv", course.rows)
    with (tmp_path / "losses.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    names = "iteration train_loss val_loss learning_rate iterations_per_second largest".split()
    assert list(found[0]) == names
    assert found == [{name: str(value) for name, value in row.items()} for row in course.rows]


def test_dropout_is_for_training_and_another_in_every_iteration():
    toy, modes, masks = Toy(), [], []
    toy.model.register_forward_pre_hook(lambda model, _: modes.append(model.training))
    toy.model[0].register_forward_hook(lambda _, x, y: masks.append((y == 0).tolist()))
    toy.fit()
    assert modes == [False, *[True] * 5, False, *[True] * 5, False, True, True, False]
    trained = [mask for mask, mode in zip(masks, modes, strict=True) if mode]
    assert len({str(mask) for mask in trained}) == ITERATIONS


def test_without_a_seed_random_numbers_go_on():
    """The classifier's batches and dropout share one stream."""
    toy = Toy(seed=None, iterations=3)
    drawn = []

    def losses_of(_):
        drawn.append(torch.rand(()).item())
        yield toy.model(X).square().mean()

    toy.losses_of, toy.model[0].p = losses_of, 0.0
    torch.manual_seed(7)
    toy.fit()
    torch.manual_seed(7)
    assert drawn == [torch.rand(()).item() for _ in range(3)]


def test_without_a_seed_there_is_no_state(tmp_path):
    with pytest.raises(ValueError, match="toy: no run without a seed can be resumed"):
        Toy(seed=None).fit(State(tmp_path, "toy"))


def test_without_evaluation_the_last_weights_are_the_models_own(tmp_path, often):
    toy, state = Toy(), State(tmp_path, "toy")
    course = fit(toy.model, toy.optimiser, toy.plan, toy.losses_of, state=state)
    assert course.iteration == ITERATIONS and course.rows == [] and course.weights == {}
    again = Toy()
    fit(again.model, again.optimiser, again.plan, again.losses_of, state=State(tmp_path, "toy"))
    assert again.seen == [] and equal(again.model.state_dict(), toy.model.state_dict())


def test_bfloat16_is_for_those_who_ask_or_have_it():
    cpu = torch.device("cpu")
    for precision, expected in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with training.autocast(precision, cpu)():
            assert nn.functional.linear(X, torch.ones(1, 3)).dtype == expected
    with training.autocast("auto", cpu)():
        assert nn.functional.linear(X, torch.ones(1, 3)).dtype == torch.float32


def test_every_epoch_sees_every_row_once():
    rows = np.concatenate([training.batch_rows(10, 4, i, 0) for i in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_learning_rate():
    about = {"iterations": 103, "warmup": 3, "learning_rate": 1.0, "min_learning_rate": 0.1}
    rates = [training.learning_rate(SimpleNamespace(**about), i) for i in range(104)]
    np.testing.assert_allclose(rates[:4], [1 / 3, 2 / 3, 1, 1])
    assert rates[53] == pytest.approx(0.55) and rates[103] == pytest.approx(0.1)
