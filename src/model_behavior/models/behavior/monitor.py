"""The surroundings of a run, such as cache and monitor, which do not change its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.training_log import EpochLog
from model_behavior.errors import UsageError
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.preprocessing.cache import ContentCache


class TrainingMonitor(Protocol):
    """Receives the progress of a training; the command line draws it, a library user may log it."""

    def on_prepared(self, prepared: PreprocessedBehaviorEncoderData) -> None:
        """Called when the votes are filtered and split."""

    def on_progress(self, task: str, done: int, total: int) -> None:
        """Called when `done` of `total` units of a named task are finished."""

    def on_tuning_round(self, log: EpochLog) -> None:
        """Called at the end of a round of fine-tuning a text encoder."""

    def on_epoch(self, log: EpochLog) -> None:
        """Called at the end of an epoch."""


class SilentMonitor:
    """Ignores the progress."""

    def on_prepared(self, prepared: PreprocessedBehaviorEncoderData) -> None:
        """Nothing."""

    def on_progress(self, task: str, done: int, total: int) -> None:
        """Nothing."""

    def on_tuning_round(self, log: EpochLog) -> None:
        """Nothing."""

    def on_epoch(self, log: EpochLog) -> None:
        """Nothing."""


class EncodingWorkers(Protocol):
    """Processes, on this machine or on others, that encode the features of a training into its cache."""

    def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        """Calls a function with each of some arguments, anywhere; its results in any order."""

    def check_folder(self, folder: Path) -> None:
        """Refuses a folder that not all of the processes see.

        Raises:
            UsageError: with the machine that does not see it.
        """


@dataclass(frozen=True)
class Runtime:
    """Cache, monitor, checkpoint, processes, workers and backend of a run; its result does not depend on them.

    Attributes:
        cache: cache of features and preprocessed votes.
        monitor: receiver of the progress.
        checkpoint: file for the state of training, written after every epoch; None for none.
        resume: continue from `checkpoint` if it exists.
        group: processes that train together; only the first one writes and reports.
        backend: library that runs the transformers of an artifact that is trained or read; see `choose_execution`.
        workers: processes that encode the features of a training, such as `sharding.engines.RayWorkers`; None for the
            processes of `group`.
    """

    cache: ContentCache = field(default_factory=ContentCache)
    monitor: TrainingMonitor = field(default_factory=SilentMonitor)
    checkpoint: Path | None = None
    resume: bool = False
    group: ProcessGroup = field(default_factory=ProcessGroup)
    backend: Backend = "auto"
    workers: EncodingWorkers | None = None

    def check_workers(self) -> None:
        """Refuses workers that cannot leave features in the cache, before any work.

        Raises:
            UsageError: there is no cache, or not all workers see its folder.
        """
        if self.workers is None or not self.group.is_first:
            return
        if not self.cache.enabled:
            raise UsageError("workers leave features in the cache, and there is none. Fix: --cache FOLDER")
        self.workers.check_folder(self.cache.path)
