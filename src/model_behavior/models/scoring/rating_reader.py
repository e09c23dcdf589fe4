"""The rating of a model that was never voted on, from all that its responses tell, and how precise it is.

Several witnesses are averaged: the embedding, agreement with other models on the same prompts, and what the votes say
about responses like the model's own (`RatingReader`). The variance of the result has a part that falls with the number
of responses, and a rest that does not: what behaviour, however well known, leaves open about the votes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np
from scipy import special

from model_behavior.arrays import Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import ModelAnswers, ModelTable, ScoringVotes
from model_behavior.models.scoring.answer_rating import AnswerRating, AnswerRatingConfig
from model_behavior.models.scoring.embedding_rating import EmbeddingRating, EmbeddingRatingConfig
from model_behavior.models.scoring.few_families import widening
from model_behavior.models.scoring.peer_rating import PeerRating, PeerRatingConfig
from model_behavior.names import family_of
from model_behavior.preprocessing.entry_file import inside

_ENDLESS = 10**9
_EMBEDDING, _PEERS, _ANSWERS = "embedding", "agreement", "answers"
_TRUST = {_EMBEDDING: 1.0, _PEERS: 3.0, _ANSWERS: 1.0}  # agreement errs otherwise than the other two, which err alike
_LEAST_RESIDUAL = 0.02  # of the ratings' variance
_END = 0.05  # share of the known models' readings at each end of the field
_FURTHER = 0.5  # of the squared distance from the middle of the field, where readings miss all of such a distance
_SMOOTH = 0.05  # of the variance of the known models' readings
_ASSUMED = 0.5


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

    The witnesses are the embedding (`EmbeddingRating`), agreement with peers (`PeerRating`), and what votes say about
    responses (`AnswerRating`). Each gives a mean and a variance, which falls with the number of responses that it can
    read. Their mean is weighted by inverse variances and by `_TRUST`. Correlations between witnesses are not used for
    the weights: as estimated from a few families they cost more than they bring (Bates and Granger 1969,
    https://doi.org/10.1057/jors.1969.103; Smith and Wallis 2009, https://doi.org/10.1111/j.1468-0084.2008.00541.x).

    They are used for the variance. What stays with endlessly many responses is the mean square error of the known
    models' joint readings, each without its family, at the very weights in question. What more responses take away is
    taken as fully correlated between witnesses, which read the same responses.

    Known models say little of what lies outside their field. So the best third of them is read by the others alone, and
    the worst third, too. The nearer a reading is to an end of the field, the more its variance takes of these larger
    errors, and of its squared distance from the middle, as far as such a distance was missed. With few responses a
    reading may be nearer to the end than it seems, which the normal distribution tells.

    Args:
        config: configurations of the witnesses.
    """

    def __init__(self, config: RatingReaderConfig | None = None) -> None:
        self.config = config if config is not None else RatingReaderConfig()
        self._embedding = EmbeddingRating(self.config.embedding)
        self._peers = PeerRating(self.config.peers)
        self._answers = AnswerRating(self.config.answers)
        self._arrays: dict[str, Float64Array] = {}

    @property
    def witnesses(self) -> tuple[str, ...]:
        """Names of the fitted witnesses."""
        fitted = (True, self._peers.is_fitted, self._answers.is_fitted)
        return tuple(name for name, is_fitted in zip(_TRUST, fitted, strict=True) if is_fitted)

    def fit(
        self,
        table: ModelTable,
        rating: Float64Array,
        variance: Float64Array,
        votes: ScoringVotes | None = None,
        placed: Int64Array | None = None,
    ) -> None:
        """Fits to rated models.

        Args:
            table: their embeddings and, if known, their responses and their agreement with one another, [n_models].
            rating: ratings, log-odds, [n_models].
            variance: variances of the ratings, [n_models].
            votes: votes with responses, on any models; None where there are none.
            placed: models whose ratings are on one scale, ascending; None for all. Of the others only votes tell.
        """
        placed = np.arange(len(rating)) if placed is None else placed
        table, known = _responses_of(table, placed), table.select(placed)
        self._embedding.fit(known, rating[placed], variance[placed])
        if table.agreement is not None and table.agreement.peers == table.names:
            self._peers.fit(table.agreement, rating, variance)
        if votes is not None:
            self._answers.fit(votes, table, rating, variance)
        others = (each[placed] if len(each) else each for each in (self._peers.left_out, self._answers.left_out))
        told, level = self._side_by_side(self._embedding.left_out, *others), rating[placed]
        outer = _thirds(level)
        low, high = (self._read_outer(table, rating, variance, placed, placed[rows]) for rows in outer)
        self._arrays = {
            "told": told,
            "error": told - level[:, None],
            "low": low,
            "high": high,
            "outer": np.array([_square_distance(level, rows) for rows in outer]),
            "noise": np.array([variance[placed].mean()]),
            "floor": np.array([_LEAST_RESIDUAL * np.var(level)]),
            "widening": np.array([widening(len({family_of(name) for name in known.names}))]),
        }

    def adopt(self, earlier: RatingReader) -> None:
        """Takes over from an earlier reader what only votes with responses teach, after a fit without any."""
        if self._answers.is_fitted or self._peers.is_fitted != earlier._peers.is_fitted:
            return
        self._answers, self._arrays = earlier._answers, earlier._arrays

    def read(self, table: ModelTable) -> list[RatingReading]:
        """The ratings of models, in order."""
        mean, lasting, sampling, count = self._tell(table)
        readings = []
        for row in range(len(table.names)):
            weight = self._weigh(lasting[row], sampling[row])
            value = float(weight @ mean[row])
            shares = count[row] / max(int(table.count[row]), 1)
            parts = {
                name: WitnessReading(*map(float, part))
                for name, *part in zip(self.witnesses, mean[row], lasting[row], shares, weight, strict=True)
            }
            falls = _falling(weight, sampling[row])
            spread = self._inside(weight) + self._towards_ends(weight, value, falls) + falls
            shared = min(parts[_PEERS].share, 1.0) if _PEERS in parts else 0.0
            beyond = self._side(weight, value)
            readings.append(RatingReading(value, spread, float(lasting[row, 0]), shared, beyond, parts))
        return readings

    def tell(self, table: ModelTable) -> dict[str, tuple[Float64Array, Float64Array]]:
        """Mean and variance of each witness alone, [n_models] each; the variance is infinite where it reads nothing."""
        mean, lasting, sampling, _ = self._tell(table)
        return {name: (mean[:, each], (lasting + sampling)[:, each]) for each, name in enumerate(self.witnesses)}

    def sampling_variance(self, reading: RatingReading) -> Callable[[IntArray], Float64Array]:
        """The part of a rating's variance that more responses take away, by number of responses.

        What the ends of the known field add is taken to stay, as the reading is.
        """

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
                weight = self._weigh(lasting, sampling)
                rows.append(self._inside(weight) + _falling(weight, sampling))
            return np.array(rows).reshape(np.shape(counts))

        limit = total(np.array([_ENDLESS]))
        return lambda count: np.maximum(total(count) - limit, 0)

    def answer_effects(self, answers: ModelAnswers, n_models: int, known: ModelAnswers) -> Float64Array | None:
        """What each feature of models' responses adds to the ratings that these speak for, [n_models, n_features].

        Args:
            answers: responses of the models.
            n_models: number of models.
            known: responses of the known models, which the models are compared with.
        """
        if not self._answers.is_fitted:
            return None
        nothing = np.zeros((n_models, 0), np.float32)
        count = np.bincount(answers.owner, minlength=n_models)
        table = ModelTable(("",) * n_models, nothing, count, np.zeros(n_models, np.float32), answers=answers)
        return self._answers.effects(table, known)

    def answer_weight(self, reading: RatingReading) -> float:
        """Weight that the regression of votes on features of responses has in a reading, in [0, 1]."""
        part = reading.parts.get(_ANSWERS)
        return 0.0 if part is None else part.weight

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
        return {**parts, "tensors": tensors | {f"join.{name}": value.copy() for name, value in self._arrays.items()}}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: RatingReaderConfig) -> Self:
        """The inverse of `get_state_dict`.

        Earlier releases had two witnesses and did not keep their errors on known models. These are taken to have the
        variances that the witnesses gave, and a correlation of 0.5.
        """
        reader = cls(config)
        tensors = state_dict["tensors"]
        parts = {
            name: {**state_dict[name], "tensors": inside(tensors, f"{name}.")}
            for name in ("embedding", "peers", "answers")
            if name in state_dict
        }
        reader._embedding = EmbeddingRating.load_state_dict(parts["embedding"], config.embedding)
        reader._peers = PeerRating.load_state_dict(parts["peers"], config.peers)
        found = {name: np.array(value) for name, value in inside(tensors, "join.").items()}
        if "told" in found:
            reader._answers = AnswerRating.load_state_dict(parts["answers"], config.answers)
            reader._arrays = found
        else:
            reader._arrays = reader._assume_errors()
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
        if self._answers.is_fitted:
            told = self._answers.predict(table)
            falls = np.where(told.count > 0, self._answers.sampling_variance(told.count), np.inf)
            columns.append((told.mean, told.lasting, falls, told.count.astype(np.float64)))
        mean, lasting, sampling, count = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
        return mean, lasting, sampling, count

    def _sampling(self, witness: str, count: float) -> float:
        at = np.array([count])
        if witness == _EMBEDDING:
            return float(self._embedding.sampling_variance(at)[0])
        if witness == _PEERS:
            return float((self._peers.variance(at) - self._peers.variance(np.array([_ENDLESS])))[0])
        return float(self._answers.sampling_variance(at)[0])

    def _weigh(self, lasting: Float64Array, sampling: Float64Array) -> Float64Array:
        """Weights of the witnesses, with sum 1; 0 where the sampling variance is infinite."""
        weight = np.array([_TRUST[name] for name in self.witnesses]) / (lasting + sampling)
        weights: Float64Array = weight / weight.sum()
        return weights

    def _inside(self, weight: Float64Array) -> float:
        """The variance that stays of a joint reading in the middle of the known field."""
        arrays = self._arrays
        error = float(np.square(arrays["error"] @ weight).mean() - arrays["noise"][0])
        return float(arrays["widening"][0]) * max(error, float(arrays["floor"][0]))

    def _towards_ends(self, weight: Float64Array, value: float, falls: float) -> float:
        """What is added to the variance of a joint reading by how near it may be to an end of the known field.

        Args:
            weight: weights of the witnesses.
            value: the reading.
            falls: variance of the reading that more responses take away.
        """
        arrays, added = self._arrays, 0.0
        if not len(arrays["low"]):
            return added
        told = arrays["told"] @ weight
        low, middle, high = np.quantile(told, (_END, 0.5, 1 - _END)).tolist()
        deviation = max(float(np.sqrt(falls + _SMOOTH * np.var(told))), 1e-9)
        ends = zip((arrays["low"], arrays["high"]), (low - value, value - high), arrays["outer"].tolist(), strict=True)
        for errors, distance, outer in ends:
            error = float(np.square(errors @ weight).mean() - arrays["noise"][0])
            further = _FURTHER * min(max(error, 0.0) / outer, 1.0) * (value - middle) ** 2
            larger = max(error - self._inside(weight), 0.0) + further
            added += larger * float(special.ndtr(distance / deviation))
        return added

    def _side(self, weight: Float64Array, value: float) -> int:
        """1 for a reading above those of all known models, -1 for one below, else 0."""
        told = self._arrays["told"] @ weight
        return int(value > told.max()) - int(value < told.min()) if len(told) else 0

    def _side_by_side(self, embedding: Float64Array, peers: Float64Array, answers: Float64Array) -> Float64Array:
        """What the witnesses tell of some models, [n, n_witnesses]; one that says nothing follows the embedding."""
        columns = [embedding]
        columns += [peers] if self._peers.is_fitted else []
        columns += [answers] if self._answers.is_fitted else []
        told = np.stack(columns, axis=1)
        return np.where(np.isfinite(told), told, told[:, :1])

    def _read_outer(
        self, table: ModelTable, rating: Float64Array, variance: Float64Array, placed: Int64Array, outer: Int64Array
    ) -> Float64Array:
        """Errors on models at one end of the field, read by what the others teach, [n_outer, n_witnesses]."""
        rest = np.setdiff1d(placed, outer).astype(np.int64)
        embedding = EmbeddingRating(self.config.embedding)
        embedding.fit(table.select(rest), rating[rest], variance[rest])
        told = embedding.predict(table.select(outer))[0]
        agreed = np.full(len(rating), np.nan)
        if self._peers.is_fitted and table.agreement is not None:
            # Who is left out stays among the peers, as one of whom nothing is known.
            unknown = rating.copy()
            unknown[outer] = rating[rest].mean()
            others = np.isin(table.agreement.owner, outer)
            peers = PeerRating(self.config.peers)
            peers.fit(table.agreement.of_responses(np.flatnonzero(~others)), unknown, variance)
            if peers.is_fitted:
                agreed = peers.predict(table.agreement.of_responses(np.flatnonzero(others)), len(rating)).mean
        scored = np.full(len(rating), np.nan)
        if self._answers.is_fitted:
            scored = self._answers.predict_left_out(rest, rating, table.names)
        return self._side_by_side(told, agreed[outer], scored[outer]) - rating[outer, None]

    def _assume_errors(self) -> dict[str, Float64Array]:
        """Errors of the witnesses of an earlier release, with the variances that it gave them, and no ends."""
        variance = [self._embedding.residual_variance]
        variance += [float(self._peers.variance(np.array([_ENDLESS]))[0])] if self._peers.is_fitted else []
        n = len(variance)
        covariance = _ASSUMED * np.sqrt(np.outer(variance, variance)) + (1 - _ASSUMED) * np.diag(variance)
        nothing = np.zeros((0, n))
        arrays = {
            "told": nothing,
            "low": nothing,
            "high": nothing,
            "error": np.sqrt(n) * np.linalg.cholesky(covariance).T,
        }
        return arrays | {"noise": np.zeros(1), "floor": np.zeros(1), "widening": np.ones(1)}


def _falling(weight: Float64Array, sampling: Float64Array) -> float:
    """Variance of a joint reading by the noise of its responses, which all witnesses share."""
    used = weight > 0
    return float(weight[used] @ np.sqrt(np.maximum(sampling[used], 0))) ** 2


def _responses_of(table: ModelTable, rows: Int64Array) -> ModelTable:
    """The table with the responses of some models alone; all models keep their rows."""
    agreement, answers = table.agreement, table.answers
    if agreement is not None:
        agreement = agreement.of_responses(np.flatnonzero(np.isin(agreement.owner, rows)))
    if answers is not None:
        answers = answers.of_responses(np.flatnonzero(np.isin(answers.owner, rows)))
    return replace(table, agreement=agreement, answers=answers)


def _square_distance(rating: Float64Array, rows: IntArray) -> float:
    """Mean square distance of some models' ratings from the middle of all; 1 where there is none."""
    return float(np.square(rating[rows] - np.median(rating)).mean()) or 1.0 if len(rows) else 1.0


def _thirds(rating: Float64Array) -> tuple[Int64Array, Int64Array]:
    """The rows of the worst and of the best third of the models, ascending."""
    order, third = np.argsort(rating, kind="stable"), len(rating) // 3
    return np.sort(order[:third]), np.sort(order[len(order) - third :])
