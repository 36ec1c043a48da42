"""The transformer over weight codes: a decoder with tied token embedding and head."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nefgpt.generators.transformer import Decoder, DecoderConfig, KeyValueCache


@dataclass(frozen=True, kw_only=True)
class GPTConfig(DecoderConfig):
    """Size of a GPT."""

    vocab_size: int


def context_length(n_codes_in_sequence: int, prefix_length: int = 1) -> int:
    """Input positions for a sequence of codes: the last code is predicted but never read.

    The report's airplanes: 3712 codes after SOS give 3712; its digits: 561 codes after SOS and a
    class token give 562.
    """
    return n_codes_in_sequence + prefix_length - 1


class GPT(Decoder):
    """Decoder-only transformer over codes and special tokens."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config, token=nn.Embedding(config.vocab_size, config.embedding))

    @torch.no_grad()
    def order_codes(self, n_codes: int) -> None:
        """Start the embeddings of codes 0..n_codes-1 as smooth functions of their place.

        Codes ascend, so neighbours stand for nearly the same weight; from independent embeddings
        a model has to find that out code by code. Random mixtures of a line and cosines, high
        frequencies damped, at the deviation of all other embeddings.
        """
        place = (torch.arange(n_codes) + 0.5) / n_codes
        frequency = torch.arange(1, 9)
        waves = torch.cos(math.pi * place[:, None] * frequency) / frequency  # [n_codes, 8]
        features = torch.cat([3 * (place[:, None] - 0.5), waves], dim=1)
        mixed = features @ torch.randn(features.shape[1], self.config.embedding)
        self.token.weight[:n_codes] = (mixed / mixed.std() * self.std).to(self.token.weight)

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
        hidden = self.decode(self.token(tokens), cache)  # [B, T, E]
        return F.linear(hidden, self.token.weight)  # [B, T, V], head tied to the embedding
