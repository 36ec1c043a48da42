"""Networks that see point clouds, for Fréchet distances: PointNet and PointNet++ SSG.

Both take their published state by path. PointNet's is that of learning3d (Qi et al. 2017 without
the transformer networks), PointNet++'s that of `pointnet2_cls_ssg` without normals.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError

N_POINTS = 1024  # that both were trained on


class Points(nn.Module):
    """PointNet's features of single points, and their maximum over a cloud."""

    def __init__(self, widths: tuple[int, ...] = (3, 64, 64, 64, 128, 1024)) -> None:
        super().__init__()
        for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
            setattr(self, f"conv{i}", nn.Conv1d(n_in, n_out, 1))
            setattr(self, f"bn{i}", nn.BatchNorm1d(n_out))
        self.depth = len(widths) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, 1024] of points [B, 3, P]."""
        for i in range(1, self.depth + 1):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return x.amax(dim=2)


class PointNet(nn.Module):
    """3-64-64-64-128-1024, the maximum, 512-256-classes; 256 features."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.feature_model = Points()
        self.linear1, self.linear2 = nn.Linear(1024, 512), nn.Linear(512, 256)
        self.bn1, self.bn2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, n_classes)

    def features(self, points: Tensor) -> Tensor:
        """What the classes are told by, [B, 256], of points [B, P, 3]."""
        x = self.feature_model(points.transpose(1, 2))
        x = F.relu(self.bn1(self.linear1(x)))
        return F.relu(self.bn2(self.linear2(x)))

    def forward(self, points: Tensor) -> Tensor:
        """Logits [B, n_classes]."""
        return self.linear3(self.features(points))


def farthest(points: Tensor, n: int) -> Tensor:
    """Row numbers [B, n]: the first point, then always the one farthest from all so far."""
    batch = torch.arange(len(points), device=points.device)
    apart = torch.full(points.shape[:2], torch.inf, device=points.device)
    chosen = [torch.zeros_like(batch)]
    while len(chosen) < n:
        last = points[batch, chosen[-1]][:, None]
        apart = torch.minimum(apart, (points - last).square().sum(dim=2))
        chosen.append(apart.argmax(dim=1))
    return torch.stack(chosen, dim=1)


def ball(points: Tensor, centres: Tensor, radius: float, n: int) -> Tensor:
    """The first `n` points within a radius of each centre, [B, C, n]; the first again for none."""
    count = points.shape[1]
    places = torch.arange(count, device=points.device).expand(*centres.shape[:2], count)
    apart = torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist")
    found = places.masked_fill(apart > radius, count).sort(dim=2).values[..., :n]
    return torch.where(found == count, found[..., :1], found)


def gather(values: Tensor, rows: Tensor) -> Tensor:
    """Values [B, P, C] at row numbers [B, ...], [B, ..., C]."""
    flat = rows.flatten(1)[..., None].expand(-1, -1, values.shape[2])
    return values.gather(1, flat).reshape(*rows.shape, -1)


class Abstraction(nn.Module):
    """One set abstraction: centres, what lies around each, and its largest features."""

    def __init__(self, n: int | None, radius: float, around: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.n, self.radius, self.around = n, radius, around
        pairs = list(pairwise(widths))
        self.mlp_convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.mlp_bns = nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)

    def forward(self, points: Tensor, values: Tensor | None) -> tuple[Tensor, Tensor]:
        """Centres [B, n, 3] with features [B, n, C]; without `n` one for the whole cloud."""
        if self.n is None:
            centres = torch.zeros_like(points[:, :1])
            grouped, more = points[:, None], None if values is None else values[:, None]
        else:
            centres = gather(points, farthest(points, self.n))
            rows = ball(points, centres, self.radius, self.around)
            grouped = gather(points, rows) - centres[:, :, None]
            more = None if values is None else gather(values, rows)
        x = (grouped if more is None else torch.cat([grouped, more], dim=3)).permute(0, 3, 2, 1)
        for conv, norm in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = F.relu(norm(conv(x)))
        return centres, x.amax(dim=2).transpose(1, 2)


class PointNet2(nn.Module):
    """Single-scale grouping: 512/0.2/32, 128/0.4/64, all; 512-256-classes; 256 features."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.sa1 = Abstraction(512, 0.2, 32, (3, 64, 64, 128))
        self.sa2 = Abstraction(128, 0.4, 64, (131, 128, 128, 256))
        self.sa3 = Abstraction(None, 0, 0, (259, 256, 512, 1024))
        self.fc1, self.fc2 = nn.Linear(1024, 512), nn.Linear(512, 256)
        self.bn1, self.bn2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, n_classes)

    def features(self, points: Tensor) -> Tensor:
        """What the classes are told by, [B, 256], of points [B, P, 3]."""
        centres, values = self.sa1(points, None)
        x = self.sa3(*self.sa2(centres, values))[1][:, 0]
        x = F.relu(self.bn1(self.fc1(x)))
        return F.relu(self.bn2(self.fc2(x)))

    def forward(self, points: Tensor) -> Tensor:
        """Logits [B, n_classes]."""
        return self.fc3(self.features(points))


EXTRACTORS = {"pointnet": (PointNet, "linear3"), "pointnet2": (PointNet2, "fc3")}


def load_network(extractor: str, checkpoint: Path) -> nn.Module:
    """A network with a published state, from .safetensors or a file of PyTorch's.

    Raises
    ------
    InputError
        naming the file, when it cannot be read or is of another network.
    """
    kind, last = EXTRACTORS[extractor]
    try:
        if Path(checkpoint).suffix == ".safetensors":
            state = load_file(checkpoint)
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            state = state.get("model_state_dict", state)
        model = kind(len(state[f"{last}.weight"]))
        model.load_state_dict(state)
    # The readers raise whatever a broken file, or one of something else, leads to.
    except Exception as error:
        raise InputError(f"{checkpoint} is no checkpoint of {extractor}: {error!s:.300}") from error
    return model.eval()


def in_sphere(clouds: np.ndarray, axes: tuple[int, int, int]) -> np.ndarray:
    """The first points of clouds [n, P, 3] about their mean, in the unit sphere, axes reordered."""
    points = clouds[:, :N_POINTS, axes]
    points = points - points.mean(axis=1, keepdims=True)
    far = np.linalg.norm(points, axis=2).max(axis=1)
    return (points / far[:, None, None]).astype(np.float32)


@computing()
@torch.inference_mode()
def features(model: nn.Module, clouds: np.ndarray, axes: tuple[int, int, int]) -> np.ndarray:
    """Features float64 [n, 256] of clouds [n, P, 3] that hold no NaN."""
    model = model.to(device())
    tiles = torch.from_numpy(in_sphere(clouds, axes)).split(32)
    return torch.cat([model.features(tile.to(device())).cpu() for tile in tiles]).double().numpy()
