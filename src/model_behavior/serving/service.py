"""The catalog over time, and every question to it, without a web framework.

Questions read the current snapshot, which never changes; an upload or a removal makes a new one. `load` and `save` run
under the lock of the folder, so that other processes may change it too, and each folder on disk is whole.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from model_behavior import artifact, catalog
from model_behavior.artifact import Artifact
from model_behavior.data.text_columns import PairBuilder
from model_behavior.routing.costs import CostTable
from model_behavior.serving import answers as view_making
from model_behavior.serving import views
from model_behavior.serving.answers import RouteQuery, find_route, find_routes
from model_behavior.serving.snapshot import (
    ChangedMeanwhileError,
    NotPossibleError,
    Snapshot,
    load_snapshot,
    read_version,
)
from model_behavior.serving.uploads import read_upload

_BATCH = 256
_MAX_CHECKS = 1000
_STALE_SECONDS = 3600.0

Versions = Collection[str]


@dataclass(frozen=True)
class ServiceConfig:
    """What the service knows beside the artifact.

    Attributes:
        costs: of a request, by model; with any, a model without one is never routed to.
        upstreams: models that chat completions can reach.
        chat_models: names that chat completions accept, aliases included.
        max_rows: of an uploaded file.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    upstreams: frozenset[str] = frozenset()
    chat_models: tuple[str, ...] = ()
    max_rows: int = 20_000


@final
class Service:
    """Answers questions to the artifact in a folder, and changes its catalog.

    Warns of each model with a cost that the catalog does not have.

    Raises:
        UsageError: costs, and not one of a model of the catalog.
    """

    def __init__(self, folder: Path, config: ServiceConfig | None = None) -> None:
        self.folder = folder.resolve()
        self.config = config if config is not None else ServiceConfig()
        self._change = threading.Lock()
        self._checks: dict[str, views.DriftCheck] = {}
        with artifact.locked(self.folder):
            _remove_stale_parts(self.folder)
            self._snapshot = self._load()
        CostTable(self.config.costs).warn_of_unknown(self._snapshot.artifact.models.names)

    @property
    def snapshot(self) -> Snapshot:
        """The current catalog."""
        return self._snapshot

    def refresh(self) -> bool:
        """Takes over what another process has changed in the folder; whether there was anything."""
        if read_version(self.folder) == self._snapshot.version:
            return False
        with self._changing():
            pass
        return True

    def models(self) -> views.ModelList:
        """All models."""
        return view_making.list_models(self._snapshot, self.config.chat_models)

    def map(self) -> views.ModelMap:
        """The map."""
        return view_making.draw_map(self._snapshot)

    def describe(self, name: str) -> views.ModelDetails:
        """One model."""
        return view_making.describe_model(self._snapshot, name)

    def neighbours(self, name: str, n: int = 5) -> views.NeighbourList:
        """The models nearest to one."""
        return view_making.list_neighbours(self._snapshot, name, n)

    def compare(self, a: str, b: str) -> views.Comparison:
        """Two models."""
        return view_making.compare_models(self._snapshot, a, b)

    def rank(self, prompt: str | None = None, models: Sequence[str] | None = None) -> views.Ranking:
        """Models by rating, best first."""
        return view_making.rank_models(self._snapshot, prompt, models)

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> views.Predictions:
        """Who would win."""
        snapshot = self._snapshot
        for name in {*models_a, *models_b}:
            snapshot.row_of(name)
        rows = snapshot.artifact.predict(prompts, models_a, models_b).tolist()
        return views.Predictions(snapshot.version, tuple(views.Prediction(*row) for row in rows))

    def route(self, query: RouteQuery) -> views.Route:
        """Which model for a prompt."""
        return find_route(self._snapshot, query)

    def route_together(self, queries: Sequence[RouteQuery]) -> list[views.Route | Exception]:
        """The same for several, in order."""
        return find_routes(self._snapshot, queries)

    def encode(self, prompts: Sequence[str], responses: Sequence[str]) -> views.Embeddings:
        """Pairs to vectors."""
        snapshot = self._snapshot
        vectors = snapshot.artifact.encode(prompts, responses)
        return views.Embeddings(snapshot.version, vectors.shape[1], vectors.tolist())

    def identify(self, prompts: Sequence[str], responses: Sequence[str], prior_none: float) -> views.IdentifiedModel:
        """Which known model wrote these responses, or none."""
        snapshot = self._snapshot
        builder = PairBuilder()
        for prompt, response in zip(prompts, responses, strict=True):
            builder.add(prompt, "(unnamed)", response, "")
        (found,) = snapshot.artifact.identify(builder.finish(), prior_none).values()
        return views.IdentifiedModel(snapshot.version, found.likeliest, found.none, found.n_responses, found.candidates)

    def upload(self, file: Path, model: str | None, dry_run: bool, expected: Versions | None = None) -> views.Upload:
        """Enrols the models in a file of responses; a model that is there already is enrolled anew.

        Args:
            file: see `read_upload`.
            model: of rows that name none.
            dry_run: place them and keep nothing.
            expected: versions one of which the catalog must have; any by default.

        Raises:
            ChangedMeanwhileError: it has another one.
        """
        pairs, report = read_upload(file, model, self.config.max_rows)
        new = catalog.enrol(self._snapshot.artifact.encoder, pairs, _BATCH)
        if dry_run:
            before = self._snapshot
            _check_unchanged("the catalog", before.version, expected)
            after = replace(before, artifact=before.artifact.with_models(new))
        else:
            with self._changing() as before:
                _check_unchanged("the catalog", before.version, expected)
                after = self._save(before.artifact.with_models(new))
        return views.Upload(
            version=after.version,
            dry_run=dry_run,
            rows=report.rows,
            used=int(new.models.count.sum()),
            skipped=dict(report.skipped),
            format=report.format,
            models=view_making.place_models(before, after, new),
        )

    def remove(self, name: str, expected: Versions | None = None) -> views.Removal:
        """Takes a model out.

        Args:
            name: of the model.
            expected: tags of revisions one of which it must be at; any by default.

        Raises:
            ChangedMeanwhileError: it is at another one.
            NotPossibleError: it was voted on.
        """
        with self._changing() as before:
            row = before.row_of(name)
            _check_unchanged(f"{name!r}", before.revisions_of(name)[-1].tag, expected)
            if row.votes:
                raise NotPossibleError(f"{name!r} was voted on, so it cannot be removed. Fix: train without its votes")
            after = self._save(before.artifact.remove(name))
        self._checks.pop(name, None)
        return views.Removal(after.version, name)

    def check_drift(self, file: Path, model: str) -> views.DriftCheck:
        """Whether a model answers otherwise than when it was enrolled; the finding is kept for `drift_checks`."""
        snapshot = self._snapshot
        snapshot.row_of(model)
        pairs, _ = read_upload(file, model, self.config.max_rows)
        report = snapshot.artifact.drift(pairs, model)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        check = views.DriftCheck(**vars(report), version=snapshot.version, checked_at=now)
        self._checks.pop(model, None)
        self._checks[model] = check
        if len(self._checks) > _MAX_CHECKS:
            del self._checks[next(iter(self._checks))]
        return check

    def drift_checks(self) -> views.DriftChecks:
        """What was checked since the start."""
        return views.DriftChecks(self._snapshot.version, tuple(reversed(self._checks.values())))

    def _load(self) -> Snapshot:
        return load_snapshot(self.folder, self.config.costs, self.config.upstreams).prepare()

    @contextmanager
    def _changing(self) -> Iterator[Snapshot]:
        """The catalog as it is on disk, which nobody else changes meanwhile."""
        with self._change, artifact.locked(self.folder):
            if read_version(self.folder) != self._snapshot.version:
                self._snapshot = self._load()
            yield self._snapshot

    def _save(self, changed: Artifact) -> Snapshot:
        changed.save(self.folder)
        self._snapshot = replace(self._snapshot, artifact=changed, version=read_version(self.folder)).prepare()
        return self._snapshot


def _check_unchanged(what: str, version: str, expected: Versions | None) -> None:
    if expected is not None and version not in expected:
        raise ChangedMeanwhileError(f"{what} has changed meanwhile: its version is {version}. Fix: look at it again")


def _remove_stale_parts(folder: Path) -> None:
    """Half-written folders of processes that were killed long ago."""
    for part in folder.parent.glob(f".{folder.name[:100]}.*.part"):
        if time.time() - part.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(part, ignore_errors=True)
