"""The service without a web framework: answers questions about the catalog, and changes it.

Questions read the current snapshot, which never changes; an upload or a removal makes a new one. Other processes may
change the folder, too: a change is computed first, and saved under the lock of the folder if nothing has changed since;
else it is computed again. Every folder on disk is complete.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from model_behavior import artifact, catalog
from model_behavior.artifact import Artifact
from model_behavior.catalog.drift import DriftConfig
from model_behavior.catalog.drift_history import HISTORY, append_checks, check_of, now, read_checks
from model_behavior.data.split import hash_text
from model_behavior.data.text_columns import PairBuilder
from model_behavior.data.vote_log import LOG, Entry, LoggedThumb, LoggedVote, VoteLog
from model_behavior.data_models.scoring_types import ScaleName
from model_behavior.errors import UsageError
from model_behavior.routing.costs import CostTable
from model_behavior.serving import answers as view_making
from model_behavior.serving import views
from model_behavior.serving.answers import RouteQuery, find_route, find_routes
from model_behavior.serving.snapshot import (
    ChangedMeanwhileError,
    NotPossibleError,
    Snapshot,
    UnknownModelError,
    load_snapshot,
    read_version,
)
from model_behavior.serving.upload_process import UploadProcess

_BATCH = 256
_MAX_CHECKS = 1000
_log = logging.getLogger("model_behavior.serving")

Versions = Collection[str]


@dataclass(frozen=True)
class ServiceConfig:
    """Configuration of the service beside the artifact.

    Attributes:
        costs: cost of a request, by model; where some are set, models without one are never routed to.
        upstreams: models that chat completions can reach.
        chat_models: names that chat completions accept, aliases included.
        max_rows: most rows of an uploaded file.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    upstreams: frozenset[str] = frozenset()
    chat_models: tuple[str, ...] = ()
    max_rows: int = 20_000


@final
class Service:
    """Answers questions to the artifact in a folder, and changes its catalog.

    Warns of each model without a cost where others have one, once, and of each cost of a model that is not there.

    Raises:
        UsageError: costs are set, but none of a model of the catalog.
    """

    def __init__(self, folder: Path, config: ServiceConfig | None = None) -> None:
        self.folder = folder.resolve()
        self.config = config if config is not None else ServiceConfig()
        self.uploads = UploadProcess()
        self._change = threading.Lock()
        self._checks: dict[str, views.DriftCheck] = {}
        self._unpriced: set[str] = set()
        self._log = VoteLog(self.folder / LOG)
        self._snapshot = self._load()
        CostTable(self.config.costs).warn_of_unknown(self._snapshot.artifact.models.names)

    @property
    def snapshot(self) -> Snapshot:
        """The current catalog."""
        return self._snapshot

    def refresh(self) -> bool:
        """Reloads the folder where another process has changed it; returns True where it has."""
        if read_version(self.folder) == self._snapshot.version:
            return False
        with self._change:
            self._current()
        return True

    def models(self) -> views.ModelList:
        """Lists all models."""
        return view_making.list_models(self._snapshot, self.config.chat_models)

    def map(self) -> views.ModelMap:
        """The map of all models."""
        return view_making.draw_map(self._snapshot)

    def describe(self, name: str) -> views.ModelDetails:
        """Describes one model."""
        return view_making.describe_model(self._snapshot, name)

    def neighbours(self, name: str, n: int = 5) -> views.NeighbourList:
        """Lists the models nearest to one."""
        return view_making.list_neighbours(self._snapshot, name, n)

    def compare(self, a: str, b: str) -> views.Comparison:
        """Compares two models."""
        return view_making.compare_models(self._snapshot, a, b)

    def rank(
        self,
        prompt: str | None = None,
        models: Sequence[str] | None = None,
        category: str | None = None,
        scale: ScaleName = "elo",
    ) -> views.Ranking:
        """Ranks models by rating, best first."""
        return view_making.rank_models(self._snapshot, prompt, models, category, scale)

    def prompts(self, number: int, model: str | None = None) -> views.PromptList:
        """Chooses the prompts that tell most about a new model, or more about one that answered some already.

        Raises:
            NotPossibleError: the artifact keeps no prompts, or the model has votes.
        """
        snapshot = self._snapshot
        if model is not None:
            snapshot.row_of(model)
        try:
            return views.PromptList(snapshot.version, tuple(snapshot.artifact.prompts(number, model)))
        except UsageError as error:
            raise NotPossibleError(str(error)) from None

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> views.Predictions:
        """Predicts votes."""
        snapshot = self._snapshot
        for name in {*models_a, *models_b}:
            snapshot.row_of(name)
        rows = snapshot.artifact.predict(prompts, models_a, models_b).tolist()
        return views.Predictions(snapshot.version, tuple(views.Prediction(*row) for row in rows))

    def route(self, query: RouteQuery) -> views.Route:
        """Chooses a model for a prompt or a conversation."""
        return find_route(self._snapshot, query)

    def explain(self, route: views.Route, model: str) -> dict[str, object]:
        """What a route says of one of its candidates."""
        return view_making.explain_route(self._snapshot, route, model)

    def route_together(self, queries: Sequence[RouteQuery]) -> list[views.Route | Exception]:
        """Answers several routing queries, in order."""
        return find_routes(self._snapshot, queries)

    def encode(self, prompts: Sequence[str], responses: Sequence[str]) -> views.Embeddings:
        """Embeds (prompt, response) pairs."""
        snapshot = self._snapshot
        vectors = snapshot.artifact.encode(prompts, responses)
        return views.Embeddings(snapshot.version, vectors.shape[1], vectors.tolist())

    def identify(self, prompts: Sequence[str], responses: Sequence[str], prior_none: float) -> views.IdentifiedModel:
        """Identifies which known model, or none of them, wrote the responses."""
        snapshot = self._snapshot
        builder = PairBuilder()
        for prompt, response in zip(prompts, responses, strict=True):
            builder.add(prompt, "(unnamed)", response, "")
        (found,) = snapshot.artifact.identify(builder.finish(), prior_none).values()
        return views.IdentifiedModel(snapshot.version, found.likeliest, found.none, found.n_responses, found.candidates)

    def upload(self, file: Path, model: str | None, dry_run: bool, expected: Versions | None = None) -> views.Upload:
        """Enrols the models in a file of responses; a model that is enrolled already is replaced.

        Args:
            file: uploaded file, see `read_upload`.
            model: model name for rows without one.
            dry_run: True to place the models without keeping them.
            expected: allowed versions of the catalog; any by default.

        Raises:
            ChangedMeanwhileError: the catalog has another version.
        """
        pairs, report = self.uploads.read(file, model, self.config.max_rows)
        encoded: dict[str, catalog.Catalog] = {}

        def enrol(before: Snapshot) -> Artifact:
            _check_unchanged("the catalog", before.version, expected)
            encoder = before.encoder_version
            if encoder not in encoded:  # the vectors of another encoder mean nothing here
                encoded[encoder] = catalog.enrol(before.artifact.encoder, pairs, _BATCH)
            return before.artifact.with_models(encoded[encoder])

        if dry_run:
            before = self._snapshot
            after = replace(before, artifact=enrol(before))
        else:
            before, after = self._apply(enrol)
        new = encoded[after.encoder_version]
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
        """Removes a model.

        Args:
            name: name of the model.
            expected: allowed tags of the model's latest revision; any by default.

        Raises:
            ChangedMeanwhileError: the model has another revision.
            NotPossibleError: the model was voted on, or has a published rating.
        """

        def take_out(before: Snapshot) -> Artifact:
            before.row_of(name)
            _check_unchanged(f"{name!r}", before.revisions_of(name)[-1].tag, expected)
            if name in before.known:
                raise NotPossibleError(
                    f"{name!r} was voted on or has a published rating, so it cannot be removed. Fix: train without it"
                )
            return before.artifact.remove(name)

        _, after = self._apply(take_out)
        self._checks.pop(name, None)
        return views.Removal(after.version, name)

    def check_drift(self, file: Path, model: str) -> views.DriftCheck:
        """Tests whether a model's answers have changed since it was enrolled; keeps the result for `drift_checks`."""
        snapshot = self._snapshot
        snapshot.row_of(model)
        pairs, _ = self.uploads.read(file, model, self.config.max_rows)
        config = DriftConfig()
        report, time = snapshot.artifact.drift(pairs, model, config), now()
        recorded = True
        try:
            append_checks(self.folder / HISTORY, [check_of(report, config.alpha, time)])
        except OSError:  # a folder that cannot be written to; the answer says so
            recorded = False
        check = views.DriftCheck(**vars(report), version=snapshot.version, checked_at=time, recorded=recorded)
        self._checks.pop(model, None)
        self._checks[model] = check
        if len(self._checks) > _MAX_CHECKS:
            del self._checks[next(iter(self._checks))]
        return check

    def drift_checks(self) -> views.DriftChecks:
        """Lists the latest drift check of each model since the service started, and the history of all checks."""
        history = read_checks(self.folder / HISTORY)[-_MAX_CHECKS:]
        return views.DriftChecks(self._snapshot.version, tuple(reversed(self._checks.values())), tuple(history[::-1]))

    def name_of(self, model: int) -> str:
        """The model with this hash of its name.

        Raises:
            UnknownModelError: there is none.
        """
        for name in self._snapshot.rows:
            if hash_text(name) == model:
                return name
        raise UnknownModelError("the model that gave this response is not in the catalog")

    def record_vote(self, vote: LoggedVote) -> bool:
        """Appends a vote to the log; False where it was there already. Returns once it is on the disk.

        Raises:
            UnknownModelError: a model is not in the catalog.
            NotPossibleError: the two models are one, another vote has this id, or the log cannot be written.
        """
        for name in (vote.model_a, vote.model_b):
            self._snapshot.row_of(name)
        if vote.model_a == vote.model_b:
            raise NotPossibleError("a vote between a model and itself. Fix: name two models")
        return self._record(vote)

    def record_thumb(self, thumb: LoggedThumb) -> bool:
        """Appends a thumb to the log, as `record_vote` does."""
        return self._record(thumb)

    def _record(self, entry: Entry) -> bool:
        try:
            return self._log.append(entry)
        except UsageError as error:
            raise NotPossibleError(str(error)) from error
        except OSError as error:
            raise _not_writable(error) from error

    def _load(self) -> Snapshot:
        return self._prepared(load_snapshot(self.folder, self.config.costs, self.config.upstreams))

    def _prepared(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with everything computed; models without a cost are said, each once."""
        unpriced = [name for name in snapshot.rows if name not in snapshot.prices and name not in self._unpriced]
        if unpriced:
            _log.warning("no cost, so nothing is routed to: %s", ", ".join(unpriced))
            self._unpriced.update(unpriced)
        return snapshot.prepare()

    def _current(self) -> Snapshot:
        """The catalog as it is on disk."""
        if read_version(self.folder) != self._snapshot.version:
            self._snapshot = self._load()
        return self._snapshot

    def _apply(self, compute: Callable[[Snapshot], Artifact]) -> tuple[Snapshot, Snapshot]:
        """Saves what `compute` makes of the catalog as it is on disk; the catalog before and after.

        Raises:
            NotPossibleError: the folder cannot be written.
        """
        with self._change:
            while True:
                before = self._current()
                changed = compute(before)
                try:
                    with artifact.locked(self.folder):
                        if read_version(self.folder) != before.version:
                            continue
                        changed.save(self.folder)
                        version = read_version(self.folder)
                except OSError as error:
                    raise _not_writable(error) from error
                self._snapshot = self._prepared(replace(before, artifact=changed, version=version))
                return before, self._snapshot


def _not_writable(error: OSError) -> NotPossibleError:
    return NotPossibleError(
        f"the folder of the service cannot be changed: {error.strerror or 'writing failed'}. Fix: give the service a "
        "folder that it can write to, with free space"
    )


def _check_unchanged(what: str, version: str, expected: Versions | None) -> None:
    if expected is not None and version not in expected:
        raise ChangedMeanwhileError(f"{what} has changed: its version is {version}. Fix: read it again")
