import dataclasses

import numpy as np
import pytest

from nefgpt.base.errors import InputError
from nefgpt.base.settings import from_dict
from nefgpt.fields import fused
from nefgpt.fields.spec import FieldSpec, flatten, random_weights, unflatten

PAPER = FieldSpec(frequency=1.0, hidden=(32, 32, 32, 32))
POINTS = np.random.default_rng(0).random((64, 3), np.float32) - 0.5


def test_the_papers_field_has_3712_weights():
    assert PAPER.n_inputs == 15
    assert PAPER.n_weights == 3712


def test_flatten_undoes_unflatten():
    weights = random_weights(PAPER, 0)
    assert weights.dtype == np.float32 and weights.shape == (3712,)
    np.testing.assert_array_equal(flatten(PAPER, unflatten(PAPER, weights)), weights)


def test_specification_round_trip():
    assert FieldSpec.from_json(PAPER.to_json()) == PAPER


def test_one_output_is_written_as_before_there_were_several():
    spec = FieldSpec(hidden=(8, 8))
    assert spec.to_json() == (
        '{"activation": "gelu", "frequency": 6.283185307179586, "hidden": [8, 8], "in_dim": 3, '
        '"include_input": true, "mirror": null, "octaves": 2, "offset": 0.004, '
        '"output_activation": "tanh", "output_bias": false, "sdf_scale": 0.02, "target": "sdf"}'
    )
    colour = dataclasses.replace(spec, out_dim=3, target="brightness", output_bias=True)
    assert FieldSpec.from_json(colour.to_json()) == colour != spec
    assert colour.n_weights == spec.n_weights + 2 * 8 + 3
    assert fused.values(colour, random_weights(colour, 0), POINTS).shape == (64, 3)


def test_a_distance_is_one_number():
    with pytest.raises(InputError, match="out_dim = 3: target sdf is one number"):
        FieldSpec.from_json('{"out_dim": 3}')


def test_permuted_hidden_units_compute_the_same_function():
    spec = FieldSpec()
    weights = random_weights(spec, 2)
    tensors = unflatten(spec, weights)
    order = np.random.default_rng(0).permutation(16)
    tensors["layers.0.weight"] = tensors["layers.0.weight"][order]
    tensors["layers.0.bias"] = tensors["layers.0.bias"][order]
    tensors["layers.1.weight"] = tensors["layers.1.weight"][:, order]
    values = (fused.values(spec, field, POINTS) for field in (weights, flatten(spec, tensors)))
    np.testing.assert_allclose(*values, atol=1e-5, rtol=1e-5)


def test_a_mirrored_field_has_two_equal_halves():
    spec, weights = FieldSpec(mirror=1), random_weights(FieldSpec(), 3)
    image = POINTS * np.float32([1, -1, 1])
    values = fused.values(spec, weights, POINTS)
    np.testing.assert_array_equal(values, fused.values(spec, weights, image))
    assert not np.array_equal(values, fused.values(spec, weights, -image))
    # Where the coordinate is positive already, nothing is folded.
    half = np.abs(POINTS)
    plain = fused.values(FieldSpec(), weights, half)
    np.testing.assert_array_equal(fused.values(spec, weights, half), plain)


@pytest.mark.parametrize("mirror", [-1, 3])
def test_a_mirror_is_one_of_the_coordinates(mirror):
    with pytest.raises(InputError, match=f"mirror = {mirror}: there are 3 coordinates"):
        from_dict(FieldSpec, {"mirror": mirror})
