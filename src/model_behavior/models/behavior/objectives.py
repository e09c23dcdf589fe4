"""Which terms the loss has, and how strong each is.

What the terms of the loss are computed from.

The triplet term: positives nearer to the anchor than negatives.

The vote term: quality as a linear read-out of the embedding.

Terms that shape the cloud of embeddings as a whole.

Terms by which pairs of one model are recognised: proxies, and contrast within the batch.

Harder positives and negatives for the triplet term, chosen among the pairs of the batch.

What is mined is bound by the rules that bind what is sampled. Only triplets whose positive is of the anchor's own
model are mined: where the positive is another model's, the votes alone say what lies farther, so those keep both sides.

- A negative is on the anchor's prompt, of another model, with a text that is neither the anchor's nor the positive's.
  It is no pair that another triplet of the batch pulls to the anchor, as the other side of a tie is. Another prompt's
  pairs are never mined: they would teach the encoder topics. The triplet's own negative is always a candidate.
- A positive is of the anchor's model, on another prompt, with a text that is neither the anchor's nor the negative's.
  It is anchor or positive of some triplet of the batch, since a response that a both_bad vote condemned is none. The
  triplet's own positive is always a candidate.

The weighted sum of the terms.

What stage 1 minimises. Every term is a function of embeddings alone, apart from encoding.

The loss of a batch is

    L = w_triplet T + w_proxy P + w_contrastive S + w_vote V + w_compactness C + w_kl K

with unit embeddings z, raw embeddings h (z = h / |h|), and the terms given at each function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import nn
from torch.nn import functional

from model_behavior.arrays import Float32Array
from model_behavior.errors import UsageError

Distance = Literal["cosine", "euclidean"]
Mining = Literal["none", "semi-hard", "batch-hard"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms, 0 for off, and their settings.

    Attributes:
        distance: of the triplet term.
        margin: of the triplet term, in units of `distance`.
        triplet: weight of `triplet_margin_loss`.
        proxy: weight of `proxy_softmax_loss`.
        vote: weight of `vote_logistic_loss`.
        compactness: weight of `compactness_loss`.
        kl: weight of `kl_to_standard_normal`.
        proxy_scale: inverse temperature of the proxy softmax, and scale of the vote term's read-out.
        mining: how the triplet term's positives and negatives are chosen anew within the batch, see `mine_triplets`.
        proxy_margin: angle in radians that is added to a pair's own proxy, in [0, pi / 2).
        contrastive: weight of `supervised_contrastive_loss`.
        temperature: of the contrastive term, above 0.
        vote_ties: whether the vote term counts a tie as half a win of each side; it leaves ties out otherwise.
    """

    distance: Distance = "euclidean"
    margin: float = 0.5
    triplet: float = 1.0
    proxy: float = 0.2
    vote: float = 0.1
    compactness: float = 0.0
    kl: float = 0.0
    proxy_scale: float = 16.0
    mining: Mining = "none"
    proxy_margin: float = 0.0
    contrastive: float = 0.0
    temperature: float = 0.1
    vote_ties: bool = False

    def __post_init__(self) -> None:
        self._check_weights()
        if self.distance not in get_args(Distance):
            raise UsageError(f"distance {self.distance!r}: allowed are cosine and euclidean")
        if self.mining not in get_args(Mining):
            raise UsageError(f"mining {self.mining!r}: allowed are none, semi-hard and batch-hard")
        if self.mining != "none" and not self.triplet:
            raise UsageError(
                f"mining {self.mining!r} with triplet=0: what is mined are triplets, and their term is off. "
                'Fix: mining "none", or a triplet weight above 0'
            )
        if not 0 <= self.proxy_margin < math.pi / 2:
            raise UsageError(f"proxy_margin={self.proxy_margin}: an angle in [0, pi / 2) radians is needed")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature={self.temperature}: a finite number above 0 is needed")

    def _check_weights(self) -> None:
        names = ("triplet", "proxy", "contrastive", "vote", "compactness", "kl")
        weights = {name: float(getattr(self, name)) for name in names}
        if not all(0 <= weight < math.inf for weight in weights.values()) or not any(weights.values()):
            shown = ", ".join(f"{name}={weight:g}" for name, weight in weights.items())
            raise UsageError(f"weights {shown}: none may be negative or infinite, and one must be above 0")


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


def vote_logistic_loss(
    winner: torch.Tensor, loser: torch.Tensor, tied: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """V = sum over votes of -y log p - (1 - y) log(1 - p), over the number of votes; p = 1 / (1 + exp(s_b - s_a)).

    The Bradley-Terry model (Bradley and Terry 1952). A decided vote has y = 1 for its winner a. A tie counts as half a
    win of each side, y = 1/2 (as a draw does in Elo 1978), and holds the two scores together.

    Args:
        winner: scores (log-odds) of the winning side of decided votes, [n]; `loser` those of the other side.
        tied: scores of the two sides of ties, [m] each. A tie stands in it twice, once from either side, as it gives
            two triplets; each counts as half a vote. None leaves ties out.

    Returns:
        A scalar, 0 without votes.
    """
    total, n_votes = functional.softplus(loser - winner).sum(), float(len(winner))
    if tied is not None:
        difference = tied[0] - tied[1]
        half_wins = (functional.softplus(difference) + functional.softplus(-difference)) / 2
        total, n_votes = total + half_wins.sum() / 2, n_votes + len(difference) / 2
    return total / n_votes if n_votes else total


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

    def quality_direction(self) -> Float32Array | None:
        """The learned read-out, [dim]: its product with unit embeddings is log-odds. None with the vote term off."""
        if not self.config.vote:
            return None
        return (self.config.proxy_scale * self.quality.weight.detach()).squeeze(0).numpy()


__all__ = ["Distance", "Mining", "Objective", "ObjectiveConfig", "TripletBatch", "triplet_margin_loss"]
