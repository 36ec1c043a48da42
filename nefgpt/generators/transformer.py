"""The decoder-only transformer that models sequences of weight codes.

GPT-2 (Radford et al. 2019) as in the NeF-GPT report: pre-norm blocks, learned positions, GELU
MLP of four times the width, output head tied to the token embedding.

Tokens 0..n_codes-1 are codes, n_codes is SOS, class tokens follow. A sequence of L codes after a
prefix of P special tokens is read as the L + P - 1 inputs [prefix, code_1, ..., code_{L-1}].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BETAS = 0.9, 0.95  # of Adam, for every decoder: GPT-3's (Brown et al. 2020)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Size of a decoder; `context` is the number of input positions."""

    context: int
    embedding: int
    heads: int
    layers: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "dropout" and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is not a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


class KeyValueCache:
    """Keys and values of the positions read so far, for decoding one token at a time.

    Attributes
    ----------
    keys, values : Tensor
        [layers, B, heads, context, embedding / heads], allocated once.
    length : int
        Number of positions filled.
    """

    def __init__(
        self,
        config: DecoderConfig,
        batch: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        width = config.embedding // config.heads
        shape = (config.layers, batch, config.heads, config.context, width)
        self.keys = torch.empty(shape, device=device, dtype=dtype)  # [N, B, H, C, D]
        self.values = torch.empty(shape, device=device, dtype=dtype)  # [N, B, H, C, D]
        self.length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, heads, T, D] after the filled positions; return all keys and values so far."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


def dropout(x: Tensor, p: float) -> Tensor:
    """Numbers zeroed with probability `p`, to 16 bits, and the others made larger by as much.

    PyTorch's own draws each number on a CPU for as long as a block needs to multiply with it.
    """
    if not p:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    # Four of 16 bits in one draw. Floats are compared many at a time, integers one by one.
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    zeros = int(p * 2**16)
    kept = bits.to(torch.float32).ge_(zeros - 2**15).mul_(1 / (1 - zeros / 2**16))
    return x * kept.to(x.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, p: float) -> Tensor:
    """Causal attention with dropout on a CPU, all [B, H, T, D].

    What `scaled_dot_product_attention` computes there in twice the time, since its fast way knows
    no dropout.
    """
    shape = query.shape
    query, key, value = (x.reshape(-1, *shape[2:]) for x in (query, key, value))  # [B * H, T, D]
    future = query.new_full((shape[2], shape[2]), -torch.inf).triu(1)
    scores = torch.baddbmm(future, query, key.transpose(1, 2), alpha=shape[3] ** -0.5)
    return torch.bmm(dropout(scores.softmax(dim=-1), p), value).view(shape)


class _Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.embedding, 3 * config.embedding)
        self.projection = nn.Linear(config.embedding, config.embedding)

    def forward(self, x: Tensor, layer: int, cache: KeyValueCache | None) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, T, D]
        past = 0
        if cache is not None:
            past = cache.length
            key, value = cache.extend(layer, key, value)  # [B, H, past + T, D]
        p = self.dropout if self.training else 0.0
        if p and cache is None and x.device.type == "cpu":
            # One copy for all three, where each would be copied.
            y = _attend(*qkv.permute(2, 0, 3, 1, 4).contiguous(), p)
            return self.projection(y.transpose(1, 2).reshape(batch, length, width))
        mask = None
        if past and length > 1:
            # is_causal aligns the mask to the top left, which is wrong once there is a past.
            ones = torch.ones(length, past + length, dtype=torch.bool, device=x.device)
            mask = ones.tril(past)  # [T, past + T]
        y = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=p,
            is_causal=not past and length > 1,
        )  # [B, H, T, D]
        return self.projection(y.transpose(1, 2).reshape(batch, length, width))


class _Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.embedding
        self.norm_attention = nn.LayerNorm(width)
        self.attention = _Attention(config)
        self.norm_mlp = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = config.dropout

    def forward(self, x: Tensor, layer: int, cache: KeyValueCache | None) -> Tensor:
        p = self.dropout if self.training else 0.0
        x = x + dropout(self.attention(self.norm_attention(x), layer, cache), p)
        # Not GPT-2's approximation by a tanh, which a CPU takes three times as long for.
        hidden = F.gelu(self.expand(self.norm_mlp(x)))
        return x + dropout(self.contract(hidden), p)


class Decoder(nn.Module):
    """Positions, blocks and final norm, whatever the positions hold.

    Parameters
    ----------
    ends : the layers that read inputs in and predictions out, by name.
    """

    def __init__(self, config: DecoderConfig, **ends: nn.Module) -> None:
        super().__init__()
        self.config = config
        for name, layer in ends.items():
            self.add_module(name, layer)
        self.position = nn.Embedding(config.context, config.embedding)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.embedding)
        # GPT-2's 0.02 suits its width of 768; in a narrow model it is so flat that relations
        # between tokens are found very late.
        self.std = 0.02 * math.sqrt(768 / config.embedding)
        self.apply(self._initialise)
        # GPT-2 section 2.3: residual projections shrink with depth, so that the residual
        # stream's variance does not grow with the number of layers.
        for block in self.blocks:
            for linear in (block.attention.projection, block.contract):
                nn.init.normal_(linear.weight, std=self.std / math.sqrt(2 * config.layers))

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def decode(self, embedded: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Hidden state at every position, each seeing itself and those before it.

        Parameters
        ----------
        embedded : Tensor
            float [B, T, embedding]; with a cache, the T positions after those the cache holds.
        cache : KeyValueCache, optional
            Extended in place by T positions.

        Returns
        -------
        Tensor
            float [B, T, embedding].
        """
        past = cache.length if cache is not None else 0
        length = embedded.shape[1]
        if past + length > self.config.context:
            raise ValueError(
                f"{past + length} positions exceed the context of {self.config.context}"
            )
        x = embedded + self.position.weight[past : past + length]  # [B, T, E]
        x = dropout(x, self.config.dropout if self.training else 0.0)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache)
        if cache is not None:
            cache.length = past + length
        return self.norm(x)

    def n_parameters(self) -> int:
        """Number of trained numbers; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
