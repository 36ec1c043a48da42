"""Align the hidden units of fields to those of a reference field.

The units of a hidden layer can be permuted without changing the function, so independently
fitted fields of one shape have weights that do not line up. `align` permutes them so that they
do, as far as matching layer by layer finds it: weight matching of Git Re-Basin (Ainsworth,
Hayase and Srinivasa 2023), from two starts.

Only permutations are handled. Odd activations would also allow sign flips, and ReLU allows a
positive scale per unit; "gelu" and "silu" have neither.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec, flatten, unflatten

Layers = list[tuple[np.ndarray, np.ndarray | None]]  # weight [out, in] and bias [out] of each


def _layers(spec: FieldSpec, weights: np.ndarray) -> Layers:
    tensors = unflatten(spec, weights)
    return [
        (tensors[f"layers.{i}.weight"], tensors.get(f"layers.{i}.bias"))
        for i in range(len(spec.hidden) + 1)
    ]


def _flat(spec: FieldSpec, layers: Layers) -> np.ndarray:
    tensors = {}
    for i, (weight, bias) in enumerate(layers):
        tensors[f"layers.{i}.weight"] = weight
        if bias is not None:
            tensors[f"layers.{i}.bias"] = bias
    return flatten(spec, tensors)


def _permute(layers: Layers, i: int, order: np.ndarray) -> Layers:
    """The same function with the units of hidden layer `i` in another order."""
    (weight, bias), (after, after_bias) = layers[i : i + 2]
    pair = [(weight[order], bias[order]), (after[:, order], after_bias)]
    return [*layers[:i], *pair, *layers[i + 2 :]]


def _likeness(reference: Layers, layers: Layers, i: int, outgoing: bool) -> np.ndarray:
    """Inner products [units, units] of all weights of the units of hidden layer `i`."""
    (weight, bias), (own_weight, own_bias) = reference[i], layers[i]
    found = weight.astype(float) @ own_weight.T.astype(float)
    found += np.outer(bias.astype(float), own_bias)
    if outgoing:
        found += reference[i + 1][0].T.astype(float) @ layers[i + 1][0].astype(float)
    return found


def _match_forward(reference: Layers, layers: Layers) -> Layers:
    """One pass from the input on, by incoming weights alone: exact where a permutation is all."""
    for i in range(len(layers) - 1):
        likeness = _likeness(reference, layers, i, outgoing=False)
        layers = _permute(layers, i, linear_sum_assignment(likeness, maximize=True)[1])
    return layers


def _descend(reference: Layers, layers: Layers) -> Layers:
    """Match one layer at a time, its neighbours held, until no layer comes nearer."""
    changed = True
    while changed:
        changed = False
        for i in range(len(layers) - 1):
            likeness = _likeness(reference, layers, i, outgoing=True)
            order = linear_sum_assignment(likeness, maximize=True)[1]
            gain = likeness[np.arange(len(order)), order].sum() - np.trace(likeness)
            # Rounding must not send equal matchings round in circles.
            if gain > 1e-9 * np.abs(likeness).sum():
                layers, changed = _permute(layers, i, order), True
    return layers


def align(spec: FieldSpec, fields: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Permute the hidden units of every field so that its weights come near the reference's.

    Coordinate descent over the layers, once from the order as given and once from a forward
    pass over incoming weights; the nearer end is kept. It is a local optimum; a permuted copy
    of the reference comes back as the reference itself.

    Parameters
    ----------
    fields : float32 [F, W] flat weights.
    reference : float32 [W].

    Returns
    -------
    float32 [F, W], the same functions; no field is farther from the reference than before.

    Raises
    ------
    InputError
        when the weights are not of the specification's length, or not finite.
    """
    if fields.shape[1:] != (spec.n_weights,) or reference.shape != (spec.n_weights,):
        raise InputError(
            f"cannot align fields {list(fields.shape)} to a reference {list(reference.shape)}: "
            f"the field specification has {spec.n_weights} weights"
        )
    if not (np.isfinite(fields).all() and np.isfinite(reference).all()):
        raise InputError("cannot align fields with non-finite weights")
    target, result = _layers(spec, reference), np.empty_like(fields)
    for row, field in enumerate(fields):
        layers = _layers(spec, field)
        ends = [
            _flat(spec, _descend(target, start))
            for start in (layers, _match_forward(target, layers))
        ]
        result[row] = min(ends, key=lambda end: np.square((end - reference).astype(float)).sum())
    return result
