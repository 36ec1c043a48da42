"""PyTorch's part of the package on a device that is not the CPU.

The device is emulated, also where there is a GPU: its tensors are CPU tensors behind wrappers, so
that it computes the same bits. As on a GPU, an operation on tensors of two devices is an error.
"""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from nefgpt.evaluation import classifier
from nefgpt.evaluation.settings import ClassifierTraining
from nefgpt.fields import stacked
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting import basis, optimise
from nefgpt.fitting.settings import Template
from nefgpt.fitting.weights import Fields
from nefgpt.generators import regression
from nefgpt.generators.gpt import sampling
from nefgpt.generators.gpt import train as train_gpt
from nefgpt.generators.gpt.model import GPT, GPTConfig
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.settings import Gpt, Regressor

_setup_privateuseone_for_python_backend("emulated")
torch.emulated.get_amp_supported_dtype = lambda: [torch.bfloat16]
DEVICE = torch.device("emulated", 0)
ATEN = torch.ops.aten
SPEC = FieldSpec(in_dim=2, octaves=1, hidden=(8,), mirror=0)


class OnDevice(torch.Tensor):
    """A tensor of the emulated device."""

    is_cuda = True  # where the package asks, it means: not on the CPU

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return Emulation().run(function, args, kwargs or {})


class Emulation(TorchDispatchMode):
    """Computes what is asked of the emulated device.

    Attributes
    ----------
    waits : operations for which the host would wait: those that copy to or from the device, read
        a value, or give as many rows as a mask has.
    precisions : of the device's matrix products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.precisions: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.run(function, args, kwargs or {})

    def run(self, function, args, kwargs):
        leaves = tree_leaves((args, kwargs))
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        ours = {id(x.inner): x for x in tensors if isinstance(x, OnDevice)}
        others = [x for x in tensors if not isinstance(x, OnDevice) and x.dim()]
        named = [x for x in leaves if isinstance(x, torch.device)]
        result_here = named[0].type == DEVICE.type if named else bool(ours)
        if function is ATEN.copy_.default:
            result_here = isinstance(args[0], OnDevice)
        # A GPU takes index tensors from the CPU, but not the other way round.
        index = function is ATEN.index.Tensor and isinstance(args[0], OnDevice)
        if ours and others and function is not ATEN.copy_.default and not index:
            raise RuntimeError(f"{function} of tensors on two devices")
        masked = index and any(x is not None and x.dtype == torch.bool for x in args[1])
        copied = named and tensors and bool(ours) != result_here
        if copied or masked or (ours and function is ATEN._local_scalar_dense.default):
            self.waits.append(str(function))
        if ours and function in (ATEN.bmm.default, ATEN.baddbmm.default):
            self.precisions.append(torch.get_float32_matmul_precision())

        def inner(x):
            if isinstance(x, torch.device):
                return torch.device("cpu")
            return x.inner if isinstance(x, OnDevice) else x

        args, kwargs = tree_map(inner, (args, kwargs))
        result = function(*args, **kwargs)
        if not result_here:
            return result

        def outer(x):
            if not isinstance(x, torch.Tensor):
                return x
            return ours[id(x)] if id(x) in ours else OnDevice(x)

        with torch.inference_mode(False):  # wrappers of an inference tensor cannot be cut
            return tree_map(outer, result)


@pytest.fixture(autouse=True)
def one_thread():
    """Emulation is a matter of the thread; a device's gradients would have one of their own."""
    with torch.autograd.set_multithreading_enabled(False):
        yield


@pytest.fixture
def both(monkeypatch):
    """What a function returns on the CPU, and what on the device."""

    def run(function):
        found = []
        for device in (torch.device("cpu"), DEVICE):
            for module in (classifier, sampling, regression, stacked, basis, train_gpt):
                monkeypatch.setattr(module, "device", lambda device=device: device)
            with Emulation():
                found.append(function())
        return found

    return run


def signals(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and distances of `n` circles."""
    points = np.random.default_rng(0).random((n, 200, 2), np.float32) - 0.5
    return points, np.linalg.norm(points, axis=2) - np.linspace(0.1, 0.4, n, dtype=np.float32)[
        :, None
    ]


def test_tensors_of_two_devices_do_not_mix():
    with Emulation() as emulation:
        there = torch.ones(3, device=DEVICE)
        assert emulation.waits == [] and (there + 1).cpu().tolist() == [2.0] * 3
        assert len(emulation.waits) == 1
        for mixed in (
            lambda: there + torch.ones(3),
            lambda: torch.ones(3)[torch.zeros(2, dtype=torch.long, device=DEVICE)],
            lambda: torch.where(there > 0, torch.ones(3), there),
        ):
            with pytest.raises(RuntimeError, match="two devices"):
                mixed()


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("in_basis", [False, True])
def test_fits(schedule, in_basis, both):
    settings = Optimiser(points_per_step=50, pull=1e-3, averaging=0.9, schedule=schedule, steps=60)
    points, values = signals(4)
    values[2] = np.nan
    anchor = random_weights(SPEC, 0)
    basis = np.random.default_rng(1).normal(0, 0.1, (3, len(anchor))).astype(np.float32)
    basis = basis if in_basis else None
    start = np.zeros((4, 3), np.float32) if in_basis else np.stack([anchor] * 4)
    problem = SPEC, points, values, start, anchor, settings, 0, basis
    cpu, device = both(lambda: optimise.fit_fields(*problem, progress=False, way=stacked))
    for expected, found in zip(cpu, device, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert cpu.failed.tolist() == [-1, -1, 0, -1]


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_host_waits_for_no_step_of_a_fit(schedule, monkeypatch):
    """But once for all steps that it asks for at a time: points there, who goes on back."""
    monkeypatch.setattr(stacked, "device", lambda: DEVICE)
    settings = Optimiser(pull=1e-3, averaging=0.9, loss="mse", schedule=schedule)
    points, values = signals(3)
    anchor = random_weights(SPEC, 0)
    waits = []
    for steps in (1, 7):
        with Emulation() as emulation:
            fields = stacked.Fit(
                SPEC,
                points,
                values,
                np.stack([anchor] * 3),
                anchor,
                None,
                settings,
            )
            emulation.waits.clear()
            assert fields.advance(np.zeros((steps, 20), np.int64), np.ones(steps))
            waits.append(len(emulation.waits))
            assert set(emulation.precisions) == {"high"}, "TF32, forward and backward"
    assert waits == [2, 2] and torch.get_float32_matmul_precision() == "highest"


def test_basis(both):
    sizes = {"n_shapes": 4, "n_components": 2, "points_per_step": 50, "fields_per_step": 3}
    settings = Template(steps=8, coefficient_learning_rate=0.01, pull=1e-3, **sizes)
    cpu, device = both(lambda: basis.learn_basis(SPEC, *signals(4), settings, 0))
    for expected, found in zip(cpu, device, strict=True):  # by other passes
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gpt_and_its_samples(both, tmp_path):
    codes = np.random.default_rng(0).integers(11, size=(24, 6))
    rows = {"shape_id": [f"s{i}" for i in range(24)], "split": ["train"] * 16 + ["val"] * 8}
    write_tokens(tmp_path / "tokens.parquet", rows | {"label": [0, 1] * 12}, codes, 11)
    sizes = {"embedding": 16, "heads": 2, "layers": 1, "batch_size": 8, "accumulate": 2}
    sizes |= {"iterations": 6, "eval_every": 3}
    settings = Gpt(dropout=0.0, label_smoothing_width=0.5, class_dropout=0.2, **sizes)

    def run():
        train_gpt.train(tmp_path / "tokens.parquet", tmp_path / "gpt", settings, 0)
        model, _ = sampling.load_gpt(tmp_path / "gpt")
        prefix = [11, 12]
        chosen = {"prefix": prefix, "top_k": 5, "top_p": 0.9, "guidance": 1.5, "batch_size": 3}
        losses = pd.read_csv(tmp_path / "gpt/losses.csv").drop(columns="tokens_per_second")
        where = model.token.weight.device.type
        return where, losses, sampling.generate(model, 4, 6, 11, **chosen)

    (_, *cpu), (where, *device) = both(run)
    assert where == DEVICE.type
    for expected, found in zip(cpu, device, strict=True):  # attention is computed another way
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_host_waits_once_for_a_batch_of_the_gpt():
    with Emulation() as emulation:
        model = GPT(GPTConfig(vocab_size=12, context=6, embedding=8, heads=2, layers=1)).to(DEVICE)
        codes = torch.zeros((8, 6), dtype=torch.long).to(DEVICE)
        emulation.waits.clear()
        found = train_gpt.gradients(
            model, codes, codes, None, Gpt(accumulate=4), contextlib.nullcontext
        )
        assert len(emulation.waits) == 1 and np.isfinite(found).all()


def test_classifier(both):
    images = np.random.default_rng(0).random((40, 8, 8), np.float32)
    settings = ClassifierTraining(epochs=2, batch_size=16, learning_rate=3e-3)

    def run():
        model = classifier.train(images, np.arange(40) % 2, settings, seed=0)
        return classifier.probabilities(model, images)

    np.testing.assert_array_equal(*both(run))


def test_regression(both):
    spec = FieldSpec(in_dim=2, octaves=1, hidden=(4,), target="brightness")
    anchor = random_weights(spec, 0)
    spread = np.random.default_rng(0).normal(size=(5, spec.n_weights)).astype(np.float32)
    fields = Fields(spec, anchor, list("abcde"), ["train"] * 5, [None] * 5, anchor + spread)
    sizes = {"embedding": 16, "heads": 2, "layers": 1, "n_fields": (1, 2), "iterations": 4}
    rates = {"learning_rate": 0.01, "min_learning_rate": 3e-4, "warmup": 2, "noise": 0.0}
    settings = Regressor(batch_size=4, **sizes, **rates)
    points = regression.frame_points(2)
    (cpu, _), (device, _) = both(lambda: regression.experiment(fields, fields, settings, 0, points))
    pd.testing.assert_frame_equal(cpu, device)
