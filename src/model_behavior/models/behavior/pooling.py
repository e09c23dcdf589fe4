"""From one vector per token to one vector per text."""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import torch
from torch import nn

PoolingMode: TypeAlias = Literal["mean", "cls", "max"]
POOLING_MODES: tuple[PoolingMode, ...] = ("mean", "cls", "max")


@final
class Pooling(nn.Module):
    """Aggregates token embeddings; padding never counts.

    Args:
        mode: "mean" over the tokens, "cls" for the first token, "max" per dimension.
    """

    def __init__(self, mode: PoolingMode = "mean") -> None:
        super().__init__()
        if mode not in POOLING_MODES:
            raise ValueError(f"pooling mode {mode!r} is not one of {', '.join(POOLING_MODES)}")
        self.mode = mode

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pools one batch.

        Args:
            tokens: [n_texts, n_tokens, dim].
            mask: 1 for a token, 0 for padding, [n_texts, n_tokens]. Every text has at least one token, and
                its first token comes first.

        Returns:
            [n_texts, dim].
        """
        if self.mode == "cls":
            return tokens[:, 0]
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        if self.mode == "max":
            return tokens.masked_fill(weights == 0, float("-inf")).amax(dim=1)
        return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
