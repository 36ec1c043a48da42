"""Sample sequences of codes from a trained GPT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json
from nefgpt.generators.gpt.model import GPT, GPTConfig, context_length
from nefgpt.generators.transformer import KeyValueCache


def load_gpt(directory: str | Path) -> tuple[GPT, dict]:
    """Read the model and the config that `nefgpt.generators.gpt.train` wrote to a folder.

    Returns
    -------
    GPT
        In eval mode, on the GPU when there is one.
    dict
        Content of config.json.
    """
    directory = Path(directory)
    config = read_json(directory / "config.json")
    path = directory / "model.safetensors"
    try:
        model = GPT(GPTConfig(**config["gpt"]))
        model.load_state_dict(load_file(path))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise InputError(
            f"cannot load the GPT in {directory}: {error}; delete the folder and train again"
        ) from error
    return model.to(device()).eval(), config


def _filtered_probabilities(
    logits: Tensor, *, temperature: float, top_k: int | None, top_p: float | None
) -> Tensor:
    """Probabilities float64 [B, n_codes] after temperature, then top-k, then top-p.

    Top-p keeps the smallest set of most probable codes whose mass reaches `top_p`
    (Holtzman et al. 2020, section 3.1).
    """
    logits = logits / temperature  # [B, n_codes]
    order = logits.argsort(dim=-1, descending=True, stable=True)  # [B, n_codes]
    if top_k is not None:
        logits = logits.scatter(-1, order[:, top_k:], -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if top_p is not None:
        ranked = probabilities.gather(-1, order)
        before = ranked.cumsum(dim=-1) - ranked  # mass of the codes ranked higher
        # The most probable code always stays, or rounding could leave nothing.
        before[:, 0] = 0.0
        probabilities = probabilities.scatter(-1, order, ranked.where(before < top_p, 0.0))
    return probabilities


def _choose(
    logits: Tensor,
    uniforms: Tensor,
    n_codes: int,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Tensor:
    """One code for each row by inverse-CDF sampling; int64 [B].

    Parameters
    ----------
    logits : Tensor
        [B, vocab_size].
    uniforms : Tensor
        float64 [B], in [0, 1).
    """
    logits = logits.double().clone()
    logits[:, n_codes:] = -torch.inf  # special tokens are no weights
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = _filtered_probabilities(
        logits, temperature=temperature, top_k=top_k, top_p=top_p
    )
    cumulative = probabilities.cumsum(dim=-1)  # [B, V]
    # A parallel cumsum need not be exactly flat over codes of probability 0: leave them out.
    hit = (cumulative > uniforms[:, None] * cumulative[:, -1:]) & (probabilities > 0)
    first = hit.int().argmax(dim=-1)
    return first.where(hit.any(dim=-1), probabilities.argmax(dim=-1))


def _check(
    model: GPT,
    n: int,
    sequence_length: int,
    n_codes: int,
    top_k: int | None,
    top_p: float | None,
    temperature: float,
    guidance: float | None,
    prefix: np.ndarray,
    begin: np.ndarray,
    batch_size: int,
) -> None:
    """Raise InputError naming the first argument that cannot be."""
    config = model.config
    n_prefix = prefix.shape[1]
    needed = context_length(sequence_length, n_prefix)
    for wrong, message in (
        (n < 0, f"n must be at least 0, got {n}"),
        (batch_size < 1, f"batch_size must be at least 1, got {batch_size}"),
        (sequence_length < 1, f"sequence_length must be at least 1, got {sequence_length}"),
        (
            not 1 <= n_codes < config.vocab_size,
            f"n_codes must be in 1..{config.vocab_size - 1} (this model's), got {n_codes}",
        ),
        (top_k is not None and top_k < 1, f"top_k must be at least 1 or null, got {top_k}"),
        (
            top_p is not None and not 0 < top_p <= 1,
            f"top_p must be in (0, 1] or null, got {top_p}",
        ),
        (
            not (np.isfinite(temperature) and temperature >= 0),
            f"temperature must be at least 0, got {temperature}",
        ),
        (
            not n_prefix or (prefix < 0).any() or (prefix >= config.vocab_size).any(),
            f"prefix must be tokens of 0..{config.vocab_size - 1}, at least one, got {prefix}",
        ),
        (
            len(begin) >= sequence_length,
            f"{len(begin)} codes are given and a sequence has {sequence_length}: give at most "
            f"{sequence_length - 1}",
        ),
        (
            (begin < 0).any() or (begin >= n_codes).any(),
            f"codes to begin with must be in 0..{n_codes - 1}, got {begin}",
        ),
        (
            guidance is not None and not (np.isfinite(guidance) and guidance >= 0),
            f"guidance must be at least 0 or null, got {guidance}",
        ),
        (
            guidance is not None and n_prefix < 2,
            "guidance is for models with classes, and this one has none: set it to null",
        ),
        (
            needed > config.context,
            f"{n_prefix} prefix tokens and {sequence_length} codes need a context of {needed}, "
            f"this model has {config.context}",
        ),
    ):
        if wrong:
            raise InputError(message)


@computing()
@torch.inference_mode()
def generate(
    model: GPT,
    n: int,
    sequence_length: int,
    n_codes: int,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    temperature: float = 1.0,
    guidance: float | None = None,
    seed: int = 0,
    prefix: Sequence[int] | np.ndarray | None = None,
    begin: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Sample `n` sequences of codes.

    Sample i draws from its own generator, seeded by (seed, i): asking for more samples or
    another batch size leaves it as it is (up to rounding of the logits).

    Parameters
    ----------
    top_k, top_p : optional
        Keep the k most probable codes; keep the most probable codes up to mass p.
    temperature : float
        0 takes the most probable code every time.
    guidance : float, optional
        Classifier-free guidance (Ho and Salimans 2022) for a model trained with `class_dropout`:
        the logits are moved from those without a class to `guidance` times as far as those with
        the class are; 1 changes nothing.
    prefix : ints [P] or [n, P], optional
        Special tokens to begin with, for all samples or for each; [SOS] when not given.
    begin : ints [K], optional
        Codes that follow them in all samples. What follows is drawn as it is without: a sample
        that begins with its own codes stays as it is.

    Returns
    -------
    ndarray
        uint16 [n, sequence_length], codes only.
    """
    prefix = np.asarray([n_codes] if prefix is None else prefix, np.int64)
    prefix = np.broadcast_to(np.atleast_2d(prefix), (n, prefix.shape[-1]))
    begin = np.asarray([] if begin is None else begin, np.int64)
    filters = top_k, top_p, temperature, guidance
    _check(model, n, sequence_length, n_codes, *filters, prefix, begin, batch_size)
    model.eval()
    weight, known = model.token.weight, len(begin)
    codes = np.zeros((n, sequence_length), dtype=np.uint16)
    with tqdm(
        total=n * (sequence_length - known), desc="sample", unit="token", unit_scale=True
    ) as bar:
        for start in range(0, n, batch_size):
            stop = min(start + batch_size, n)
            draws = [
                np.random.default_rng((seed, i)).random(sequence_length) for i in range(start, stop)
            ]
            uniforms = torch.from_numpy(np.stack(draws)).to(weight.device)  # [B, L]
            cache = KeyValueCache(model.config, stop - start, weight.device, weight.dtype)
            batch = torch.empty(uniforms.shape, dtype=torch.int64, device=weight.device)
            batch[:, :known] = torch.from_numpy(begin).to(weight.device)
            special = torch.tensor(prefix[start:stop], device=weight.device)  # [B, P]
            tokens = torch.cat([special, batch[:, :known]], dim=1)  # [B, P + K]
            if guidance is not None:
                free_cache = KeyValueCache(model.config, stop - start, weight.device, weight.dtype)
                no_class = tokens.clone()
                no_class[:, : special.shape[1]] = n_codes  # as class_dropout trains it
            for position in range(known, sequence_length):
                logits = model(tokens, cache)[:, -1]  # [B, V]
                if guidance is not None:
                    free = model(no_class if position == known else tokens, free_cache)[:, -1]
                    logits = free + guidance * (logits - free)
                batch[:, position] = _choose(
                    logits,
                    uniforms[:, position],
                    n_codes,
                    temperature=temperature,
                    top_k=top_k,
                    top_p=top_p,
                )
                tokens = batch[:, position : position + 1]  # [B, 1]
                bar.update(stop - start)
            codes[start:stop] = batch.cpu().numpy()
    return codes
