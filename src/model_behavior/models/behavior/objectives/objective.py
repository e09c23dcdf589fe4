"""The weighted sum of the terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from model_behavior.models.behavior.objectives.batch import TripletBatch
from model_behavior.models.behavior.objectives.config import ObjectiveConfig
from model_behavior.models.behavior.objectives.mining import mine_triplets
from model_behavior.models.behavior.objectives.recognition import proxy_softmax_loss, supervised_contrastive_loss
from model_behavior.models.behavior.objectives.regularisation import compactness_loss, kl_to_standard_normal
from model_behavior.models.behavior.objectives.triplet import triplet_margin_loss
from model_behavior.models.behavior.objectives.votes import vote_logistic_loss


@final
class Objective(nn.Module):
    """The weighted sum, with the parameters that only training needs.

    Args:
        n_models: number of proxies.
        dim: size of the embedding.
        config: weights.
    """

    def __init__(self, n_models: int, dim: int, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        self.proxies = nn.Parameter(torch.randn(n_models, dim))
        self.quality = nn.Linear(dim, 1, bias=False)

    def forward(self, batch: TripletBatch) -> tuple[torch.Tensor, Mapping[str, float]]:
        """The loss, and each active term before weighting."""
        terms = dict(self._terms(batch))
        total = torch.stack([getattr(self.config, name) * term for name, term in terms.items()]).sum()
        return total, {name: float(term.detach()) for name, term in terms.items()}

    def _terms(self, batch: TripletBatch) -> Iterator[tuple[str, torch.Tensor]]:
        """The active terms, by the name of their weight."""
        config = self.config
        unit = functional.normalize(batch.raw, dim=1)
        if config.triplet:
            yield "triplet", self._triplet_term(unit, batch)
        if config.proxy:
            own = proxy_softmax_loss(unit, self.proxies, batch.model, config.proxy_scale, config.proxy_margin)
            yield "proxy", own
        if config.contrastive:
            yield "contrastive", supervised_contrastive_loss(unit, batch, config.temperature)
        if config.vote:
            yield "vote", self._vote_term(unit, batch)
        if config.compactness:
            yield "compactness", compactness_loss(unit, batch.model)
        if config.kl:
            yield "kl", kl_to_standard_normal(batch.raw)

    def _triplet_term(self, unit: torch.Tensor, batch: TripletBatch) -> torch.Tensor:
        config = self.config
        positive, negative = mine_triplets(unit, batch, config.mining, config.margin, config.distance)
        return triplet_margin_loss(unit[batch.anchor], unit[positive], unit[negative], config.margin, config.distance)

    def _vote_term(self, unit: torch.Tensor, batch: TripletBatch) -> torch.Tensor:
        score = self.config.proxy_scale * self.quality(unit).squeeze(1)
        tied = None
        if self.config.vote_ties:
            tied = score[batch.anchor[batch.tied]], score[batch.positive[batch.tied]]
        return vote_logistic_loss(score[batch.anchor[batch.decided]], score[batch.negative[batch.decided]], tied)

    def quality_direction(self) -> npt.NDArray[np.float32] | None:
        """The learned read-out, [dim]: its product with unit embeddings is log-odds. None with the vote term off."""
        if not self.config.vote:
            return None
        return (self.config.proxy_scale * self.quality.weight.detach()).squeeze(0).numpy()
