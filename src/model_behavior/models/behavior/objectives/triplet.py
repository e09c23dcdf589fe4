"""The triplet term: positives nearer to the anchor than negatives."""

from __future__ import annotations

import torch
from torch.nn import functional

from model_behavior.models.behavior.objectives.config import Distance


def distance_between(left: torch.Tensor, right: torch.Tensor, distance: Distance) -> torch.Tensor:
    """Distance of unit vectors, row by row: 1 - cosine in [0, 2], or Euclidean in [0, 2]. [n, dim] x 2 to [n]."""
    if distance == "cosine":
        return 1 - (left * right).sum(dim=-1)
    return functional.pairwise_distance(left, right)


def triplet_margin_loss(
    anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float, distance: Distance
) -> torch.Tensor:
    """T = mean max(0, d(a, p) - d(a, n) + margin) (Schroff et al. 2015, FaceNet). [n, dim] x 3 to a scalar."""
    near, far = distance_between(anchor, positive, distance), distance_between(anchor, negative, distance)
    return functional.relu(near - far + margin).mean()
