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


@dataclass(frozen=True)
class GPTConfig:
    """Size of a GPT; `context` is the number of input positions."""

    vocab_size: int
    context: int
    embedding: int
    heads: int
    layers: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "embedding", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is not a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


def context_length(n_codes_in_sequence: int, prefix_length: int = 1) -> int:
    """Input positions for a sequence of codes: the last code is predicted but never read.

    The report's airplanes: 3712 codes after SOS give 3712; its digits: 561 codes after SOS and a
    class token give 562.
    """
    return n_codes_in_sequence + prefix_length - 1


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
        config: GPTConfig,
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


class _Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: GPTConfig) -> None:
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
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=not past and length > 1,
        )  # [B, H, T, D]
        return self.projection(y.transpose(1, 2).reshape(batch, length, width))


class _Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.embedding
        self.norm_attention = nn.LayerNorm(width)
        self.attention = _Attention(config)
        self.norm_mlp = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layer: int, cache: KeyValueCache | None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), layer, cache))
        hidden = F.gelu(self.expand(self.norm_mlp(x)), approximate="tanh")
        return x + self.dropout(self.contract(hidden))


class GPT(nn.Module):
    """Decoder-only transformer over codes and special tokens."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.embedding)
        self.position = nn.Embedding(config.context, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.embedding)
        self.apply(self._initialise)
        # GPT-2 section 2.3: residual projections shrink with depth, so that the residual
        # stream's variance does not grow with the number of layers.
        for block in self.blocks:
            for linear in (block.attention.projection, block.contract):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * config.layers))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits of the next token at every position.

        Parameters
        ----------
        tokens : Tensor
            int64 [B, T]; with a cache, the T tokens after those the cache already holds.
        cache : KeyValueCache, optional
            Extended in place by T positions.

        Returns
        -------
        Tensor
            float [B, T, vocab_size].
        """
        past = cache.length if cache is not None else 0
        length = tokens.shape[1]
        if past + length > self.config.context:
            raise ValueError(f"{past + length} tokens exceed the context of {self.config.context}")
        positions = self.position.weight[past : past + length]  # [T, E]
        x = self.dropout(self.token(tokens) + positions)  # [B, T, E]
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache)
        if cache is not None:
            cache.length = past + length
        return F.linear(self.norm(x), self.token.weight)  # [B, T, V], head tied to the embedding

    def n_parameters(self) -> int:
        """Number of trained numbers; the tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
