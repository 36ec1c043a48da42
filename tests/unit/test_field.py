import torch

from nefgpt.field import FieldSpec, evaluate, flatten, random_weights, unflatten

PAPER = FieldSpec(frequency=1.0, hidden=(32, 32, 32, 32))


def test_the_papers_field_has_3712_weights():
    assert PAPER.n_inputs == 15
    assert PAPER.n_weights == 3712


def test_flatten_undoes_unflatten():
    weights = random_weights(PAPER, 0)
    assert torch.equal(flatten(PAPER, unflatten(PAPER, weights)), weights)


def test_specification_round_trip():
    assert FieldSpec.from_json(PAPER.to_json()) == PAPER


def test_permuted_hidden_units_compute_the_same_function():
    spec = FieldSpec()
    weights = random_weights(spec, 2)
    tensors = unflatten(spec, weights)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    tensors["layers.0.weight"] = tensors["layers.0.weight"][order]
    tensors["layers.0.bias"] = tensors["layers.0.bias"][order]
    tensors["layers.1.weight"] = tensors["layers.1.weight"][:, order]
    points = torch.rand(64, 3) - 0.5
    both = torch.stack([weights, flatten(spec, tensors)])
    values = evaluate(spec, both, points)
    torch.testing.assert_close(values[0], values[1], atol=1e-5, rtol=1e-5)


def test_a_mirrored_field_has_two_equal_halves():
    spec = FieldSpec(mirror=1)
    weights = random_weights(spec, 3)[None]
    points = torch.rand(64, 3) - 0.5
    image = points * torch.tensor([1.0, -1.0, 1.0])
    assert torch.equal(evaluate(spec, weights, points), evaluate(spec, weights, image))
    assert not torch.equal(evaluate(spec, weights, points), evaluate(spec, weights, -image))
    # Where the coordinate is positive already, nothing is folded.
    plain = FieldSpec()
    half = points.abs()
    assert torch.equal(evaluate(spec, weights, half), evaluate(plain, weights, half))
