"""The experiment on fidelity, as a person calls it."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[2] / "experiments/fidelity.py"
TINY = "--shapes 3 --steps 5 --template-steps 20 --points-per-step 256 --sdf-points 2000"
TINY += " --resolution 24 --quantised 2 --hardware test"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command in this process, which has its imports already; return what it printed."""
    spec = importlib.util.spec_from_file_location("fidelity", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fidelity", module)
    spec.loader.exec_module(module)

    def run(*words: str) -> str:
        paths = ["--folder", str(tmp_path), "--out", str(tmp_path / "fidelity.csv")]
        monkeypatch.setattr(sys, "argv", ["fidelity.py", *TINY.split(), *paths, *words])
        module.main()
        return capsys.readouterr().out

    return run


def test_a_row_per_variant_and_a_second_call_adds_what_is_missing(call, tmp_path):
    call("--variants", "middle")
    before = (tmp_path / "fidelity.csv").read_text()
    printed = call("--variants", "middle", "paper")
    after = (tmp_path / "fidelity.csv").read_text()
    assert after.startswith(before)
    rows = list(csv.DictReader(after.splitlines()))
    assert [row["variant"] for row in rows] == ["meshes", "middle", "paper"]
    assert [row["weights"] for row in rows] == ["", "1608", "3712"]
    # Shapes against themselves: nothing is lost.
    assert float(rows[0]["f_score"]) > 0.99 and float(rows[0]["thin"]) > 0.99
    for row in rows[1:]:
        assert 0 <= float(row["f_score"]) < 0.9 and float(row["cpu_seconds"]) > 0
        assert f"| {row['variant']} | {row['weights']} |" in printed


def test_unknown_variants_and_missing_folders_are_named(call, capsys):
    for words, message in (
        (["--variants", "nothing"], "no variant is named nothing"),
        (["--real", "absent"], "--real absent: there is no such folder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            call(*words)
        assert message in capsys.readouterr().err


def test_products_are_rounded_as_by_tensor_cores(call):
    """Forward and backward, of values that the rounding keeps and of values that it cuts."""
    fidelity = sys.modules["fidelity"]
    left = torch.tensor([[[1.0, 1 + 2**-7, 1 + 2**-10, 1 + 2**-10 + 2**-12, 1 + 2**-12]]])
    left.requires_grad_(True)
    right = torch.eye(5)[None] * (1 + 2**-12)
    for precision, expected in (
        ("bf16", [1, 1 + 2**-7, 1, 1, 1]),
        ("tf32", [1, 1 + 2**-7, 1 + 2**-10, 1 + 2**-10, 1]),
    ):
        with fidelity.computed_with(precision):
            product = torch.bmm(left, right)
            (gradient,) = torch.autograd.grad(product.sum(), left)
        assert product.flatten().tolist() == expected
        assert gradient.flatten().tolist() == [1.0] * 5
    with fidelity.computed_with("autocast"):
        assert torch.bmm(left, right).dtype == torch.bfloat16


def test_how_it_is_computed_changes_what_is_fitted(call, tmp_path):
    """Its precision a little; the start and the points' places more."""
    kinds = ("PyTorch", "bf16 products", "near 100 %", "random starts")
    names = [f"octaves 3, mirror, {kind}" for kind in kinds]
    call("--variants", *names)
    rows = list(csv.DictReader((tmp_path / "fidelity.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows[1:]] == names
    losses = [float(row["loss"]) for row in rows[1:]]
    assert len(set(losses)) == 4 and losses[1] == pytest.approx(losses[0], rel=0.2)
    assert len({row["settings"] for row in rows}) == 5
