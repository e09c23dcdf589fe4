"""The objective of stage 1: a weighted sum of terms, each a function of embeddings alone.

The loss of a batch is

    L = w_triplet T + w_proxy P + w_contrastive S + w_vote V + w_compactness C + w_kl K

over raw embeddings h and unit embeddings z = h / |h|. The weights w are those of `ObjectiveConfig`; each
term's function has its equation. A term of weight 0 is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, final, get_args

import torch
from torch import nn
from torch.nn import functional

from model_behavior.arrays import Float32Array
from model_behavior.errors import ArtifactError, UsageError

Distance = Literal["cosine", "euclidean"]

_REMOVED: Final[Mapping[str, object]] = {"mining": "none", "proxy_margin": 0.0, "vote_ties": False}
"""Settings of earlier releases, and the value at which each was off (decision 0017)."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms, 0 for off, and their settings.

    Attributes:
        distance: distance of the triplet term.
        margin: margin of the triplet term, in units of `distance`.
        triplet: weight of `triplet_margin_loss`.
        proxy: weight of `proxy_softmax_loss`.
        vote: weight of `vote_logistic_loss`.
        compactness: weight of `compactness_loss`.
        kl: weight of `kl_to_standard_normal`.
        proxy_scale: inverse temperature of the proxy softmax, and scale of the vote term's read-out.
        contrastive: weight of `supervised_contrastive_loss`.
        temperature: temperature of the contrastive term, above 0.
    """

    distance: Distance = "euclidean"
    margin: float = 0.5
    triplet: float = 1.0
    proxy: float = 0.2
    vote: float = 0.1
    compactness: float = 0.0
    kl: float = 0.0
    proxy_scale: float = 16.0
    contrastive: float = 0.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        names = ("triplet", "proxy", "contrastive", "vote", "compactness", "kl")
        weights = {name: float(getattr(self, name)) for name in names}
        if not all(0 <= weight < math.inf for weight in weights.values()) or not any(weights.values()):
            shown = ", ".join(f"{name}={weight:g}" for name, weight in weights.items())
            raise UsageError(f"weights {shown}: none may be negative or infinite, and one must be above 0")
        if self.distance not in get_args(Distance):
            raise UsageError(f"distance {self.distance!r}: allowed are cosine and euclidean")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature={self.temperature}: a finite number above 0 is needed")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`; reads values saved by earlier releases, too.

        Raises:
            ArtifactError: the values use a setting that this release no longer has.
        """
        for name, off in _REMOVED.items():
            if values.get(name, off) != off:
                raise ArtifactError(
                    f"the encoder was trained with {name}={values[name]!r}, which this release no longer has; it reads "
                    f"{name}={off!r} alone. Fix: train it again"
                )
        return cls(**{name: value for name, value in values.items() if name not in _REMOVED})


@dataclass(frozen=True, eq=False)
class TripletBatch:
    """One batch, whose pairs are encoded once each.

    Attributes:
        raw: raw embeddings of the batch's distinct pairs, [n_pairs, dim].
        anchor: index into `raw`, [n_triplets]; `positive` and `negative` likewise.
        decided: True if the anchor won and the negative lost one decided vote, [n_triplets].
        model: model index of each distinct pair, [n_pairs].
        prompt: id of its prompt, [n_pairs].
        text: id of its response, equal for equal texts, [n_pairs].
    """

    raw: torch.Tensor
    anchor: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    decided: torch.Tensor
    model: torch.Tensor
    prompt: torch.Tensor
    text: torch.Tensor


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
    """P = -mean log( exp(s cos(z, w_m)) / sum over k of exp(s cos(z, w_k)) ) (Zhai and Wu 2019, normalised softmax).

    m is the pair's own model, w_k the proxy of model k, and s the scale.

    Args:
        unit: unit embeddings, [n, dim].
        proxies: proxies of the models, [n_models, dim], of any length.
        model: model of each row, [n].
        scale: inverse temperature.
    """
    return functional.cross_entropy(scale * (unit @ functional.normalize(proxies, dim=1).T), model)


def supervised_contrastive_loss(unit: torch.Tensor, batch: TripletBatch, temperature: float) -> torch.Tensor:
    """S = mean over i of -1/|P(i)| sum over p in P(i) of log( exp(z_i.z_p / t) / sum over A(i) of exp(z_i.z_a / t) ).

    L_out of Khosla et al. 2020 (supervised contrastive learning), over the distinct pairs of the batch. P(i) are pairs
    of the same model on other prompts with other texts; A(i) are these and pairs of other models with other texts,
    on any prompt. So neither a common topic nor an equal text ever pulls, and an equal text of another model never
    pushes. The mean is over pairs with a positive, 0 where there is none.

    Args:
        unit: unit embeddings, [n_pairs, dim].
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


def vote_logistic_loss(winner: torch.Tensor, loser: torch.Tensor) -> torch.Tensor:
    """V = mean log(1 + exp(s_loser - s_winner)) (Bradley and Terry 1952).

    Args:
        winner: score (log-odds) of the winning side of each decided vote, [n].
        loser: score of the other side, [n].

    Returns:
        A scalar, 0 without votes.
    """
    return functional.softplus(loser - winner).sum() / max(len(winner), 1)


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
            yield "proxy", proxy_softmax_loss(unit, self.proxies, batch.model, config.proxy_scale)
        if config.contrastive:
            yield "contrastive", supervised_contrastive_loss(unit, batch, config.temperature)
        if config.vote:
            yield "vote", self._vote_term(unit, batch)
        if config.compactness:
            yield "compactness", compactness_loss(unit, batch.model)
        if config.kl:
            yield "kl", kl_to_standard_normal(batch.raw)

    def _triplet_term(self, unit: torch.Tensor, batch: TripletBatch) -> torch.Tensor:
        anchor, positive, negative = (unit[side] for side in (batch.anchor, batch.positive, batch.negative))
        return triplet_margin_loss(anchor, positive, negative, self.config.margin, self.config.distance)

    def _vote_term(self, unit: torch.Tensor, batch: TripletBatch) -> torch.Tensor:
        score = self.config.proxy_scale * self.quality(unit).squeeze(1)
        return vote_logistic_loss(score[batch.anchor[batch.decided]], score[batch.negative[batch.decided]])

    def quality_direction(self) -> Float32Array | None:
        """The learned read-out, [dim]: its product with unit embeddings is log-odds. None with the vote term off."""
        if not self.config.vote:
            return None
        return (self.config.proxy_scale * self.quality.weight.detach()).squeeze(0).numpy()
