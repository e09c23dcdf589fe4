"""Immutable state of the catalog, with everything prepared that questions need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from model_behavior.artifact import Artifact, fingerprint
from model_behavior.catalog.places import LEAST_MODELS, PrincipalAxes, fit_axes
from model_behavior.catalog.revisions import Revision, revisions_of
from model_behavior.data_models.scoring_types import Ratings
from model_behavior.errors import UsageError
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.names import family_of, find_model
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.routing.costs import CostTable
from model_behavior.routing.router import Router, make_router
from model_behavior.serving.views import ModelRow


class UnknownModelError(UsageError):
    """The catalog has no such model."""


class NotPossibleError(UsageError):
    """This catalog cannot answer the question as it is."""


class ChangedMeanwhileError(UsageError):
    """The version to change is no longer the current one."""


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """A loaded artifact, with ratings, router and axes computed once.

    Attributes:
        artifact: loaded artifact, never changed.
        version: version of the folder, which changes with its content.
        costs: configured cost of a request, by model, also of models that the catalog lacks; empty for no costs.
        upstreams: models that chat completions can reach.
    """

    artifact: Artifact
    version: str
    costs: Mapping[str, float]
    upstreams: frozenset[str]

    @cached_property
    def encoder_version(self) -> str:
        """Hash of the encoder: embeddings of encoders with different ones cannot be compared."""
        return self.artifact.encoder.fingerprint

    @cached_property
    def ratings(self) -> Ratings | None:
        """Ratings of all models of the catalog, by name, on the Elo scale; None without a scorer."""
        scorer = self.artifact.scorer
        return None if scorer is None else scorer.rate(self.artifact.models.names).on(scorer.scale("elo"))

    @cached_property
    def known(self) -> frozenset[str]:
        """Models with votes or a published rating, from which all others are read."""
        return frozenset() if self.artifact.scorer is None else frozenset(self.artifact.scorer.voted_models)

    @cached_property
    def rows(self) -> Mapping[str, ModelRow]:
        """All models by name, best rating first."""
        rows = [self._make_row(index) for index in range(len(self.artifact.models))]
        rows.sort(key=lambda row: (0.0 if row.rating is None else -row.rating, row.name))
        return {row.name: row for row in rows}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Row of every model in the tables of the artifact, by name."""
        return {name: index for index, name in enumerate(self.artifact.models.names)}

    @cached_property
    def axes(self) -> PrincipalAxes:
        """Principal axes of the map."""
        n = len(self.artifact.models)
        if n < LEAST_MODELS:
            raise NotPossibleError(f"a map needs at least {LEAST_MODELS} models, and there are {n}. Fix: add models")
        return fit_axes(self.artifact.models.mean)

    @cached_property
    def prices(self) -> Mapping[str, float]:
        """Cost of a request to each model that can be routed to: those with a cost, or all at 0 where none has one."""
        if not self.costs:
            return dict.fromkeys(self.rows, 0.0)
        return {name: cost for name, cost in self.costs.items() if name in self.rows}

    @cached_property
    def router(self) -> Router:
        """Router to the best model of `prices` on each prompt; raises as `make_router`."""
        return self.make_router(None, None)

    @property
    def scorer(self) -> DenseNetworkModel:
        """The scoring model of stage 2.

        Raises:
            NotPossibleError: no scoring model was trained.
        """
        if self.artifact.scorer is None:
            raise NotPossibleError("this artifact has no scorer. Fix: model-behavior train-scorer DIR VOTES")
        return self.artifact.scorer

    def make_router(
        self, models: Sequence[str] | None, costs: Mapping[str, float] | None, reference: str | None = None
    ) -> Router:
        """A router with other settings than `router`.

        Args:
            models: candidates; all models with a cost by default.
            costs: costs to use in place of the configured ones.
            reference: model that win rates are measured against; the best-rated candidate by default.

        Raises:
            UnknownModelError: the catalog lacks a named model.
            NotPossibleError: there is no scorer, or costs are set but none of a model of the catalog.
            UsageError: a candidate has no cost.
        """
        for name in (*(models or ()), *(costs or ()), *(() if reference is None else (reference,))):
            self.row_of(name)
        table = self.prices if costs is None else costs
        if not table:
            raise NotPossibleError("no model of this catalog has a cost. Fix: correct the names in the cost table")
        return make_router(self.scorer, CostTable(table), models, reference)

    def row_of(self, name: str) -> ModelRow:
        """A model by name.

        Raises:
            UnknownModelError: there is no such model; the message lists the nearest names.
        """
        if name not in self.rows:
            try:
                find_model(self.artifact.models.names, name)
            except UsageError as error:
                raise UnknownModelError(str(error)) from None
        return self.rows[name]

    def index_of(self, name: str) -> int:
        """The row of a model in the tables of the artifact; raises as `row_of`."""
        self.row_of(name)
        return self.places[name]

    def revisions_of(self, name: str) -> tuple[Revision, ...]:
        """A model's changes, oldest first; the last one is what the catalog holds. Raises as `row_of`."""
        return revisions_of(self.artifact.revisions, self.artifact.catalog, self.index_of(name))

    def _make_row(self, index: int) -> ModelRow:
        models, ratings = self.artifact.models, self.ratings
        name = models.names[index]
        rating, low, high = (
            (None, None, None)
            if ratings is None
            else (float(ratings.rating[index]), float(ratings.low[index]), float(ratings.high[index]))
        )
        votes = 0 if ratings is None else int(ratings.votes[index])
        return ModelRow(
            name=name,
            family=family_of(name),
            count=int(models.count[index]),
            spread=float(models.spread[index]),
            votes=votes,
            enrolled=ratings is not None and name not in self.known,
            group=None if ratings is None or ratings.group is None else int(ratings.group[index]),
            beyond=0 if ratings is None or ratings.beyond is None else int(ratings.beyond[index]),
            rating=rating,
            low=low,
            high=high,
            cost=self.costs.get(name),
            upstream=name in self.upstreams,
        )

    def prepare(self) -> Snapshot:
        """Computes in advance what the first requests would wait for."""
        _ = self.rows
        if self.artifact.scorer is not None and self.prices:
            self.router.route(["Hello."])
        return self


def read_version(folder: Path) -> str:
    """Twelve hexadecimal digits that change with the content of the folder."""
    return fingerprint(folder)[:12]


def load_snapshot(folder: Path, costs: Mapping[str, float], upstreams: frozenset[str]) -> Snapshot:
    """Loads a folder, without a cache on disk, so that texts encoded later are not stored.

    Raises:
        ArtifactError: as for `artifact.load`.
    """
    while True:
        version = read_version(folder)
        loaded = Artifact.load(folder, Runtime(ContentCache(enabled=False)))
        if read_version(folder) == version:  # otherwise it was changed between the two
            return Snapshot(loaded, version, costs, upstreams)
