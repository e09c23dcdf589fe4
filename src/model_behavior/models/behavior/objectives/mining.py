"""Harder positives and negatives for the triplet term, chosen among the pairs of the batch.

What is mined is bound by the rules that bind what is sampled. Only triplets whose positive is of the anchor's own
model are mined: where the positive is another model's, the votes alone say what lies farther, so those keep both sides.

- A negative is on the anchor's prompt, of another model, with a text that is neither the anchor's nor the positive's.
  It is no pair that another triplet of the batch pulls to the anchor, as the other side of a tie is. Another prompt's
  pairs are never mined: they would teach the encoder topics. The triplet's own negative is always a candidate.
- A positive is of the anchor's model, on another prompt, with a text that is neither the anchor's nor the negative's.
  It is anchor or positive of some triplet of the batch, since a response that a both_bad vote condemned is none. The
  triplet's own positive is always a candidate.
"""

from __future__ import annotations

import torch

from model_behavior.models.behavior.objectives.batch import TripletBatch
from model_behavior.models.behavior.objectives.config import Distance, Mining


def mine_triplets(
    unit: torch.Tensor, batch: TripletBatch, mining: Mining, margin: float, distance: Distance
) -> tuple[torch.Tensor, torch.Tensor]:
    """The positive and the negative of every triplet, as indices into the batch's pairs.

    With d the distance to the anchor a, p and n the triplet's own positive and negative, N and P the candidates:

        batch-hard (Hermans et al. 2017)    n' = argmin over N of d(a, n'),  p' = argmax over P of d(a, p')
        semi-hard (Schroff et al. 2015)     n' = argmin over N with d(a, p) < d(a, n') < d(a, p) + margin, or n where
                                            no candidate is that far;  p' = p

    Args:
        unit: unit embeddings of the batch's pairs, [n_pairs, dim].
        batch: its triplets, and who answered what.
        mining: "none" gives back the triplets' own.
        margin: in units of `distance`.
        distance: of the triplet term.

    Returns:
        Positive and negative, [n_triplets] each.
    """
    if mining == "none":
        return batch.positive, batch.negative
    row = torch.arange(len(batch.anchor), device=unit.device)
    far = _distances_to_all(unit.detach(), batch.anchor, distance)
    candidates = _negative_candidates(batch)
    if mining == "semi-hard":
        near = far[row, batch.positive].unsqueeze(1)
        candidates &= (far > near) & (far < near + margin)
        hardest = far.masked_fill(~candidates, torch.inf).argmin(dim=1)
        return batch.positive, torch.where(candidates.any(dim=1), hardest, batch.negative)
    negative = far.masked_fill(~candidates, torch.inf).argmin(dim=1)
    positive = far.masked_fill(~_positive_candidates(batch, negative), -torch.inf).argmax(dim=1)
    return positive, negative


def _distances_to_all(unit: torch.Tensor, anchor: torch.Tensor, distance: Distance) -> torch.Tensor:
    """[n_pairs, dim] and [n_triplets] to [n_triplets, n_pairs]."""
    cosine_distance = 1 - unit[anchor] @ unit.T
    return cosine_distance if distance == "cosine" else (2 * cosine_distance).clamp(min=0).sqrt()


def _negative_candidates(batch: TripletBatch) -> torch.Tensor:
    """Which pair may be which triplet's negative, [n_triplets, n_pairs]."""
    anchor = batch.anchor
    pulled = torch.zeros(len(batch.model), len(batch.model), dtype=torch.bool, device=anchor.device)
    pulled[anchor, batch.positive] = pulled[batch.positive, anchor] = True
    allowed = (
        _of_own_model(batch).unsqueeze(1)
        & (batch.prompt[anchor].unsqueeze(1) == batch.prompt)
        & (batch.model[anchor].unsqueeze(1) != batch.model)
        & (batch.text[anchor].unsqueeze(1) != batch.text)
        & (batch.text[batch.positive].unsqueeze(1) != batch.text)
        & ~pulled[anchor]
    )
    return allowed.scatter(1, batch.negative.unsqueeze(1), True)


def _positive_candidates(batch: TripletBatch, negative: torch.Tensor) -> torch.Tensor:
    """Which pair may be which triplet's positive beside that negative, [n_triplets, n_pairs]."""
    anchor = batch.anchor
    good = torch.zeros(len(batch.model), dtype=torch.bool, device=anchor.device)
    good[anchor] = good[batch.positive] = True
    allowed = (
        good
        & _of_own_model(batch).unsqueeze(1)
        & (batch.prompt[anchor].unsqueeze(1) != batch.prompt)
        & (batch.model[anchor].unsqueeze(1) == batch.model)
        & (batch.text[anchor].unsqueeze(1) != batch.text)
        & (batch.text[negative].unsqueeze(1) != batch.text)
    )
    return allowed.scatter(1, batch.positive.unsqueeze(1), True)


def _of_own_model(batch: TripletBatch) -> torch.Tensor:
    """Whether a triplet's positive is of the anchor's model, [n_triplets]."""
    return batch.model[batch.anchor] == batch.model[batch.positive]
