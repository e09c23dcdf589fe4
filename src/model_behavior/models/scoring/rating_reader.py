"""The rating of a model that was never voted on, from all that its responses tell, and how precise it is.

Several witnesses are averaged: the embedding, agreement with other models on the same prompts, and what the votes say
about responses like the model's own (`RatingReader`). The variance of the result has a part that falls with the number
of responses, and a rest that does not: what behaviour, however well known, leaves open about the votes. The half width
of the 95 % interval after n responses is therefore

    1.96 sqrt(variance - s(now) + s(n)),

with s as in `RatingReader.sampling_variance`, and never below the floor, where s is 0 (`RatingPrecision`). The place of
the embedding is taken to stay where it is now, so that this is what to expect, not a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, final

import numpy as np
from scipy import optimize

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.data_models.scoring_types import ModelAnswers, ModelTable, ScoringVotes
from model_behavior.errors import UsageError
from model_behavior.models.scoring.answer_rating import AnswerRating, AnswerRatingConfig
from model_behavior.models.scoring.embedding_rating import EmbeddingRating, EmbeddingRatingConfig
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE
from model_behavior.models.scoring.peer_rating import PeerRating, PeerRatingConfig
from model_behavior.names import family_of
from model_behavior.preprocessing.entry_file import inside

_ENDLESS = 10**9
_MOST = 10_000_000
_WITHIN_REACH = 1.1
_EMBEDDING, _PEERS = "embedding", "agreement"
_PRIOR_FAMILIES = 10
_SUM = 1e3  # weight of the condition that weights sum to 1


@dataclass(frozen=True)
class RatingReading:
    """The rating of one model.

    Attributes:
        mean: posterior mean of the rating, log-odds.
        variance: posterior variance of the rating.
        lasting: part of the embedding's variance that stays with endlessly many responses.
        shared: share of the model's responses that agreement could be read from, in [0, 1].
        beyond: 1 where the model looks better than every known one, -1 where it looks worse, else 0.
        parts: readings of the witnesses, by name.
    """

    mean: float
    variance: float
    lasting: float
    shared: float = 0.0
    beyond: int = 0
    parts: Mapping[str, WitnessReading] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `dataclasses.asdict` takes many times longer, and there is one reading a model."""
        return {**vars(self), "parts": {name: dict(vars(part)) for name, part in self.parts.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RatingReading:
        """From the values of `to_json`; earlier releases wrote no `beyond` and no `parts`."""
        parts = {name: WitnessReading(**part) for name, part in values.get("parts", {}).items()}
        return cls(**{**values, "parts": parts})


@dataclass(frozen=True)
class WitnessReading:
    """What one witness says of one model.

    Attributes:
        mean: mean of the rating, log-odds.
        lasting: variance that stays with endlessly many responses.
        share: responses that it was read from, as a share of those behind the embedding.
        weight: weight in the joint reading; the weights of all witnesses sum to 1.
    """

    mean: float
    lasting: float
    share: float
    weight: float


@dataclass(frozen=True)
class RatingReaderConfig:
    """Configurations of the witnesses.

    Attributes:
        embedding: reading from the embedding.
        peers: reading from agreement with others on the same prompts.
        answers: reading from what votes say about responses.
    """

    embedding: EmbeddingRatingConfig = field(default_factory=EmbeddingRatingConfig)
    peers: PeerRatingConfig = field(default_factory=PeerRatingConfig)
    answers: AnswerRatingConfig = field(default_factory=AnswerRatingConfig)


@final
class RatingReader:
    """Joins what the witnesses say of a rating.

    The witnesses are the embedding (`EmbeddingRating`), agreement with peers (`PeerRating`), and the feature sets of
    what votes say about responses (`AnswerRating`). Each gives a mean and a variance, which falls with the number of
    responses that it can read. The joint reading is the mean with the least variance, given these variances and the
    correlations of the witnesses' errors (Bates and Granger 1969, https://doi.org/10.1057/jors.1969.103); no weight is
    negative. A variance that was estimated from n families has a relative standard error of sqrt(2 / n), which is added
    to it while weights are chosen: witnesses that agree would otherwise win or lose all by chance. Correlations are
    those of the errors on known models that are read without their families, drawn towards their mean by a prior worth
    `_PRIOR_FAMILIES` families. The variance of the result is scaled by how far the joint readings of known models are
    off. Outside the field of known readings the squared distance from it and the known ratings' variance are added.

    Args:
        config: configurations of the witnesses.
    """

    def __init__(self, config: RatingReaderConfig | None = None) -> None:
        self.config = config if config is not None else RatingReaderConfig()
        self._embedding = EmbeddingRating(self.config.embedding)
        self._peers = PeerRating(self.config.peers)
        self._answers = AnswerRating(self.config.answers)
        self._correlation: Float64Array = np.eye(1)
        self._doubt = 0.0
        self._inflation = 1.0
        self._field: tuple[float, float] = (-np.inf, np.inf)
        self._spread = 0.0

    @property
    def witnesses(self) -> tuple[str, ...]:
        """Names of the fitted witnesses."""
        peers = (_PEERS,) if self._peers.is_fitted else ()
        return (_EMBEDDING, *peers, *self._answers.sets)

    def fit(
        self, table: ModelTable, rating: Float64Array, variance: Float64Array, votes: ScoringVotes | None = None
    ) -> None:
        """Fits to rated models.

        Args:
            table: their embeddings and, if known, their responses and their agreement with one another, [n_models].
            rating: ratings, log-odds, [n_models].
            variance: variances of the ratings, [n_models].
            votes: votes with responses, on any models; None where there are none.
        """
        self._embedding.fit(table, rating, variance)
        if table.agreement is not None and table.agreement.peers == table.names:
            self._peers.fit(table.agreement, rating, variance)
        if votes is not None:
            self._answers.fit(votes, table, rating, variance)
        columns = [self._embedding.left_out]
        if self._peers.is_fitted:
            columns.append(self._peers.left_out)
        columns += list(self._answers.left_out.T) if self._answers.sets else []
        told = np.stack(columns, axis=1)
        n_families = len({family_of(name) for name in table.names})
        self._correlation = _correlations(told - rating[:, None], n_families)
        self._doubt = float(np.sqrt(2 / n_families))
        self._inflation, self._field = 1.0, (-np.inf, np.inf)
        self._judge(table, told, rating, variance)

    def adopt(self, earlier: RatingReader) -> None:
        """Takes over from an earlier reader what only votes with responses teach, after a fit without any."""
        if self._answers.sets or self._peers.is_fitted != earlier._peers.is_fitted:
            return
        self._answers = earlier._answers
        self._correlation, self._doubt = earlier._correlation, earlier._doubt
        self._inflation, self._field, self._spread = earlier._inflation, earlier._field, earlier._spread

    def read(self, table: ModelTable) -> list[RatingReading]:
        """The ratings of models, in order."""
        mean, lasting, sampling, count = self._tell(table)
        readings = []
        for row in range(len(table.names)):
            weight, least = self._join(lasting[row], sampling[row])
            value = float(weight @ mean[row])
            beyond = int(value > self._field[1]) - int(value < self._field[0])
            share = count[row] / max(int(table.count[row]), 1)
            parts = {
                name: WitnessReading(*map(float, part))
                for name, *part in zip(self.witnesses, mean[row], lasting[row], share, weight, strict=True)
            }
            spread = self._inflation * least + self._beyond(value)
            shared = min(parts[_PEERS].share, 1.0) if _PEERS in parts else 0.0
            readings.append(RatingReading(value, spread, float(lasting[row, 0]), shared, beyond, parts))
        return readings

    def tell(self, table: ModelTable) -> dict[str, tuple[Float64Array, Float64Array]]:
        """Mean and variance of each witness alone, [n_models] each; the variance is infinite where it reads nothing."""
        mean, lasting, sampling, _ = self._tell(table)
        return {name: (mean[:, each], (lasting + sampling)[:, each]) for each, name in enumerate(self.witnesses)}

    def sampling_variance(self, reading: RatingReading) -> Callable[[IntArray], Float64Array]:
        """The part of a rating's variance that more responses take away, by number of responses."""

        def total(counts: IntArray) -> Float64Array:
            names = [name for name in self.witnesses if name in reading.parts or name == _EMBEDDING]
            rows = []
            for count in np.ravel(counts).tolist():
                lasting, sampling = np.full((2, len(self.witnesses)), np.inf)
                for name in names:
                    part = reading.parts.get(name, WitnessReading(reading.mean, reading.lasting, 1.0, 1.0))
                    if part.share:
                        column = self.witnesses.index(name)
                        lasting[column] = part.lasting
                        sampling[column] = self._sampling(name, max(part.share * count, 1.0))
                rows.append(self._inflation * self._join(lasting, sampling)[1])
            return np.array(rows).reshape(np.shape(counts))

        limit = total(np.array([_ENDLESS]))
        return lambda count: np.maximum(total(count) - limit, 0)

    def answer_effects(self, answers: ModelAnswers, n_models: int, known: ModelAnswers) -> Float64Array | None:
        """What each feature of models' responses adds to the ratings that these speak for, [n_models, n_features].

        The feature sets have the weights that they would have without any other witness.

        Args:
            answers: responses of the models.
            n_models: number of models.
            known: responses of the known models, which the models are compared with.
        """
        sets = len(self._answers.sets)
        if not sets:
            return None
        nothing = np.zeros((n_models, 0), np.float32)
        count = np.bincount(answers.owner, minlength=n_models)
        table = ModelTable(("",) * n_models, nothing, count, np.zeros(n_models, np.float32), answers=answers)
        lasting, sampling = np.full((2, n_models, len(self.witnesses)), np.inf)
        lasting[:, -sets:] = self._answers.predict(table).lasting
        sampling[:, -sets:] = self._answers.sampling_variance(count)
        share = np.array([self._join(*row)[0][-sets:] for row in zip(lasting, sampling, strict=True)])
        effects: Float64Array = np.einsum("mfs,ms->mf", self._answers.effects(table, known), share)
        return effects

    def answer_weight(self, reading: RatingReading) -> float:
        """Weight that the regressions of votes on features of responses have in a reading, in [0, 1]."""
        return sum(reading.parts[name].weight for name in self._answers.sets if name in reading.parts)

    def standardise(self, table: ModelTable) -> Float64Array:
        """See `EmbeddingRating.standardise`."""
        return self._embedding.standardise(table)

    def get_state_dict(self) -> dict[str, Any]:
        """Constants, and arrays under "tensors"."""
        parts = {
            "embedding": self._embedding.get_state_dict(),
            "peers": self._peers.get_state_dict(),
            "answers": self._answers.get_state_dict(),
        }
        tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.pop("tensors").items()}
        tensors["join.correlation"] = self._correlation.copy()
        join = {
            "doubt": self._doubt,
            "inflation": self._inflation,
            "field": [value if np.isfinite(value) else None for value in self._field],
            "spread": self._spread,
        }
        return {**parts, "join": join, "tensors": tensors}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: RatingReaderConfig) -> Self:
        """The inverse of `get_state_dict`. Earlier releases joined two witnesses at a correlation of 0.5."""
        reader = cls(config)
        names = [name for name in ("embedding", "peers", "answers") if name in state_dict]
        parts = {name: {**state_dict[name], "tensors": inside(state_dict["tensors"], f"{name}.")} for name in names}
        reader._embedding = EmbeddingRating.load_state_dict(parts["embedding"], config.embedding)
        reader._peers = PeerRating.load_state_dict(parts["peers"], config.peers)
        if "answers" in parts:
            reader._answers = AnswerRating.load_state_dict(parts["answers"], config.answers)
        n = len(reader.witnesses)
        reader._correlation = np.array(state_dict["tensors"].get("join.correlation", 0.5 * (np.eye(n) + 1)))
        join = state_dict.get("join", {"doubt": 0.0, "inflation": 1.0, "field": (None, None), "spread": 0.0})
        reader._spread, (low, high) = join["spread"], join["field"]
        reader._doubt, reader._inflation = join["doubt"], join["inflation"]
        reader._field = (-np.inf if low is None else low, np.inf if high is None else high)
        return reader

    def _tell(self, table: ModelTable) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
        """Mean, lasting and sampling variance, and number of responses read, each [n_models, n_witnesses].

        The sampling variance is infinite where nothing could be read.
        """
        n_models = len(table.names)
        mean, variance = self._embedding.predict(table)
        falls = self._embedding.sampling_variance(table.count)
        columns: list[tuple[Float64Array, ...]] = [(mean, variance - falls, falls, table.count.astype(np.float64))]
        if self._peers.is_fitted:
            nothing = np.zeros(n_models)
            if table.agreement is None:
                columns.append((nothing, nothing, np.full(n_models, np.inf), nothing))
            else:
                peers = self._peers.predict(table.agreement, n_models)
                last = np.full(n_models, self._peers.variance(np.array([_ENDLESS]))[0])
                falls = np.where(peers.shared > 0, peers.variance - last, np.inf)
                columns.append((peers.mean, last, falls, peers.shared.astype(np.float64)))
        if self._answers.sets:
            told = self._answers.predict(table)
            found = np.where(told.count[:, None] > 0, self._answers.sampling_variance(told.count), np.inf)
            columns += [
                (
                    told.mean[:, each],
                    told.lasting[:, each],
                    found[:, each],
                    told.count.astype(np.float64),
                )
                for each in range(len(self._answers.sets))
            ]
        mean, lasting, sampling, count = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
        return mean, lasting, sampling, count

    def _sampling(self, witness: str, count: float) -> float:
        at = np.array([count])
        if witness == _EMBEDDING:
            return float(self._embedding.sampling_variance(at)[0])
        if witness == _PEERS:
            return float((self._peers.variance(at) - self._peers.variance(np.array([_ENDLESS])))[0])
        return float(self._answers.sampling_variance(at)[0, self._answers.sets.index(witness)])

    def _join(self, lasting: Float64Array, sampling: Float64Array) -> tuple[Float64Array, float]:
        """Weights of the witnesses that sum to 1, and the variance of their mean; infinite variances have no weight."""
        usable = np.flatnonzero(np.isfinite(lasting + sampling))
        noise = self._correlation.copy()
        if sets := len(self._answers.sets):
            noise[-sets:, -sets:] = self._answers.noise_correlation
        covariance = np.zeros((len(usable), len(usable)))
        for correlation, variance in ((self._correlation, lasting), (noise, sampling)):
            deviation = np.sqrt(np.maximum(variance[usable], 0))
            covariance += correlation[np.ix_(usable, usable)] * np.outer(deviation, deviation)
        weight = np.zeros(len(lasting))
        weight[usable] = least_variance(covariance + np.diag(self._doubt * np.diag(covariance)))
        return weight, float(weight[usable] @ covariance @ weight[usable])

    def _judge(self, table: ModelTable, told: Float64Array, rating: Float64Array, variance: Float64Array) -> None:
        """How far joint readings of known models, each without its family, are off; and the field that they span."""
        _, lasting, sampling, _ = self._tell(table)
        sampling = np.where(np.isfinite(told), sampling, np.inf)
        joined = [self._join(*row) for row in zip(lasting, sampling, strict=True)]
        value = np.array([weight @ np.nan_to_num(row) for (weight, _), row in zip(joined, told, strict=True)])
        expected = np.array([each for _, each in joined])
        surprise = np.square(rating - value) / (expected + variance)
        self._inflation = float((surprise.sum() + _PRIOR_FAMILIES) / (len(surprise) + _PRIOR_FAMILIES))
        self._field, self._spread = (float(value.min()), float(value.max())), float(np.var(rating))

    def _beyond(self, value: float) -> float:
        """Variance added to a reading outside the field of known ones: nothing is known of what lies there."""
        low, high = self._field
        outside = max(value - high, low - value, 0.0)
        return outside**2 + self._spread if outside else 0.0


def least_variance(covariance: Float64Array) -> Float64Array:
    """Weights of at least 0 that sum to 1 and give the mean with the least variance, [n]."""
    n = len(covariance)
    scale = float(np.sqrt(np.diag(covariance).mean()))
    root = np.linalg.cholesky(covariance / scale**2 + 1e-9 * np.eye(n)).T
    weight, _ = optimize.nnls(np.vstack([root, np.full((1, n), _SUM)]), np.append(np.zeros(n), _SUM))
    weights: Float64Array = weight / weight.sum()
    return weights


def _correlations(error: Float64Array, n_families: int) -> Float64Array:
    """Correlations of the witnesses' errors; NaN where a witness says nothing of a model.

    Args:
        error: errors on known models, [n_models, n_witnesses].
        n_families: number of families that the models are of.
    """
    n = error.shape[1]
    told = np.isfinite(error)
    filled = np.where(told, error, 0)
    square = np.sqrt(np.maximum(np.square(filled).sum(axis=0), 1e-12))
    found = np.clip(filled.T @ filled / np.outer(square, square), -1, 1)
    others = found[~np.eye(n, dtype=bool)]
    prior = np.full((n, n), max(float(others.mean()), 0.0) if n > 1 else 1.0)
    mixed: Float64Array = (n_families * found + _PRIOR_FAMILIES * prior) / (n_families + _PRIOR_FAMILIES)
    np.fill_diagonal(mixed, 1.0)
    return mixed


@dataclass(frozen=True)
class RatingPrecision:
    """The precision of one rating.

    Attributes:
        rating: rating as `rank` gives it.
        variance: variance of the rating.
        responses: number of responses that it rests on.
        sampling_variance: part of `variance` that falls with the number of responses, to 0.
        shared: share of the responses that could be compared with voted models' answers to the same prompt, in [0, 1].
        beyond: 1 where the responses look better than those of every known model, -1 where they look worse, else 0.
    """

    rating: float
    variance: float
    responses: int
    sampling_variance: Callable[[IntArray], Float64Array]
    shared: float = 0.0
    beyond: int = 0

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval as it is."""
        return self.half_width_after(self.responses)

    @property
    def floor(self) -> float:
        """Half width with endlessly many responses; only votes take it further down."""
        return float(NORMAL_QUANTILE * np.sqrt(self._lasting))

    @property
    def within_reach(self) -> float:
        """A tenth above the floor: the half width that is worth more responses."""
        return _WITHIN_REACH * self.floor

    def half_width_after(self, responses: int) -> float:
        """Half width to expect from that many responses altogether, at least 1."""
        return float(NORMAL_QUANTILE * np.sqrt(self._lasting + self._sampling(responses)))

    def responses_needed(self, half_width: float) -> int | None:
        """How many more responses bring the half width down to this; None where no number does.

        Raises:
            UsageError: a half width that is not above 0.
        """
        if not half_width > 0:
            raise UsageError(f"half_width={half_width}: must be above 0, such as 0.5")
        if self.half_width <= half_width:
            return 0
        low, high = self.responses, 2 * self.responses
        while self.half_width_after(high) > half_width:
            if high > _MOST:
                return None
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.half_width_after(middle) > half_width else (low, middle)
        return high - self.responses

    @property
    def _lasting(self) -> float:
        return max(self.variance - self._sampling(self.responses), 0.0)

    def _sampling(self, responses: int) -> float:
        return float(self.sampling_variance(np.array([responses]))[0])
