"""What stage 1 minimises. Every term is a function of embeddings alone, apart from encoding.

The loss of a batch is

    L = w_triplet T + w_proxy P + w_vote V + w_compactness C + w_kl K

with unit embeddings z, raw embeddings h (z = h / |h|), and the terms given at each function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from model_behavior.errors import UsageError

Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms, 0 for off.

    Attributes:
        distance: of the triplet term.
        margin: of the triplet term, in units of `distance`.
        triplet: weight of `triplet_margin_loss`.
        proxy: weight of `proxy_softmax_loss`.
        vote: weight of `vote_logistic_loss`.
        compactness: weight of `compactness_loss`.
        kl: weight of `kl_to_standard_normal`.
        proxy_scale: inverse temperature of the proxy softmax, and scale of the vote term's read-out.
    """

    distance: Distance = "euclidean"
    margin: float = 0.5
    triplet: float = 1.0
    proxy: float = 0.2
    vote: float = 0.1
    compactness: float = 0.0
    kl: float = 0.0
    proxy_scale: float = 16.0

    def __post_init__(self) -> None:
        weights = (self.triplet, self.proxy, self.vote, self.compactness, self.kl)
        if min(weights) < 0 or not any(weights):
            raise UsageError(
                f"weights triplet={self.triplet}, proxy={self.proxy}, vote={self.vote}, compactness="
                f"{self.compactness}, kl={self.kl}: none may be negative, and one must be above 0"
            )
        if self.distance not in ("cosine", "euclidean"):
            raise UsageError(f"distance {self.distance!r}: allowed are cosine and euclidean")


@dataclass(frozen=True, eq=False)
class TripletBatch:
    """One batch, whose pairs are encoded once each.

    Attributes:
        raw: raw embeddings of the batch's distinct pairs, [n_pairs, dim].
        anchor: index into `raw`, [n_triplets]; `positive` and `negative` likewise.
        decided: whether the anchor won and the negative lost one decided vote, [n_triplets].
        model: model index of each distinct pair, [n_pairs].
    """

    raw: torch.Tensor
    anchor: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    decided: torch.Tensor
    model: torch.Tensor


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


def proxy_softmax_loss(unit: torch.Tensor, proxies: torch.Tensor, model: torch.Tensor, scale: float) -> torch.Tensor:
    """P = -mean log softmax(scale z . c)_m, c the unit proxies (Zhai and Wu 2019, normalised softmax).

    Args:
        unit: [n, dim].
        proxies: one per model, [n_models, dim], any length.
        model: the model of each row, [n].
        scale: inverse temperature.
    """
    return functional.cross_entropy(scale * unit @ functional.normalize(proxies, dim=1).T, model)


def vote_logistic_loss(winner: torch.Tensor, loser: torch.Tensor) -> torch.Tensor:
    """V = mean log(1 + exp(s_loser - s_winner)) over scores [n] (Bradley and Terry 1952); 0 without votes."""
    return functional.softplus(loser - winner).mean() if len(winner) else winner.sum()


def compactness_loss(unit: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """C = mean |z - mean of the batch's z of the same model|^2 (Wen et al. 2016, with the batch's centres)."""
    _, member = torch.unique(model, return_inverse=True)
    counts = torch.bincount(member).unsqueeze(1)
    centres = torch.zeros(len(counts), unit.shape[1]).index_add(0, member, unit) / counts
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
        config = self.config
        unit = functional.normalize(batch.raw, dim=1)
        terms: dict[str, tuple[float, torch.Tensor]] = {}
        if config.triplet:
            triplet = (unit[batch.anchor], unit[batch.positive], unit[batch.negative])
            terms["triplet"] = config.triplet, triplet_margin_loss(*triplet, config.margin, config.distance)
        if config.proxy:
            loss = proxy_softmax_loss(unit, self.proxies, batch.model, config.proxy_scale)
            terms["proxy"] = config.proxy, loss
        if config.vote:
            score = config.proxy_scale * self.quality(unit).squeeze(1)
            winner, loser = batch.anchor[batch.decided], batch.negative[batch.decided]
            terms["vote"] = config.vote, vote_logistic_loss(score[winner], score[loser])
        if config.compactness:
            terms["compactness"] = config.compactness, compactness_loss(unit, batch.model)
        if config.kl:
            terms["kl"] = config.kl, kl_to_standard_normal(batch.raw)
        total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return total, {name: float(term.detach()) for name, (_, term) in terms.items()}

    def quality_direction(self) -> npt.NDArray[np.float32] | None:
        """The learned read-out, [dim]: its product with unit embeddings is log-odds. None with the vote term off."""
        if not self.config.vote:
            return None
        return (self.config.proxy_scale * self.quality.weight.detach()).squeeze(0).numpy()
