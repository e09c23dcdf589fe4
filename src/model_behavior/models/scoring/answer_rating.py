"""The rating of a model that was never voted on, read from what the votes say about responses like its own.

A vote compares two responses to one prompt, so that the prompt cancels in the difference of their features. A logistic
regression of the votes on these differences,

    log-odds(a beats b) = w . (x_a - x_b),

is a Bradley-Terry model whose strengths are linear in features of the responses (Springall 1973, "Response surface
fitting using a generalization of the Bradley-Terry paired comparison model"), which is how style is controlled for in
arenas. Here the features are not controlled for but read: w . x is the score of any response to any prompt, and the
mean score of a model's responses says where it stands. Ties and both_bad are half a win for either side.

The prior of the weights keeps what generalises ahead of what separates a few families: length and structure are held
back little, all else of style (its presence and its distance from the average, too) strongly.

How far the score is trusted is decided on models whose families it has not seen: the regression that scores a family is
fitted without the votes that have a response of it. A regression on ratings then brings the scores to log-odds, again
without the family in question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import ModelAnswers, ModelTable, ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.models.scoring.few_families import REACH, widening
from model_behavior.names import family_of, number_families

_CLIP = 5.0  # standard deviations
_RARE = 0.01
_MAX_STEPS = 12
_TOLERANCE = 1e-3
_REFINEMENTS = 3
_LEAST_RESPONSES = 3
_LEAST_SHARE = 0.02  # of the ratings' variance, that no score is trusted to explain
_LEAST_FAMILIES = 4
_RESULT = {Outcome.MODEL_A: 1.0, Outcome.MODEL_B: 0.0, Outcome.TIE: 0.5, Outcome.BOTH_BAD: 0.5}

STRUCTURE = (
    *("log_characters", "log_lines", "heading", "dash_bullet", "star_bullet", "numbered_dot", "bold"),
    *("bold_line_start", "label_line", "table_row", "code_fence"),
)
"""Features that generalise: length and structure."""


@dataclass(frozen=True)
class AnswerRatingConfig:
    """How ratings are read from responses.

    Attributes:
        least_votes: votes with responses that are needed.
        least_models: rated models with responses that are needed.
        most_votes: votes that regressions are fitted to, drawn at random where there are more.
        structure_penalty: precision of the normal prior of the weights of length and structure, for features of
            standard deviation 1.
        penalty: precision of the prior of all other weights.
    """

    least_votes: int = 100
    least_models: int = 8
    most_votes: int = 50_000
    structure_penalty: float = 10.0
    penalty: float = 300.0


@dataclass(frozen=True, eq=False)
class AnswerReading:
    """Ratings read from scores; arrays [n_models].

    Attributes:
        mean: mean of the rating, log-odds.
        lasting: variance that stays with endlessly many responses.
        count: number of responses that were read.
    """

    mean: Float64Array
    lasting: Float64Array
    count: Int64Array


@final
class AnswerRating:
    """A regression of votes on features of responses, and one of ratings on models' mean scores.

    Args:
        config: see there.

    Attributes:
        left_out: ratings of the models of the last `fit`, each read without its family; NaN for a model that was not
            used, [n_models].
    """

    def __init__(self, config: AnswerRatingConfig | None = None) -> None:
        self.config = config if config is not None else AnswerRatingConfig()
        self.left_out: Float64Array = np.zeros(0)
        self._scores: Float64Array = np.zeros(0)
        self._features: tuple[str, ...] = ()
        self._arrays: dict[str, Float64Array] = {}

    @property
    def is_fitted(self) -> bool:
        """Whether there was enough to learn from."""
        return bool(self._arrays)

    def fit(self, votes: ScoringVotes, table: ModelTable, rating: Float64Array, variance: Float64Array) -> None:
        """Fits to votes with responses, and to rated models with responses.

        Votes that were drawn from ratings know models, not responses: they are used where hardly any vote was cast.

        Args:
            votes: votes to learn from, of any models.
            table: rated models and their responses, [n_models].
            rating: ratings, log-odds, [n_models].
            variance: variances of the ratings, [n_models].
        """
        self._arrays = {}
        answers, compared = table.answers, votes.answers
        taught = votes.cast if len(votes.cast) >= self.config.least_votes else np.arange(len(votes))
        if answers is None or compared is None or answers.names != compared.names or not self._enough(taught, table):
            return
        self._features = answers.names
        chosen = _sample(taught, self.config.most_votes)
        rows_a, rows_b = compared.row_a[chosen], compared.row_b[chosen]
        used, place = np.unique(np.concatenate([rows_a, rows_b]), return_inverse=True)
        expansion = _Expansion.fit(compared.values[used])
        wide = expansion.apply(compared.values[used])
        difference = wide[place[: len(chosen)]] - wide[place[len(chosen) :]]
        result = np.array([_RESULT[Outcome(value)] for value in range(4)])[votes.outcome[chosen]]
        family = np.array([family_of(name) for name in votes.models], dtype=object)
        sides = family[votes.model_a[chosen]], family[votes.model_b[chosen]]
        own = np.array([family_of(name) for name in table.names], dtype=object)
        penalty = np.full(wide.shape[1], self.config.penalty)
        penalty[[place for place, name in enumerate(self._features) if name in STRUCTURE]] = (
            self.config.structure_penalty
        )
        regression = _Regression.fit(difference, result, sides, penalty, own)
        scores = regression.score_left_out(expansion.apply(answers.values), own[answers.owner])
        self._calibrate(scores, answers.owner, table.names, rating, variance)
        self._arrays |= {"weight": regression.weight, **expansion.to_arrays()}

    def predict(self, table: ModelTable) -> AnswerReading:
        """Ratings of models from their responses; that of a model without any is the mean rating of all."""
        arrays, n_models = self._arrays, len(table.names)
        count, mean = np.zeros(n_models, np.int64), np.tile(arrays["centre"], n_models)
        if table.answers is not None and table.answers.names == self._features:
            scores = _Expansion.from_arrays(arrays).apply(table.answers.values) @ arrays["weight"]
            count, mean = _means(scores, table.answers.owner, n_models, arrays["centre"])
        moved = self._kept(count) * (mean - arrays["centre"])
        reach = 1 + (1 + np.square(moved) / arrays["between"]) / arrays["families"]
        return AnswerReading(arrays["level"] + arrays["slope"] * moved, arrays["residual"] * reach, count)

    def predict_left_out(self, rows: IntArray, rating: Float64Array, names: Sequence[str]) -> Float64Array:
        """What the models of the last `fit` at `rows` alone teach of all others, NaN for those that it did not use.

        Args:
            rows: rows of the models to learn from.
            rating: ratings of all, [n_models].
            names: names of all.
        """
        rows = rows[np.isfinite(self._scores[rows])]
        told: Float64Array = np.full(len(rating), np.nan)
        if len(rows) >= self.config.least_models:
            nothing = np.zeros(len(rows))
            line = fit_line(self._scores[rows], rating[rows], nothing, number_families([names[row] for row in rows]))
            told = line.level + line.slope * (self._scores - line.centre)
        return told

    def sampling_variance(self, count: IntArray) -> Float64Array:
        """The part of the variance that more responses take away, by number of responses; any shape."""
        lost = 1 - self._kept(np.asarray(count))
        variance: Float64Array = np.square(self._arrays["slope"]) * REACH * self._arrays["between"] * lost
        return variance

    def effects(self, table: ModelTable, known: ModelAnswers) -> Float64Array:
        """What each feature of models' responses adds to their ratings, [n_models, n_features].

        Args:
            table: models and their responses.
            known: responses of the models that they are compared with.
        """
        assert table.answers is not None
        arrays, expansion = self._arrays, _Expansion.from_arrays(self._arrays)
        others = expansion.means(known, np.unique(known.owner)).mean(axis=0)
        count = np.bincount(table.answers.owner, minlength=len(table.names))
        means = np.tile(others, (len(table.names), 1))
        means[count > 0] = expansion.means(table.answers, np.flatnonzero(count))
        scaled = (means - others) * arrays["weight"] * arrays["slope"] * self._kept(count)[:, None]
        n = len(self._features)
        effects: Float64Array = scaled[:, :n] + scaled[:, -n:]
        effects[:, arrays["expansion.present"].astype(np.int64)] += scaled[:, n:-n]
        return effects

    def get_state_dict(self) -> dict[str, Any]:
        """Names, and arrays under "tensors"."""
        tensors = {name: value.copy() for name, value in self._arrays.items()}
        return {"features": list(self._features), "tensors": tensors}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: AnswerRatingConfig) -> Self:
        """The inverse of `get_state_dict`."""
        rating = cls(config)
        rating._features = tuple(state_dict["features"])
        rating._arrays = {name: np.array(value) for name, value in state_dict["tensors"].items()}
        return rating

    def _enough(self, votes: Int64Array, table: ModelTable) -> bool:
        assert table.answers is not None
        count = np.bincount(table.answers.owner, minlength=len(table.names))
        described = [name for name, n in zip(table.names, count.tolist(), strict=True) if n >= _LEAST_RESPONSES]
        return (
            len(votes) >= self.config.least_votes
            and len(described) >= self.config.least_models
            and len({family_of(name) for name in described}) >= _LEAST_FAMILIES
        )

    def _calibrate(
        self,
        scores: Float64Array,
        owner: Int64Array,
        names: Sequence[str],
        rating: Float64Array,
        variance: Float64Array,
    ) -> None:
        """A regression of ratings on mean scores that were made without the model's family."""
        count, mean = _means(scores, owner, len(names), np.zeros(1))
        used = np.flatnonzero(count >= _LEAST_RESPONSES)
        inside = np.isin(owner, used)
        off = scores[inside] - mean[owner[inside]]
        within = max(float(off @ off) / (len(off) - len(used)), 1e-12)
        families = number_families([names[row] for row in used.tolist()])
        line = fit_line(mean[used], rating[used], within / count[used], families)
        self._scores, self.left_out = np.full(len(names), np.nan), np.full(len(names), np.nan)
        self._scores[used], self.left_out[used] = mean[used], line.left_out
        missed = float(np.square(rating[used] - line.left_out).mean() - variance[used].mean())
        n_families = int(families.max()) + 1
        residual = max(missed, _LEAST_SHARE * float(np.var(rating[used]))) * widening(n_families)
        values = {"within": within, "residual": residual, "families": n_families}
        values |= {name: getattr(line, name) for name in ("centre", "level", "slope", "between")}
        self._arrays = {name: np.array([float(value)]) for name, value in values.items()}

    def _kept(self, count: IntArray) -> Float64Array:
        """Share of a score's offset from the centre that is kept with so many responses; 0 without any."""
        between, within = REACH * self._arrays["between"], self._arrays["within"]
        kept: Float64Array = between * count / (between * count + within)
        return kept


@dataclass(frozen=True, eq=False)
class Line:
    """rating = level + slope (score - centre).

    Attributes:
        centre: mean score.
        level: mean rating.
        slope: slope, at least 0: the direction of a score is for the votes to say.
        between: variance of scores between models, their noise left out.
        left_out: prediction of each model by a line fitted to the other families, [n_models].
    """

    centre: float
    level: float
    slope: float
    between: float
    left_out: Float64Array


def fit_line(score: Float64Array, rating: Float64Array, noise: Float64Array, family: Int64Array) -> Line:
    """Regression with errors in the scores (Fuller 1987), under a prior worth one model.

    Args:
        score: [n_models].
        rating: [n_models].
        noise: variances of the scores, [n_models].
        family: number of each model's family, [n_models].
    """

    def fit(rows: IntArray) -> tuple[float, float, float, float]:
        s, r = score[rows], rating[rows]
        centre, level = float(s.mean()), float(r.mean())
        spread = float(np.square(s - centre).mean())
        between = max(spread - float(noise[rows].mean()), 0.1 * spread, 1e-12)
        slope = float(((s - centre) * (r - level)).mean()) / (between * (1 + 1 / len(rows)))
        return centre, level, max(slope, 0.0), between

    left_out = np.empty(len(score))
    for each in range(int(family.max()) + 1):
        own = family == each
        centre, level, slope, between = fit(np.flatnonzero(~own))
        kept = between / (between + noise[own])
        left_out[own] = level + slope * kept * (score[own] - centre)
    return Line(*fit(np.arange(len(score))), left_out)


@dataclass(frozen=True, eq=False)
class _Regression:
    """One regression of votes on differences, and the same without each family.

    Attributes:
        weight: weights, [n_columns].
        without: weights by family that was left out.
    """

    weight: Float64Array
    without: Mapping[str, Float64Array]

    @classmethod
    def fit(
        cls,
        difference: Float32Array,
        result: Float64Array,
        sides: tuple[Any, Any],
        penalty: Float64Array,
        families: Any,
    ) -> _Regression:
        """Fits once to all, then moves the solution by Newton steps for each family that is left out.

        Args:
            difference: features of the left less those of the right response, [n_votes, n_columns].
            result: 1 for a win of the left response, 0 for a loss, 1/2 otherwise, [n_votes].
            sides: families of the two models, [n_votes] each.
            penalty: precision of each weight, [n_columns].
            families: families to leave out.
        """
        x = difference.astype(np.float64)  # once: every product with float64 weights would do it again
        weight = np.zeros(len(penalty))
        curvature = np.eye(len(penalty))
        for _ in range(_MAX_STEPS):
            chance = _logistic(x @ weight)
            curvature = _curvature(difference, chance, penalty)
            step = np.linalg.solve(curvature, x.T @ (chance - result) + penalty * weight)
            weight = weight - step
            if float(np.abs(step).max()) < _TOLERANCE:
                break
        chance = _logistic(x @ weight)
        without = {}
        for family in np.unique(families).tolist():
            own: BoolArray = (sides[0] == family) | (sides[1] == family)
            if not own.any():
                without[family] = weight
                continue
            inverse = np.linalg.inv(curvature - _curvature(difference[own], chance[own], np.zeros(1)))
            moved = weight
            for _ in range(_REFINEMENTS):
                off = np.where(own, 0.0, _logistic(x @ moved) - result)
                moved = moved - inverse @ (x.T @ off + penalty * moved)
            without[family] = moved
        return cls(weight, without)

    def score_left_out(self, wide: Float32Array, family: Any) -> Float64Array:
        """Scores of responses by regressions without their model's family, [n_responses]."""
        scores = np.empty(len(wide))
        for name in np.unique(family).tolist():
            own = family == name
            scores[own] = wide[own] @ self.without[name]
        return scores


@dataclass(frozen=True, eq=False)
class _Expansion:
    """Features x as [x, whether x is above its minimum, |x|], each standardised: as `DenseView`, without its topic."""

    minimum: Float64Array
    mean: Float64Array
    scale: Float64Array
    present: Int64Array
    wide_mean: Float64Array
    wide_scale: Float64Array

    @classmethod
    def fit(cls, values: Float32Array) -> _Expansion:
        minimum, mean, scale = values.min(axis=0), values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
        share = (values > minimum).mean(axis=0)
        present = np.flatnonzero((share > _RARE) & (share < 1 - _RARE))
        nothing, one = np.zeros(1), np.ones(1)
        bare = cls(minimum, mean, scale, present, nothing, one)
        wide = bare.apply(values)
        return cls(minimum, mean, scale, present, wide.mean(axis=0), np.maximum(wide.std(axis=0), 1e-6))

    def apply(self, values: Float32Array) -> Float32Array:
        """[n, n_wide]."""
        standard = np.clip((values - self.mean) / self.scale, -_CLIP, _CLIP)
        found = values[:, self.present] > self.minimum[self.present]
        wide = (np.concatenate([standard, found, np.abs(standard)], axis=1) - self.wide_mean) / self.wide_scale
        return np.clip(wide, -_CLIP, _CLIP).astype(np.float32)

    def means(self, answers: ModelAnswers, models: IntArray) -> Float64Array:
        """Mean of the expanded features of each of some models, one after the other to save memory, [n, n_wide]."""
        owned = (answers.values[answers.owner == model] for model in models.tolist())
        return np.stack([self.apply(values).mean(axis=0, dtype=np.float64) for values in owned])

    def to_arrays(self) -> dict[str, Float64Array]:
        """For saving."""
        return {f"expansion.{name}": np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> _Expansion:
        """The inverse of `to_arrays`."""
        names = ("minimum", "mean", "scale", "present", "wide_mean", "wide_scale")
        return cls(*(arrays[f"expansion.{name}"] for name in names))


def _means(
    scores: Float64Array, owner: Int64Array, n_models: int, otherwise: Float64Array
) -> tuple[Int64Array, Float64Array]:
    """Number of responses and mean score of each model, `otherwise` without any."""
    count = np.bincount(owner, minlength=n_models).astype(np.int64)
    return count, np.where(count > 0, np.bincount(owner, scores, n_models) / np.maximum(count, 1), otherwise)


def _sample(rows: Int64Array, most: int) -> Int64Array:
    """All of some rows, or that many of them."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _logistic(values: Float64Array) -> Float64Array:
    chances: Float64Array = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return chances


def _curvature(x: Float32Array, chance: Float64Array, penalty: Float64Array) -> Float64Array:
    weight = (chance * (1 - chance)).astype(np.float32)
    curvature: Float64Array = (x.T @ (weight[:, None] * x)).astype(np.float64)
    return curvature + penalty * np.eye(x.shape[1])
