"""Fréchet distances between Gaussians fitted to a network's features (Heusel et al. 2017).

Each is called after the network, since values of different ones are not comparable.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.files import sha256_of
from nefgpt.evaluation.columns import Column
from nefgpt.evaluation.settings import Fpd

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

NAMES = {"pointnet": "FPD (PointNet)", "pointnet2": "FPD (PointNet++)"}
IMAGES = "Fréchet (classifier)"
COLUMNS = (
    *(Column(name, name, 2, "low") for name in NAMES.values()),
    Column(IMAGES, IMAGES, 2, "low"),
)


class Network(NamedTuple):
    """Which network's features are compared.

    Attributes
    ----------
    axes : the coordinate of a cloud that each of the network's is.
    mark : first digits of the checkpoint's SHA-256.
    """

    extractor: str
    checkpoint: Path
    axes: tuple[int, int, int]
    mark: str


def network_of(settings: Fpd | None) -> Network | None:
    """The network that settings name, or None.

    Raises
    ------
    InputError
        when there is no such checkpoint.
    """
    if settings is None:
        return None
    checkpoint = Path(settings.checkpoint)
    if not checkpoint.is_file():
        raise InputError(f"evaluation.fpd.checkpoint = {checkpoint}: there is no such file")
    return Network(settings.extractor, checkpoint, settings.axes, sha256_of(checkpoint)[:8])


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of Gaussians fitted to features [n, d] and [m, d].

    |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)). The trace of the root is the sum of singular
    values of the two centred sets' product: exact however few the samples are, where a root of
    singular matrices is not.
    """
    parts = [
        np.linalg.qr((x - x.mean(axis=0)) / np.sqrt(max(len(x) - 1, 1)), mode="r") for x in (a, b)
    ]
    between = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    spread = sum(np.square(part).sum() for part in parts)
    root = np.linalg.svd(parts[0] @ parts[1].T, compute_uv=False).sum()
    return float(max(0.0, between + spread - 2 * root))


def extractor(name: str, known: "Known") -> str:
    """Which network a measure is by, with its checkpoint's mark; nothing for other measures."""
    if name in NAMES.values():
        return f"{known.network.extractor} {known.network.mark}"
    return f"classifier {sha256_of(known.classifier)[:8]}" if name == IMAGES else ""


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """Distance of valid samples to references, by the features of what network there is."""
    if samples.clouds and known.network is not None:
        from nefgpt.evaluation.pointnet import features, load_network  # loads PyTorch

        net = known.network
        name, model = NAMES[net.extractor], load_network(net.extractor, net.checkpoint)

        def seen(some: np.ndarray) -> np.ndarray:
            return features(model, some, net.axes)
    elif known.classifier is not None:
        from nefgpt.evaluation.classifier import features_of, load_classifier  # loads PyTorch

        name, classifier = IMAGES, load_classifier(known.classifier)

        def seen(some: np.ndarray) -> np.ndarray:
            return features_of(classifier, some)
    else:
        return {}
    rows, references = samples.chosen(known)
    some = samples.compared[rows][samples.valid[rows]]
    if len(some) < 2:
        return {name: float("nan")}
    return {name: frechet(seen(some), seen(known.reference[references]))}
