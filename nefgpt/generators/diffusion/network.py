"""Denoisers: from a noisy field, its time and its class to what tells the noise from the field."""

import math

import torch
from torch import Tensor, nn

_TIMES = 64  # sines and cosines of the time


def time_features(time: Tensor, n_times: int) -> Tensor:
    """Sines and cosines [B, 2 * _TIMES] of times [B] in 0..n_times - 1 (Ho et al. 2020)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(_TIMES, device=time.device) / _TIMES)
    angles = 1000 / n_times * time[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Condition(nn.Module):
    """Time and class as one vector; the last of the classes stands for none."""

    def __init__(self, width: int, n_classes: int, n_times: int) -> None:
        super().__init__()
        self.n_times = n_times
        self.time = nn.Sequential(nn.Linear(2 * _TIMES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(n_classes + 1, width)

    def forward(self, time: Tensor, label: Tensor) -> Tensor:
        return self.time(time_features(time, self.n_times)) + self.label(label)


class _Block(nn.Module):
    """x + MLP(norm(x)), moved and scaled by the condition (Perez et al. 2018)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.body = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(condition).chunk(2, dim=1)
        return x + self.body(self.norm(x) * (1 + scale) + shift)


class Mlp(nn.Module):
    """Residual MLP over all numbers of a field, as mNIF's second stage has one.

    Parameters
    ----------
    size : numbers of a field.
    n_classes : 0 without classes.
    n_times : steps of the noise.
    """

    def __init__(
        self, size: int, width: int, layers: int, dropout: float, n_classes: int, n_times: int
    ) -> None:
        super().__init__()
        self.condition = _Condition(width, n_classes, n_times)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(layers))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)  # begins by saying zero, the mean
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """What is predicted, float32 [B, size], of noisy numbers, times and classes, int64 [B]."""
        condition = self.condition(time, label)
        x = self.first(x)
        for block in self.blocks:
            x = block(x, condition)
        return self.last(self.norm(x))


class Transformer(nn.Module):
    """Transformer over the parts of a field, HyperDiffusion's denoiser (Erkoc et al. 2023).

    Every part, a layer's weights or its biases, is one token with a linear map of its own into
    the transformer and out of it; time and class are another. Attention goes both ways.

    Parameters
    ----------
    parts : numbers of each.
    """

    def __init__(
        self,
        parts: tuple[int, ...],
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        n_classes: int,
        n_times: int,
    ) -> None:
        super().__init__()
        self.parts = list(parts)
        self.condition = _Condition(width, n_classes, n_times)
        self.into = nn.ModuleList(nn.Linear(n, width) for n in parts)
        self.out = nn.ModuleList(nn.Linear(width, n) for n in parts)
        self.place = nn.Parameter(0.02 * torch.randn(len(parts) + 1, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(width)
        self.body = nn.TransformerEncoder(block, layers, norm, enable_nested_tensor=False)
        for last in self.out:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """See `Mlp.forward`."""
        pieces = x.split(self.parts, dim=1)
        tokens = [into(piece) for into, piece in zip(self.into, pieces, strict=True)]
        tokens.append(self.condition(time, label))
        found = self.body(torch.stack(tokens, dim=1) + self.place)
        each = [out(found[:, i]) for i, out in enumerate(self.out)]
        return torch.cat(each, dim=1)
