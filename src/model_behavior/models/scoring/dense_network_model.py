"""Stage 2: who would win on a prompt, also for models that were never voted on.

A model's score is its rating plus what a network adds for the prompt and the behaviour. The rating is that of Bradley
and Terry where the model has votes, and is read from its embedding where it has none. A temperature that is fitted on
held-out votes calibrates the probabilities. Ratings, their reading and the untrained network are the `Foundation`;
what is saved is `DenseNetworkState`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from model_behavior.data.ratings import RatingTable
from model_behavior.data.split import hash_prompts
from model_behavior.data_models.scoring_types import (
    ModelAnswers,
    ModelTable,
    Ratings,
    RatingScale,
    ScaleName,
    ScoringEpochLog,
    ScoringVotes,
)
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.calibration import Temperature, fit_temperature
from model_behavior.models.scoring.category_rating import (
    CategoryRating,
    CategoryReading,
    PromptKinds,
    fit_categories,
    read_categories_of,
)
from model_behavior.models.scoring.dense_network import DenseNetwork, VoteBatch, batch_of
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_state import DenseNetworkState
from model_behavior.models.scoring.dense_network_training import (
    HeldOutVotes,
    cross_validate,
    keep_votes,
    train_network,
)
from model_behavior.models.scoring.foundation import lay_foundation, rows_of_models
from model_behavior.models.scoring.model_base import (
    STATE_VERSION,
    ModelBase,
    SharedCovariance,
    check_state,
    check_votes,
    empty_predictions,
    group_ratings,
    locate_models,
    locate_sides,
    rate_with_interval,
)
from model_behavior.models.scoring.outcomes import OutcomeConstants
from model_behavior.models.scoring.prompt_features import PromptFeatures
from model_behavior.models.scoring.published_ratings import MEAN_ELO, RATINGS_ALONE, Published
from model_behavior.models.scoring.rating_precision import RatingPrecision
from model_behavior.models.scoring.rating_reader import RatingReader, RatingReading
from model_behavior.models.scoring.score_board import ModelRows, ScoreBoard, board_of
from model_behavior.models.scoring.vote_notes import describe_votes
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.scoring_votes import select_scoring_votes


@final
class DenseNetworkModel(ModelBase):
    """Bradley-Terry ratings as offset, a network for what prompt and behaviour add, a temperature on top.

    Args:
        table: embeddings of the models, of the voted ones at least, frozen; None with model_source="id". They are not
            saved with the model, so that a loaded one predicts and enrols, but cannot be fitted again.
        config: every choice of stage 2.
        cache: cache of prompt features, shared with stage 1.
        published: published ratings of some of the models, on the Elo scale, which stand for votes on these.

    Attributes:
        history: one log per epoch of the cross-validation, the first from before training.
        temperature: temperature fitted on held-out votes; 1 without.
        held_out: predictions of the held-out votes; None before `fit` and after loading.
        notes: cautions about the votes that limit what the ratings mean.
        published: published ratings of known models, and what was learned from them; None without.
    """

    name: ClassVar[str] = "dense-network"

    def __init__(
        self,
        table: ModelTable | None = None,
        config: DenseNetworkConfig | None = None,
        cache: ContentCache | None = None,
        published: RatingTable | None = None,
    ) -> None:
        self.config = config if config is not None else DenseNetworkConfig()
        if self.config.model_source not in ("behavior", "id"):
            raise UsageError(f"model_source {self.config.model_source!r}: unknown. Allowed: 'behavior', 'id'")
        if self.config.model_source == "behavior" and table is None:
            raise UsageError("model_source='behavior' needs a table of model embeddings. Fix: give one, or 'id'")
        self.history: list[ScoringEpochLog] = []
        self.temperature = Temperature()
        self.held_out: HeldOutVotes | None = None
        self.notes: tuple[str, ...] = ()
        self.published: Published | None = None
        self._given = published
        self._cache = cache if cache is not None else ContentCache()
        self._table = table if self.config.model_source == "behavior" else None
        self._features = PromptFeatures(self.config.prompts, self._cache)
        self._reader: RatingReader | None = None
        self._board: ScoreBoard | None = None
        self._ratings = BradleyTerry(self.config.offset)
        self._enrolled: dict[str, RatingReading] = {}
        self._kinds: PromptKinds | None = None
        self._suits: dict[str, CategoryRating] = {}
        self._suited: dict[str, dict[str, CategoryReading]] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """Voted and enrolled models, sorted."""
        return self._board.rows.names if self._board is not None else ()

    @property
    def ratings(self) -> BradleyTerry:
        """The Bradley-Terry ratings of the voted models that everything else is added to."""
        return self._ratings

    @property
    def voted_models(self) -> tuple[str, ...]:
        """Models with votes or a published rating, from which all others are read, sorted."""
        return self._ratings.models

    def use_backend(self, backend: Backend) -> None:
        """Sets the library that runs transformers over prompts, where there are any; see `choose_execution`."""
        self._features.use_backend(backend)

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Fits ratings, the network on top, and the temperature; enrols the rest of the table.

        Votes that were drawn from published ratings say nothing that these do not: network and temperature are fitted
        to the votes that were cast.

        Epochs and temperature are chosen on votes that were held out in turn, whole prompts at a time. The embeddings
        are not held out: they are of training responses to all of these prompts.

        Raises:
            UsageError: a loaded model of source "behavior", which has no table to learn from.
            DataError: no votes, or a voted model that the table has no embedding of.
        """
        check_votes(votes)
        if self.config.model_source == "behavior" and self._table is None:
            raise UsageError(
                "this scoring model was loaded, without the embeddings that it was fitted on, so it cannot be fitted "
                "again. Fix: DenseNetworkModel(table, model.config, cache).fit(votes)"
            )
        voted = None if self._table is None else rows_of_models(self._table, votes.models)
        self._features.fit(votes.prompts)
        if self._given is not None and self._given.prompts:
            kinds, keys = PromptKinds.of(self._given.prompts), hash_prompts(votes.prompts)
            self._kinds = kinds.completed(keys, self._features.transform(votes.prompts))
        cast = keep_votes(votes, votes.cast)
        batch, dim, schedule = batch_of(cast, self._features), self._features.dim, self.config.schedule

        def build(some: ScoringVotes) -> DenseNetwork:
            return lay_foundation(replace(some, answers=None), voted, dim, self.config, self._given).network

        self.held_out = held = cross_validate(build, cast, batch, schedule, progress)
        self.history = list(held.history)
        self.temperature = fit_temperature(held.probabilities, held.outcome, held.prompt)
        self._settle(votes, voted, batch, held.best)

    def refitted(self, votes: ScoringVotes, table: ModelTable | None = None) -> DenseNetworkModel:
        """Another model, of other votes, right after `fit`: this one stays as it is.

        What this one has chosen is taken over: features of prompts, number of epochs, temperature.

        Args:
            votes: to fit ratings and network to.
            table: embeddings as in the constructor; by default those of this one.

        Raises:
            DataError: no votes, or a voted model that the table has no embedding of.
        """
        check_votes(votes)
        if self.held_out is None:
            raise UsageError("this scoring model was not fitted here. Fix: call fit() before refitted()")
        other = copy(self)
        if other._table is not None and table is not None:
            other._table = table
        voted = None if other._table is None else rows_of_models(other._table, votes.models)
        batch = batch_of(keep_votes(votes, votes.cast), other._features)
        other._settle(votes, voted, batch, self.held_out.best)
        return other

    def rerated(self, votes: ScoringVotes, table: ModelTable | None) -> DenseNetworkModel:
        """Another model with the ratings of other votes, in seconds: the network stays as it was trained.

        Ratings, their intervals and their reading from behaviour are fitted anew. What the network adds for a prompt
        and a behaviour is kept, so that the prompts of the votes need not be known.

        Args:
            votes: votes to fit the ratings to, with any texts in the place of prompts.
            table: embeddings of all models; None with model_source="id".

        Raises:
            DataError: no votes, or a voted model that the table has no embedding of.
        """
        check_votes(votes)
        board, before = self._fitted(), self._ratings
        voted = None if self._reader is None or table is None else rows_of_models(table, votes.models)
        given = None if self.published is None else self.published.table
        base = lay_foundation(votes, voted, self._features.dim, self.config, given)
        place = {name: row for row, name in enumerate(board.rows.names)}
        own = np.zeros((len(votes.models), board.rows.own.shape[1]), np.float32)
        level = base.ratings.rating.copy()
        for row, name in enumerate(votes.models):
            if name in before.models:
                old = place[name]
                own[row] = board.rows.own[old]
                level[row] += board.rows.level[old] - before.rating[before.models.index(name)]
        behavior = np.zeros((len(votes.models), board.rows.behavior.shape[1]), np.float32)
        if voted is not None and base.reader is not None and self._reader is not None:
            base.reader.adopt(self._reader)
            behavior = base.reader.standardise(voted).astype(np.float32)
        moved = {
            field: getattr(board.constants, field) + getattr(base.ratings.constants, field) - value
            for field, value in asdict(before.constants).items()
        }
        other = copy(self)
        rows = ModelRows(votes.models, level, np.zeros(len(votes.models)), own, behavior)
        other._board = replace(board, rows=rows, constants=OutcomeConstants(**moved))
        other._ratings, other._reader, other._enrolled = base.ratings, base.reader, {}
        other.published = base.published
        other._learn_categories(voted)
        other.notes = describe_votes(votes)
        if table is not None and base.reader is not None:
            other.enrol(table)
        return other

    def _settle(self, votes: ScoringVotes, voted: ModelTable | None, batch: VoteBatch, epochs: int) -> None:
        """Fits all but what cross-validation chooses, and enrols the models of the table that no vote has."""
        dim = self._features.dim
        base = lay_foundation(votes, voted, dim, self.config, self._given)
        train_network(base.network, batch, self.config.schedule, epochs)
        self._ratings, self._reader, self.published = base.ratings, base.reader, base.published
        self.notes = describe_votes(select_scoring_votes(votes, votes.cast)) if len(votes.cast) else (RATINGS_ALONE,)
        self._board, self._enrolled = board_of(base.network, votes.models, dim), {}
        self._learn_categories(voted)
        if self._table is not None:
            self.enrol(self._table)

    def _learn_categories(self, voted: ModelTable | None) -> None:
        """Fits what kind of prompt suits whom, where published ratings have categories and prompts have them, too."""
        self._suits, self._suited = {}, {}
        if self.published is not None and voted is not None:
            self._suits = fit_categories(voted.agreement, self._kinds, self.published.off_lines(voted.names))

    def enrol(self, table: ModelTable) -> None:
        """Adds models without votes, or replaces their embeddings; models with votes keep what votes have taught.

        Raises:
            UsageError: not fitted, embeddings of another size, or a model that has no use for embeddings.
        """
        board = self._fitted()
        if self._reader is None:
            raise UsageError("model_source='id' cannot enrol models by their embeddings. Fix: use 'behavior'")
        _check_dim(table, board.interaction.shape[1])
        new = rows_of_models(table, [name for name in table.names if name not in self.voted_models])
        if not new.names:
            return
        readings = self._reader.read(new)
        mean = np.array([reading.mean for reading in readings])
        variance = np.array([reading.variance for reading in readings])
        slope, intercept = self._network_scale()
        rows = ModelRows(
            names=new.names,
            level=slope * mean + intercept,
            variance=slope**2 * variance,
            own=np.zeros((len(new.names), len(board.interaction)), np.float32),
            behavior=(self.config.carry_over * self._reader.standardise(new)).astype(np.float32),
        )
        self._board = board.with_rows(rows)
        added = dict(zip(new.names, readings, strict=True))
        self._enrolled = {**self._enrolled, **added}  # a new one, so that a copy of this model keeps its own
        suited = read_categories_of(self._suits, self._kinds, new.agreement, len(new.names))
        self._suited = {**self._suited, **dict(zip(new.names, suited, strict=True))}

    def remove(self, names: Sequence[str]) -> None:
        """Forgets enrolled models.

        Raises:
            UsageError: an unknown name, or a model with votes, which the others' ratings rest on.
        """
        board = self._fitted()
        locate_models(names, self.models)
        for name in names:
            if name not in self._enrolled:
                raise UsageError(
                    f"{name!r} was voted on or has a published rating, so it cannot be removed. Fix: train without it"
                )
        self._board = board.without(frozenset(names))
        self._enrolled = {name: value for name, value in self._enrolled.items() if name not in names}
        self._suited = {name: value for name, value in self._suited.items() if name not in names}

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """See the base."""
        sides = locate_sides(prompts, models_a, models_b, self.models)
        if not len(prompts):
            return empty_predictions()
        distinct = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
        row = np.fromiter((distinct[prompt] for prompt in prompts), np.int64, len(prompts))
        board = self._fitted()
        wide = board.widen(self._features.transform(list(distinct)))
        return self.temperature.apply(board.probabilities(wide, row, *sides, self._apart(*sides)))

    def predict_on_average(self, models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """`predict` for the mean training prompt, which is where all prompt features are 0, [n_votes, 4]."""
        board = self._fitted()
        wide = board.widen(np.zeros((1, self._features.dim), np.float32))
        sides = locate_sides([""] * len(models_a), models_a, models_b, self.models)
        row = np.zeros(len(models_a), np.int64)
        return self.temperature.apply(board.probabilities(wide, row, *sides, self._apart(*sides)))

    def are_apart(self, models_a: Sequence[str], models_b: Sequence[str]) -> BoolArray:
        """Whether no chain of votes connects the two models of a pair, both of them voted, [n]."""
        component = self._components()
        a, b = locate_sides([""] * len(models_a), models_a, models_b, self.models)
        apart: BoolArray = (component[a] != component[b]) & (component[a] >= 0) & (component[b] >= 0)
        return apart

    def rate(
        self, models: Sequence[str] | None = None, prompt: str | None = None, category: str | None = None
    ) -> Ratings:
        """Ratings with 95 % intervals, in log-odds; `scale` turns them into Elo.

        Without a prompt: the Bradley-Terry rating of a voted model, the rating read from its embedding for an enrolled
        one, on one scale. Where no chain of votes connects groups of models, the interval of an enrolled one includes
        how the groups' levels may differ. With a prompt: scores on it; the interval is that of the rating, so what is
        not known of the prompt's effect is not in it. With a category: the published rating there, or the one that the
        overall rating and the answers to prompts of the category lead to.

        Args:
            models: names.
            prompt: rate on this prompt rather than over all.
            category: rate on one of `categories`.

        Raises:
            UsageError: not fitted, an unknown name or category, or both a prompt and a category.
        """
        names = tuple(self.models if models is None else models)
        rows = locate_models(names, self.models)
        if category is not None:
            return self._rate_category(names, category, prompt)
        rating, deviation, votes = self._overall(names)
        component = self._components()[rows]
        if prompt is not None:
            board, (slope, _) = self._fitted(), self._network_scale()
            rating = board.scores(board.widen(self._features.transform([prompt])))[0, rows]
            rating = rating - slope * np.where(component >= 0, self._ratings.level[component], 0)
            deviation = deviation * slope
        covariance = self._correlate(names, deviation)
        group = group_ratings(rating, covariance, component)
        beyond = np.array([self._enrolled[name].beyond if name in self._enrolled else 0 for name in names], np.int64)
        rated = rate_with_interval(rating, deviation, votes, names)
        rated = replace(rated, component=component, group=group, beyond=beyond)
        return rated if prompt is not None else self._as_published(rated, None)

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of prompts that `rate` knows, from the published ratings."""
        return () if self.published is None else tuple(self.published.lines)

    def scale(self, name: ScaleName = "elo") -> RatingScale:
        """Scale to show ratings on: log-odds, or Elo, where the known models' mean is 1000, or as was published.

        Raises:
            UsageError: there is no such scale.
        """
        return RatingScale.of(name, MEAN_ELO if self.published is None else self.published.anchor)

    def _rate_category(self, names: tuple[str, ...], category: str, prompt: str | None) -> Ratings:
        if prompt is not None:
            raise UsageError("a prompt and a category were given. Allowed: one of them")
        if self.published is None or category not in self.published.lines:
            known = ", ".join(self.categories) or "none, since no ratings with categories were given to train"
            raise UsageError(f"unknown category {category!r}. Allowed: {known}")
        line = self.published.lines[category]
        rating, deviation, votes = self._overall(names)
        given = np.array([self.published.interval_of(name, category) is not None for name in names], dtype=bool)
        usual = CategoryReading(0.0, line.variance)
        off = [self._suited.get(name, {}).get(category, usual) for name in names]
        scatter = np.array([each.variance for each in off])
        deviation = np.sqrt((line.slope * deviation) ** 2 + np.where(given, 0, scatter))
        expected = line.level + line.slope * rating + np.array([each.mean for each in off])
        rated = rate_with_interval(expected, deviation, votes, names)
        rated = self._as_published(rated, category)
        component = np.zeros(len(names), np.int64)
        group = group_ratings(rated.rating, self._correlate(names, deviation), component)
        return replace(rated, component=component, group=group)

    def _correlate(self, names: tuple[str, ...], deviation: Float64Array) -> SharedCovariance:
        """Covariance of ratings with these deviations, correlated as those of the voted models are."""
        voted = dict(zip(self.voted_models, range(len(self.voted_models)), strict=True))
        place = np.array([voted.get(name, -1) for name in names], dtype=np.int64)
        return SharedCovariance(deviation, place, self._ratings.covariance)

    def _as_published(self, rated: Ratings, category: str | None) -> Ratings:
        """The ratings, with those of published models that have no votes exactly as they were published."""
        if self.published is None:
            return rated
        columns = rating, low, high = rated.rating.copy(), rated.low.copy(), rated.high.copy()
        for row, name in enumerate(rated.models):
            found = None if rated.votes[row] else self.published.interval_of(name, category)
            if found is not None:
                for column, value in zip(columns, found, strict=True):
                    column[row] = found[0] if np.isnan(value) else value
        return replace(rated, rating=rating, low=low, high=high)

    def precision(self, model: str, responses: int) -> RatingPrecision | None:
        """How precise the rating of a model without votes is, and what more responses would do.

        Args:
            model: an enrolled model.
            responses: number of responses that it was enrolled from.

        Returns:
            None for a voted model, whose rating rests on its votes.

        Raises:
            UsageError: an unknown model.
        """
        locate_models([model], self.models)
        if model not in self._enrolled or self._reader is None:
            return None
        reading = self._enrolled[model]
        falling = self._reader.sampling_variance(reading)
        variance = reading.variance + self._ratings.mixed_level_variance
        return RatingPrecision(reading.mean, variance, responses, falling, reading.shared, reading.beyond)

    def answer_effects(self, answers: ModelAnswers, n_models: int, known: ModelAnswers) -> Float64Array | None:
        """See `RatingReader.answer_effects`; None without a reader."""
        return None if self._reader is None else self._reader.answer_effects(answers, n_models, known)

    def answer_weight(self, model: str) -> float | None:
        """Weight of `answer_effects` in the rating of a model; None for one with votes or a published rating."""
        if model not in self._enrolled or self._reader is None:
            return None
        return self._reader.answer_weight(self._enrolled[model])

    def get_state_dict(self) -> dict[str, Any]:
        """See the base."""
        state = DenseNetworkState(
            config=self.config,
            board=self._fitted(),
            ratings=self._ratings,
            features=self._features,
            reader=self._reader,
            enrolled=self._enrolled,
            kinds=self._kinds,
            suits=self._suits,
            suited=self._suited,
            temperature=self.temperature,
            history=self.history,
            notes=self.notes,
            published=self.published,
        )
        return {"state_version": STATE_VERSION, "model": self.name, **state.to_json()}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], cache: ContentCache | None = None) -> Self:
        """See the base; `cache` as in the constructor."""
        check_state(state_dict, cls.name)
        try:
            state = DenseNetworkState.from_json(state_dict, cache)
            model = cls(None, replace(state.config, model_source="id"), cache)  # all but `fit` works without the table
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        model.config, model._board, model._ratings = state.config, state.board, state.ratings
        model._features, model._reader, model._enrolled = state.features, state.reader, dict(state.enrolled)
        model._kinds, model._suits, model._suited = state.kinds, dict(state.suits), dict(state.suited)
        model.temperature, model.notes, model.published = state.temperature, state.notes, state.published
        model.history = list(state.history)
        return model

    def _fitted(self) -> ScoreBoard:
        locate_models((), self.models)
        assert self._board is not None
        return self._board

    def _network_scale(self) -> tuple[float, float]:
        """Slope and intercept from Bradley-Terry ratings to levels of the network, by least squares over the voted."""
        board, rating = self._fitted(), self._ratings.rating
        level = board.rows.level[locate_models(self.voted_models, self.models)]
        spread = float(np.square(rating).sum())
        slope = float(rating @ (level - level.mean())) / spread if spread > 1e-9 else 1.0
        return max(slope, 0.1), float(level.mean())

    def _components(self) -> Int64Array:
        """Component of each model, -1 for an enrolled one where there are several, [n_models]."""
        voted = dict(zip(self.voted_models, self._ratings.component.tolist(), strict=True))
        enrolled = 0 if len(self._ratings.level) == 1 else -1
        return np.array([voted.get(name, enrolled) for name in self.models], dtype=np.int64)

    def _apart(self, a: Int64Array, b: Int64Array) -> Float64Array | None:
        """Variance of the difference of two scores that comes from the levels of their components, [n_votes].

        A voted model has its component's level. An enrolled one is read from the ratings of all voted models, so that
        it has the mean of their levels.
        """
        n_components = len(self._ratings.level)
        if n_components == 1:
            return None
        shares = np.bincount(self._ratings.component) / len(self._ratings.component)
        weights = np.vstack([np.eye(n_components), shares])[self._components()]
        variance = self._network_scale()[0] ** 2 * self._ratings.level_variance
        difference: Float64Array = variance * np.square(weights[a] - weights[b]).sum(axis=1)
        return difference

    def _overall(self, names: tuple[str, ...]) -> tuple[Float64Array, Float64Array, Int64Array]:
        voted = dict(zip(self.voted_models, range(len(self.voted_models)), strict=True))
        variance = np.diag(self._ratings.covariance)
        rated = self._ratings.rate().rating
        found = [
            (rated[voted[name]], variance[voted[name]], self._ratings.votes[voted[name]])
            if name in voted
            else (self._enrolled[name].mean, self._enrolled[name].variance + self._ratings.mixed_level_variance, 0)
            for name in names
        ]
        rating, spread, votes = (np.array([row[column] for row in found]) for column in range(3))
        return rating.astype(np.float64), np.sqrt(spread.astype(np.float64)), votes.astype(np.int64)


def _check_dim(table: ModelTable, dim: int) -> None:
    if table.embedding.ndim != 2 or table.embedding.shape[1] != dim:
        raise UsageError(f"embeddings of shape {table.embedding.shape}: [n_models, {dim}] is needed")
