"""A small convolutional classifier, trained on real images: does a sample show its class?"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from nefgpt.base import cli
from nefgpt.base.adam import Adam
from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_table, write_json
from nefgpt.base.seeds import stable_seed
from nefgpt.base.training import Plan, fit
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.settings import ClassifierTraining
from nefgpt.signals.kind import usable


class Classifier(nn.Module):
    """Two convolutions and two linear layers; any image size of at least 2 x 2 pixels."""

    def __init__(self, n_classes: int, channels: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 16, 128)
        self.output = nn.Linear(128, n_classes)
        self.dropout = nn.Dropout(0.3)

    def features(self, images: Tensor) -> Tensor:
        """What the classes are told by, [B, 128], of images [B, H, W(, channels)] in [0, 1]."""
        x = images[:, None] if images.dim() == 3 else images.movedim(3, 1)
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.adaptive_max_pool2d(F.relu(self.second(x)), 4).flatten(1)
        return F.relu(self.hidden(self.dropout(x)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, n_classes] of images [B, H, W(, channels)] in [0, 1]."""
        return self.output(self.dropout(self.features(images)))


@computing()
def train(
    images: np.ndarray, labels: np.ndarray, settings: ClassifierTraining, seed: int
) -> Classifier:
    """Train on images float32 [n, H, W(, channels)] and labels int [n].

    Parameters
    ----------
    settings : its learning rate is Adam's, down a cosine to zero.

    Raises
    ------
    InputError
        when the loss turns non-finite (naming the iteration).
    """
    torch.manual_seed(stable_seed(seed, "classifier"))
    model = Classifier(int(labels.max()) + 1, *images.shape[3:]).to(device())
    x = torch.from_numpy(images).to(device())
    y = torch.from_numpy(labels.astype(np.int64)).to(device())
    batch = min(settings.batch_size, len(x))
    per_epoch = len(x) // batch
    steps = settings.epochs * per_epoch

    def batches() -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(len(x))[: per_epoch * batch].to(x.device).split(batch)

    def losses_of(_: int) -> Iterator[Tensor]:
        rows = next(drawn)
        yield F.cross_entropy(model(x[rows]), y[rows])

    drawn = batches()
    plan = Plan(
        title="classifier",
        key="classifier.learning_rate",
        iterations=steps,
        rate_of=lambda step: settings.learning_rate / 2 * (1 + math.cos(math.pi * step / steps)),
        clip=math.inf,
    )
    fit(model, Adam([(model.parameters(), 0.0)]), plan, losses_of)
    return model.cpu().eval()


@computing()
@torch.inference_mode()
def probabilities(model: Classifier, images: np.ndarray) -> np.ndarray:
    """Class probabilities, float64 [n, n_classes]; a NaN image is every class equally."""
    valid = usable(images)
    n_classes = model.output.out_features
    result = np.full((len(images), n_classes), 1 / n_classes)
    if valid.any():
        tiles = torch.from_numpy(images[valid]).split(1024)
        result[valid] = torch.cat([model(tile).double().softmax(dim=1) for tile in tiles]).numpy()
    return result


@computing()
@torch.inference_mode()
def features_of(model: Classifier, images: np.ndarray) -> np.ndarray:
    """Features float64 [n, 128] of images that hold no NaN."""
    tiles = torch.from_numpy(images).split(1024)
    return torch.cat([model.features(tile) for tile in tiles]).double().numpy()


def scores(found: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is taken for its class, and the cross-entropy in nats, both [n].

    An image that could be any class (`probabilities` of NaN) is never right.
    """
    right = (found.argmax(axis=1) == labels) & (np.ptp(found, axis=1) > 0)
    entropy = -np.log(np.maximum(found[np.arange(len(labels)), labels], 1e-12))
    return right, entropy


def save_classifier(path: Path, model: Classifier, about: dict) -> None:
    """Write `classifier.safetensors`."""
    with atomic_path(path) as temporary:
        save_file(model.state_dict(), temporary, metadata={"classifier": json.dumps(about)})


def load_classifier(path: Path) -> Classifier:
    """Read `classifier.safetensors`; raise InputError when it cannot be read."""
    try:
        with safe_open(path, framework="pt") as stream:
            about = json.loads(stream.metadata()["classifier"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        model = Classifier(about["n_classes"], tensors["first.weight"].shape[1])
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot read classifier {path}: {error}; delete it") from error
    return model.eval()


def class_scores(clouds: np.ndarray, table, classifier: Path) -> tuple[dict, list[dict]]:
    """How well samples show the class they were made for.

    Parameters
    ----------
    clouds : images [n, H, W(, channels)].
    table : frame with a `label` for each.

    Returns
    -------
    dict
        `accuracy %` and `cross-entropy` (nats) of all samples.
    list of dict
        The same for each `label`, with `n`.
    """
    if (table["label"] == "").any():
        raise InputError("samples without a label have no class that a classifier could find")
    labels = table["label"].to_numpy(int)
    right, entropy = scores(probabilities(load_classifier(classifier), clouds), labels)

    def mean(rows: np.ndarray) -> dict:
        return {
            "accuracy %": 100 * float(right[rows].mean()),
            "cross-entropy": float(entropy[rows].mean()),
        }

    return mean(labels >= 0), [
        {"label": int(c), "n": int((labels == c).sum()), **mean(labels == c)}
        for c in np.unique(labels)
    ]


def read_labelled(clouds: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, H, W(, channels)] of a .npy and their labels int [n] from the .csv beside it."""
    table = read_table(clouds.with_suffix(".csv"), ["label"])
    if (table["label"] == "").any():
        raise InputError(f"{clouds.with_suffix('.csv')}: images without a label")
    return read_clouds(clouds), table["label"].to_numpy(int)


def main() -> None:
    """Command line of the classifier."""
    parser = argparse.ArgumentParser(description="Train a classifier on real images.")
    parser.add_argument("--train", type=Path, required=True, help="images .npy, labels in its .csv")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="classifier block, JSON or @file")
    parser.add_argument("--out", type=Path, required=True, help=".safetensors")
    parser.add_argument("--report", type=Path, required=True, help="JSON of its own accuracy")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (images, labels), (unseen, truth) = read_labelled(args.train), read_labelled(args.test)
    if truth.max() > labels.max():
        raise InputError(f"class {truth.max()} is in the test split only; change dataset.split")
    settings = cli.settings_argument(ClassifierTraining, args.settings)
    model = train(images, labels, settings, args.seed)
    right, entropy = scores(probabilities(model, unseen), truth)
    about = {"n_classes": int(labels.max()) + 1}
    save_classifier(args.out, model, about)
    per_class = {int(c): 100 * float(right[truth == c].mean()) for c in np.unique(truth)}
    about |= {"accuracy %": 100 * float(right.mean()), "cross-entropy": float(entropy.mean())}
    about |= {"n_train": len(images), "n_test": len(unseen), "accuracy % by class": per_class}
    write_json(args.report, about)
