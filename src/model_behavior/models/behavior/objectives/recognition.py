"""Terms by which pairs of one model are recognised: proxies, and contrast within the batch."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from model_behavior.models.behavior.objectives.batch import TripletBatch

_SMALLEST_SQUARED_SINE = 1e-6  # keeps the gradient finite for a pair on its own proxy


def proxy_softmax_loss(
    unit: torch.Tensor, proxies: torch.Tensor, model: torch.Tensor, scale: float, margin: float = 0.0
) -> torch.Tensor:
    """P = -mean log( exp(s cos(t_m + margin)) / (exp(s cos(t_m + margin)) + sum over k != m of exp(s cos t_k)) ).

    t_k is the angle between z and proxy k, m the pair's own model and s the scale. Margin 0 is the normalised softmax
    (Zhai and Wu 2019); above 0 it is ArcFace (Deng et al. 2019, additive angular margin): a pair must be nearer to its
    proxy by that angle. Where t_m + margin would pass pi, cos(t_m) - margin sin(margin) stands for the cosine, so that
    the loss keeps growing with the angle.

    Args:
        unit: [n, dim].
        proxies: one per model, [n_models, dim], any length.
        model: the model of each row, [n].
        scale: inverse temperature.
        margin: radians, in [0, pi / 2).
    """
    cosine = unit @ functional.normalize(proxies, dim=1).T
    if margin:
        own = cosine.gather(1, model.unsqueeze(1))
        sine = (1 - own.square()).clamp(min=_SMALLEST_SQUARED_SINE).sqrt()
        moved = own * math.cos(margin) - sine * math.sin(margin)
        moved = torch.where(own > -math.cos(margin), moved, own - margin * math.sin(margin))
        cosine = cosine.scatter(1, model.unsqueeze(1), moved)
    return functional.cross_entropy(scale * cosine, model)


def supervised_contrastive_loss(unit: torch.Tensor, batch: TripletBatch, temperature: float) -> torch.Tensor:
    """S = mean over i of -1/|P(i)| sum over p in P(i) of log( exp(z_i.z_p / t) / sum over A(i) of exp(z_i.z_a / t) ).

    L_out of Khosla et al. 2020 (supervised contrastive learning), over the distinct pairs of the batch. P(i) are pairs
    of the same model on other prompts with other texts; A(i) are these and pairs of other models with other texts,
    on any prompt. So neither a common topic nor an equal text ever pulls, and an equal text of another model never
    pushes. The mean is over pairs with a positive, 0 where there is none.

    Args:
        unit: [n_pairs, dim].
        batch: model, prompt and text of each row.
        temperature: t, above 0.
    """
    same_model = batch.model.unsqueeze(1) == batch.model
    other_text = batch.text.unsqueeze(1) != batch.text
    positive = same_model & other_text & (batch.prompt.unsqueeze(1) != batch.prompt)
    candidate = positive | (~same_model & other_text)
    counted = positive.any(dim=1)
    if not counted.any():
        return unit.sum() * 0
    positive, candidate = positive[counted], candidate[counted]
    similarity = unit[counted] @ unit.T / temperature
    log_share = similarity - similarity.masked_fill(~candidate, -torch.inf).logsumexp(dim=1, keepdim=True)
    return -((log_share * positive).sum(dim=1) / positive.sum(dim=1)).mean()
