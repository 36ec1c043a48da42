"""What each place of the sequence costs the transformers on held-out fields."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from nefgpt.generators.gpt.batches import prefix_of, read_split
from nefgpt.generators.gpt.bits import positional_bits
from nefgpt.generators.gpt.sampling import load_gpt
from nefgpt.report.style import COLORS, GREY, LINES, MARKS, grid, styled

MOST_PLACES = 256  # for which a distribution of codes is fitted to each


@torch.no_grad()
def held_out_bits(folder: Path, tokens: Path, batch: int = 64) -> np.ndarray:
    """Bits of the code at each place, float64 [m, L], of the val split's m fields.

    Of the kept checkpoint at its temperature, so that their mean is the calibrated val loss.

    Parameters
    ----------
    folder : of the trained model.
    tokens : tokens.parquet.
    """
    model, about = load_gpt(folder)
    _, val, _ = read_split(tokens)
    n, length = val.codes.shape
    prefix = prefix_of(val.labels, n, about["n_codes"])
    inputs = torch.from_numpy(np.concatenate([prefix, val.codes[:, :-1]], axis=1))
    found = []
    for part, targets in zip(
        inputs.split(batch), torch.from_numpy(val.codes).split(batch), strict=True
    ):
        where = model.token.weight.device
        logits = model(part.to(where))[:, -length:].float().transpose(1, 2)  # [B, V, L]
        logits = logits / about["temperature"]
        found.append(F.cross_entropy(logits, targets.to(where), reduction="none").cpu().numpy())
    return np.concatenate(found).astype(float) / np.log(2)


def alone(tokens: Path) -> np.ndarray | None:
    """Bits of each place's code by how often codes stand there in the train split, [L].

    None of sequences of more than `MOST_PLACES`.
    """
    train, val, about = read_split(tokens)
    length = about["sequence_length"]
    if length > MOST_PLACES:
        return None
    places = (slice(i, i + 1) for i in range(length))
    n_codes = about["n_codes"]
    parts = [positional_bits(train.codes[:, p], val.codes[:, p], n_codes) for p in places]
    return np.mean(parts, axis=1)


@styled
def per_position(bits: dict[str, np.ndarray], baseline: np.ndarray | None, n_codes: int) -> Figure:
    """Loss of each model by place, with its standard error; grey: each place's codes alone.

    Parameters
    ----------
    bits : model name to float [m, L].
    baseline : [L], or None.
    """
    fig, axes = grid(1, 1, 7.2, 3.8)
    ax = axes[0, 0]
    length = next(iter(bits.values())).shape[1]
    places = np.arange(1, length + 1)
    if baseline is not None:
        ax.step(
            places, baseline, where="mid", color=GREY, lw=1.2, label="codes of each place alone"
        )
    for i, (name, found) in enumerate(bits.items()):
        color, mark, line = (of[i % len(of)] for of in (COLORS, MARKS, LINES))
        mean, error = found.mean(axis=0), found.std(axis=0) / np.sqrt(len(found))
        few = {"marker": mark, "ms": 4} if length <= 64 else {}
        label = f"{name}, mean {mean.mean():.3f}"
        ax.plot(places, mean, color=color, ls=line, lw=1.2, label=label, **few)
        ax.fill_between(places, mean - error, mean + error, color=color, alpha=0.15, lw=0)
    ax.axhline(np.log2(n_codes), color=GREY, lw=0.8, ls=":", label=f"any of {n_codes} codes")
    ax.set(xlabel="position in the sequence", ylabel="loss (bits per token), val split")
    ax.set(title="Held-out loss by position", ylim=(0, None))
    ax.legend(loc="lower left", fontsize=7.5)
    return fig
