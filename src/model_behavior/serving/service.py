"""The catalog over time, and every question to it, without a web framework.

Questions read the current snapshot, which never changes; an upload or a removal makes a new one. `load` and `save` run
under the lock of the folder, so that other processes may change it too, and each folder on disk is whole.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from model_behavior import artifact, catalog
from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, merge_catalogs
from model_behavior.catalog.drift import measure_drift
from model_behavior.data.pair_builder import PairBuilder
from model_behavior.errors import ModelBehaviorError, UsageError
from model_behavior.routing.router import Choice, Router
from model_behavior.serving import view_making, views
from model_behavior.serving.snapshot import NotPossibleError, Snapshot, load_snapshot, read_version
from model_behavior.serving.uploads import read_upload

_BATCH = 256
_MAX_CHECKS = 1000
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class ServiceConfig:
    """What the service knows beside the artifact.

    Attributes:
        costs: of a request, by model.
        upstreams: models that chat completions can reach.
        chat_models: names that chat completions accept, aliases included.
        max_rows: of an uploaded file.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    upstreams: frozenset[str] = frozenset()
    chat_models: tuple[str, ...] = ()
    max_rows: int = 20_000


@dataclass(frozen=True)
class RouteQuery:
    """A prompt and how to choose; see `Router`. `models` and `costs` replace what is configured."""

    prompt: str
    models: tuple[str, ...] | None = None
    costs: Mapping[str, float] | None = None
    threshold: float | None = None
    floor: float | None = None
    reference: str | None = None


@final
class Service:
    """Answers questions to the artifact in a folder, and changes its catalog."""

    def __init__(self, folder: Path, config: ServiceConfig | None = None) -> None:
        self.folder = folder.resolve()
        self.config = config if config is not None else ServiceConfig()
        self._change = threading.Lock()
        self._checks: dict[str, views.DriftCheck] = {}
        with artifact.locked(self.folder):
            _remove_stale_parts(self.folder)
            self._snapshot = self._load()

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
        rows = snapshot.scorer.predict(prompts, models_a, models_b).tolist()
        return views.Predictions(snapshot.version, tuple(views.Prediction(*row) for row in rows))

    def route(self, query: RouteQuery) -> views.Route:
        """Which model for a prompt."""
        snapshot = self._snapshot
        router = _router_for(snapshot, query)
        return _view_route(snapshot, router, router.route([query.prompt])[0])

    def route_together(self, queries: Sequence[RouteQuery]) -> list[views.Route | Exception]:
        """The same for several, in order: those that only differ by the prompt are answered at once."""
        snapshot = self._snapshot
        usual = [place for place, query in enumerate(queries) if query == RouteQuery(query.prompt)]
        found: dict[int, views.Route | Exception] = {}
        if usual and snapshot.artifact.scorer is not None:
            choices = snapshot.router.route([queries[place].prompt for place in usual])
            views_of = (_view_route(snapshot, snapshot.router, choice) for choice in choices)
            found = dict(zip(usual, views_of, strict=True))
        for place in set(range(len(queries))) - set(found):
            try:
                found[place] = self.route(queries[place])
            except ModelBehaviorError as error:
                found[place] = error
        return [found[place] for place in range(len(queries))]

    def encode(self, prompts: Sequence[str], responses: Sequence[str]) -> views.Embeddings:
        """Pairs to vectors."""
        snapshot = self._snapshot
        encoder = snapshot.artifact.encoder
        vectors = encoder.encode(list(prompts), list(responses), _BATCH)
        return views.Embeddings(snapshot.version, encoder.dim, vectors.tolist())

    def identify(self, prompts: Sequence[str], responses: Sequence[str], prior_none: float) -> views.IdentifiedModel:
        """Which known model wrote these responses, or none."""
        snapshot = self._snapshot
        builder = PairBuilder()
        for prompt, response in zip(prompts, responses, strict=True):
            builder.add(prompt, "(unnamed)", response, "")
        asked = catalog.enrol(snapshot.artifact.encoder, builder.finish(), _BATCH)
        samples = asked.samples
        found = snapshot.identifier.identify(samples.styles.vectors, samples.embedded.vectors, prior_none)
        return views.IdentifiedModel(snapshot.version, found.likeliest, found.none, found.n_responses, found.candidates)

    def upload(self, body: bytes, model: str | None, dry_run: bool) -> views.Upload:
        """Enrols the models in a file of responses; a model that is there already is enrolled anew.

        Args:
            body: see `read_upload`.
            model: of rows that name none.
            dry_run: place them and keep nothing.
        """
        pairs, report = read_upload(body, model, self.config.max_rows)
        new = catalog.enrol(self._snapshot.artifact.encoder, pairs, _BATCH)
        if dry_run:
            before = self._snapshot
            after = replace(before, artifact=_with(before.artifact, new))
        else:
            with self._changing() as before:
                after = self._save(_with(before.artifact, new))
        return views.Upload(
            version=after.version,
            dry_run=dry_run,
            rows=report.rows,
            used=int(new.models.count.sum()),
            skipped=dict(report.skipped),
            format=report.format,
            models=view_making.place_models(before, after, new),
        )

    def remove(self, name: str) -> views.Removal:
        """Takes a model out.

        Raises:
            NotPossibleError: it was voted on.
        """
        with self._changing() as before:
            row = before.row_of(name)
            if row.votes:
                raise NotPossibleError(f"{name!r} was voted on, so it cannot be removed. Fix: train without its votes")
            loaded = before.artifact
            after = self._save(loaded.with_catalog(catalog.remove(loaded.catalog, [name])))
        self._checks.pop(name, None)
        return views.Removal(after.version, name)

    def check_drift(self, body: bytes, model: str) -> views.DriftCheck:
        """Whether a model answers otherwise than when it was enrolled; the finding is kept for `drift_checks`."""
        snapshot = self._snapshot
        snapshot.row_of(model)
        pairs, _ = read_upload(body, model, self.config.max_rows)
        new = catalog.enrol(snapshot.artifact.encoder, pairs, _BATCH)
        report = measure_drift(snapshot.artifact.catalog, model, new)
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
        artifact.save(changed, self.folder)
        self._snapshot = replace(self._snapshot, artifact=changed, version=read_version(self.folder)).prepare()
        return self._snapshot


def _router_for(snapshot: Snapshot, query: RouteQuery) -> Router:
    if query.threshold is not None and query.floor is not None:
        raise UsageError("threshold and floor given. Allowed: one of them")
    router = snapshot.router
    if query.models is not None or query.costs is not None or query.reference is not None:
        router = snapshot.make_router(query.models, query.costs, query.reference)
    if query.threshold is not None or query.floor is not None:
        router = replace(router, threshold=query.threshold or 0.0, floor=query.floor)
    return router


def _view_route(snapshot: Snapshot, router: Router, choice: Choice) -> views.Route:
    return views.Route(
        version=snapshot.version,
        model=choice.model,
        win_rate=choice.win_rate,
        cost=choice.cost,
        reference=router.reference,
        threshold=router.threshold,
        floor=router.floor,
        alternatives=choice.alternatives,
    )


def _with(loaded: Artifact, new: Catalog) -> Artifact:
    return loaded.with_catalog(merge_catalogs(loaded.catalog, new))


def _remove_stale_parts(folder: Path) -> None:
    """Half-written folders of processes that were killed long ago."""
    for part in folder.parent.glob(f".{folder.name[:100]}.*.part"):
        if time.time() - part.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(part, ignore_errors=True)
