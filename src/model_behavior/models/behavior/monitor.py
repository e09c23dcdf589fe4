"""The surroundings of a run, which do not change its result: cache, monitor, checkpoint, processes, backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.training_log import EpochLog
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


@dataclass(frozen=True)
class Runtime:
    """Cache, monitor, checkpoint, processes and backend of a run; its result does not depend on them.

    Attributes:
        cache: cache of features and preprocessed votes.
        monitor: receiver of the progress.
        checkpoint: file for the state of training, written after every epoch; None for none.
        resume: continue from `checkpoint` if it exists.
        group: processes that train together; only the first one writes and reports.
        backend: library that runs the transformers of an artifact that is trained or read; see `choose_execution`.
    """

    cache: ContentCache = field(default_factory=ContentCache)
    monitor: TrainingMonitor = field(default_factory=SilentMonitor)
    checkpoint: Path | None = None
    resume: bool = False
    group: ProcessGroup = field(default_factory=ProcessGroup)
    backend: Backend = "auto"
