"""The rating of a model that was never voted on, read from what the votes say about responses like its own.

A vote compares two responses to one prompt, so that the prompt cancels in the difference of their features. A logistic
regression of the votes on these differences,

    log-odds(a beats b) = w . (x_a - x_b),

is a Bradley-Terry model whose strengths are linear in features of the responses (Springall 1973, "Response surface
fitting using a generalization of the Bradley-Terry paired comparison model"), which is how style is controlled for in
arenas. Here the features are not controlled for but read: w . x is the score of any response to any prompt, and the
mean score of a model's responses says where it stands. Ties and both_bad are half a win for either side.

There are several regressions, each on more features than the one before it (`FEATURE_SETS`). How far each is trusted is
decided on models whose families it has not seen: the regression that scores a family is fitted without the votes that
have a response of it. A regression on ratings then brings the scores to log-odds, again without the family in question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import ModelAnswers, ModelTable, ScoringVotes
from model_behavior.data_models.votes import Outcome
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

LENGTH = ("log_characters",)
STRUCTURE = (
    *LENGTH,
    *("log_lines", "heading", "dash_bullet", "star_bullet", "numbered_dot", "bold", "bold_line_start"),
    *("label_line", "table_row", "code_fence"),
)


@dataclass(frozen=True)
class FeatureSet:
    """Features of one regression.

    Attributes:
        name: name of the reading.
        columns: names of the features; none for all that there are, expanded as in `_Expansion`.
        penalty: precision of the normal prior of each weight, for features of standard deviation 1.
    """

    name: str
    columns: tuple[str, ...]
    penalty: float


FEATURE_SETS = (
    FeatureSet("length", LENGTH, 1.0),
    FeatureSet("structure", STRUCTURE, 30.0),
    FeatureSet("style", (), 100.0),
)


@dataclass(frozen=True)
class AnswerRatingConfig:
    """How ratings are read from responses.

    Attributes:
        least_votes: votes with responses that are needed.
        least_models: rated models with responses that are needed.
        most_votes: votes that regressions are fitted to, drawn at random where there are more.
    """

    least_votes: int = 100
    least_models: int = 8
    most_votes: int = 50_000


@dataclass(frozen=True, eq=False)
class AnswerReading:
    """Ratings read from scores, one column for each feature set that was fitted; arrays [n_models, n_sets].

    Attributes:
        mean: mean of the rating, log-odds.
        lasting: variance that stays with endlessly many responses.
        count: number of responses that were read, [n_models].
    """

    mean: Float64Array
    lasting: Float64Array
    count: Int64Array


@final
class AnswerRating:
    """Regressions of votes on features of responses, and of ratings on models' mean scores.

    Args:
        config: see there.

    Attributes:
        left_out: ratings of the models of the last `fit`, each read without its family; NaN for a model that was not
            used, [n_models, n_sets].
    """

    def __init__(self, config: AnswerRatingConfig | None = None) -> None:
        self.config = config if config is not None else AnswerRatingConfig()
        self.left_out: Float64Array = np.zeros((0, 0))
        self._features: tuple[str, ...] = ()
        self._sets: tuple[str, ...] = ()
        self._arrays: dict[str, Float64Array] = {}

    @property
    def noise_correlation(self) -> Float64Array:
        """Correlations of the scores of one response around its model's, [n_sets, n_sets]."""
        correlation: Float64Array = self._arrays["noise_correlation"]
        return correlation

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the feature sets that were fitted; none where there was too little to learn from."""
        return self._sets

    def fit(self, votes: ScoringVotes, table: ModelTable, rating: Float64Array, variance: Float64Array) -> None:
        """Fits to votes with responses, and to rated models with responses.

        Args:
            votes: votes to learn from, of any models.
            table: rated models and their responses, [n_models].
            rating: ratings, log-odds, [n_models].
            variance: variances of the ratings, [n_models].
        """
        self._sets, self._arrays = (), {}
        answers, compared = table.answers, votes.answers
        if answers is None or compared is None or answers.names != compared.names or not self._enough(votes, table):
            return
        self._features = answers.names
        chosen = _sample(len(votes), self.config.most_votes)
        rows_a, rows_b = compared.row_a[chosen], compared.row_b[chosen]
        used, place = np.unique(np.concatenate([rows_a, rows_b]), return_inverse=True)
        expansion = _Expansion.fit(compared.values[used])
        wide = expansion.apply(compared.values[used])
        difference = wide[place[: len(chosen)]] - wide[place[len(chosen) :]]
        result = np.array([_RESULT[Outcome(value)] for value in range(4)])[votes.outcome[chosen]]
        family = np.array([family_of(name) for name in votes.models], dtype=object)
        sides = family[votes.model_a[chosen]], family[votes.model_b[chosen]]
        own_family = np.array([family_of(name) for name in table.names], dtype=object)
        found = [
            _Regression.fit(
                difference, result, sides, expansion.columns(each, self._features), each.penalty, own_family
            )
            for each in FEATURE_SETS
        ]
        known = expansion.apply(answers.values)
        scores = np.stack([each.score_left_out(known, own_family[answers.owner]) for each in found], axis=1)
        self._calibrate(scores, answers.owner, table.names, rating, variance)
        self._sets = tuple(each.name for each in FEATURE_SETS)
        weights = np.zeros((known.shape[1], len(found)))
        for column, each in enumerate(found):
            weights[each.columns, column] = each.weight
        self._arrays |= {"weights": weights, **expansion.to_arrays()}

    def predict(self, table: ModelTable) -> AnswerReading:
        """Ratings of models from their responses; those of a model without any are the mean rating of all."""
        arrays, n_models = self._arrays, len(table.names)
        count, mean = np.zeros(n_models, np.int64), np.tile(arrays["centre"], (n_models, 1))
        if table.answers is not None and table.answers.names == self._features:
            scores = _Expansion.from_arrays(arrays).apply(table.answers.values) @ arrays["weights"]
            count, mean = _means(scores, table.answers.owner, n_models, arrays["centre"])
        off = mean - arrays["centre"]
        kept = self._kept(count[:, None])
        reach = 1 + (1 + np.square(kept * off) / arrays["between"]) / arrays["families"]
        return AnswerReading(arrays["level"] + arrays["slope"] * kept * off, arrays["residual"] * reach, count)

    def sampling_variance(self, count: IntArray) -> Float64Array:
        """The part of the variance that more responses take away, by number of responses, [..., n_sets]."""
        lost = 1 - self._kept(np.asarray(count)[..., None])
        variance: Float64Array = np.square(self._arrays["slope"]) * self._arrays["between"] * lost
        return variance

    def effects(self, table: ModelTable, known: ModelAnswers) -> Float64Array:
        """What each feature of models' responses adds to their ratings, [n_models, n_features, n_sets].

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
        scaled = (means - others)[:, :, None] * arrays["weights"] * arrays["slope"]
        scaled *= self._kept(count[:, None])[:, None]
        n = len(self._features)
        effects: Float64Array = scaled[:, :n] + scaled[:, -n:]
        effects[:, arrays["expansion.present"].astype(np.int64)] += scaled[:, n:-n]
        return effects

    def get_state_dict(self) -> dict[str, Any]:
        """Names, and arrays under "tensors"."""
        tensors = {name: value.copy() for name, value in self._arrays.items()}
        return {"features": list(self._features), "sets": list(self._sets), "tensors": tensors}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], config: AnswerRatingConfig) -> Self:
        """The inverse of `get_state_dict`."""
        rating = cls(config)
        rating._features, rating._sets = tuple(state_dict["features"]), tuple(state_dict["sets"])
        rating._arrays = {name: np.array(value) for name, value in state_dict["tensors"].items()}
        return rating

    def _enough(self, votes: ScoringVotes, table: ModelTable) -> bool:
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
        """Regressions of ratings on mean scores that were made without the model's family."""
        count, mean = _means(scores, owner, len(names), np.zeros(scores.shape[1]))
        used = np.flatnonzero(count >= _LEAST_RESPONSES)
        inside = np.isin(owner, used)
        off = scores[inside] - mean[owner[inside]]
        scatter = off.T @ off / (len(off) - len(used))
        within = np.maximum(np.diag(scatter), 1e-12)
        families = number_families([names[row] for row in used.tolist()])
        lines = [
            fit_line(mean[used, column], rating[used], within[column] / count[used], families)
            for column in range(scores.shape[1])
        ]
        self.left_out = np.full((len(names), len(lines)), np.nan)
        self.left_out[used] = np.stack([line.left_out for line in lines], axis=1)
        missed = np.square(rating[used, None] - self.left_out[used]).mean(axis=0) - variance[used].mean()
        n_families = int(families.max()) + 1
        self._arrays = {
            "within": within,
            "noise_correlation": scatter / np.sqrt(np.outer(within, within)),
            **{name: np.array([getattr(line, name) for line in lines]) for name in ("centre", "level", "slope")},
            "between": np.array([line.between for line in lines]),
            "residual": np.maximum(missed, _LEAST_SHARE * float(np.var(rating[used]))) * widening(n_families),
            "families": np.array([float(n_families)]),
        }

    def _kept(self, count: IntArray) -> Float64Array:
        """Share of a score's offset from the centre that is kept with so many responses; 0 without any."""
        between, within = self._arrays["between"], self._arrays["within"]
        kept: Float64Array = between * count / (between * count + within)
        return kept


def widening(n_families: int) -> float:
    """Variance of Student's t: a variance that was estimated from few families is itself uncertain."""
    return n_families / (n_families - 2) if n_families > 2 else 3.0


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
        columns: columns of the expanded features that it uses.
        weight: weights, [n_columns].
        without: weights by family that was left out.
    """

    columns: Int64Array
    weight: Float64Array
    without: Mapping[str, Float64Array]

    @classmethod
    def fit(
        cls,
        difference: Float32Array,
        result: Float64Array,
        sides: tuple[Any, Any],
        columns: Int64Array,
        penalty: float,
        families: Any,
    ) -> _Regression:
        """Fits once to all, then moves the solution by Newton steps for each family that is left out.

        Args:
            difference: expanded features of the left less those of the right response, [n_votes, n_wide].
            result: 1 for a win of the left response, 0 for a loss, 1/2 otherwise, [n_votes].
            sides: families of the two models, [n_votes] each.
            columns: columns to use.
            penalty: precision of each weight.
            families: families to leave out.
        """
        x = difference[:, columns]
        weight = np.zeros(len(columns))
        curvature = np.eye(len(columns))
        for _ in range(_MAX_STEPS):
            chance = _logistic(x @ weight)
            curvature = _curvature(x, chance, penalty)
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
            inverse = np.linalg.inv(curvature - _curvature(x[own], chance[own], 0.0))
            moved, rest, wanted = weight, x[~own], result[~own]
            for _ in range(_REFINEMENTS):
                moved = moved - inverse @ (rest.T @ (_logistic(rest @ moved) - wanted) + penalty * moved)
            without[family] = moved
        return cls(columns, weight, without)

    def score_left_out(self, wide: Float32Array, family: Any) -> Float64Array:
        """Scores of responses by regressions without their model's family, [n_responses]."""
        scores = np.empty(len(wide))
        for name in np.unique(family).tolist():
            own = family == name
            scores[own] = wide[own][:, self.columns] @ self.without[name]
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

    def columns(self, features: FeatureSet, names: Sequence[str]) -> Int64Array:
        """Columns of the expanded features that a set uses."""
        if not features.columns:
            return np.arange(2 * len(names) + len(self.present))
        return np.array([names.index(name) for name in features.columns], dtype=np.int64)

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
    sums = np.zeros((n_models, scores.shape[1]))
    np.add.at(sums, owner, scores)
    return count, np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], otherwise)


def _sample(n: int, most: int) -> Int64Array:
    """All of n votes, or that many of them."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _logistic(values: Float64Array) -> Float64Array:
    chances: Float64Array = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return chances


def _curvature(x: Float32Array, chance: Float64Array, penalty: float) -> Float64Array:
    weight = (chance * (1 - chance)).astype(np.float32)
    curvature: Float64Array = (x.T @ (weight[:, None] * x)).astype(np.float64)
    return curvature + penalty * np.eye(x.shape[1])
