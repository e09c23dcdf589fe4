"""What the terms of the loss are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class TripletBatch:
    """One batch, whose pairs are encoded once each.

    Attributes:
        raw: raw embeddings of the batch's distinct pairs, [n_pairs, dim].
        anchor: index into `raw`, [n_triplets]; `positive` and `negative` likewise.
        decided: whether the anchor won and the negative lost one decided vote, [n_triplets].
        tied: whether anchor and positive are the two sides of one tied vote, [n_triplets].
        model: model index of each distinct pair, [n_pairs].
        prompt: id of its prompt, [n_pairs].
        text: id of its response, equal for equal texts, [n_pairs].
    """

    raw: torch.Tensor
    anchor: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    decided: torch.Tensor
    tied: torch.Tensor
    model: torch.Tensor
    prompt: torch.Tensor
    text: torch.Tensor
