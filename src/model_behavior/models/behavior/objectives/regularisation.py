"""Terms that shape the cloud of embeddings as a whole."""

from __future__ import annotations

import torch


def compactness_loss(unit: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """C = mean |z - mean of the batch's z of the same model|^2 (Wen et al. 2016, with the batch's centres).

    [n, dim] and [n] to a scalar.
    """
    _, member = torch.unique(model, return_inverse=True)
    counts = torch.bincount(member).unsqueeze(1)
    centres = unit.new_zeros(len(counts), unit.shape[1]).index_add(0, member, unit) / counts
    return (unit - centres[member]).square().sum(dim=1).mean()


def kl_to_standard_normal(raw: torch.Tensor) -> torch.Tensor:
    """K = mean over dimensions of KL(N(m, v) || N(0, 1)) = (v + m^2 - 1 - log v) / 2, m and v of the batch.

    The prior of a variational auto-encoder (Kingma and Welling 2014), put on the batch as a whole, since the
    encoder is deterministic. [n, dim] to a scalar; 0 for fewer than two rows.
    """
    if len(raw) < 2:
        return raw.sum() * 0
    mean, variance = raw.mean(dim=0), raw.var(dim=0, correction=0).clamp(min=1e-8)
    return (variance + mean.square() - 1 - variance.log()).mean() / 2
