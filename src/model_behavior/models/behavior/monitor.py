"""Where training keeps its state, and who is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.training_log import EpochLog
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.preprocessing.cache import ContentCache


class TrainingMonitor(Protocol):
    """Told of every step; the command line draws it, a library user may log it."""

    def on_prepared(self, prepared: PreprocessedBehaviorEncoderData) -> None:
        """Votes are filtered and split."""

    def on_progress(self, task: str, done: int, total: int) -> None:
        """`done` of `total` units of a named task are finished."""

    def on_tuning_round(self, log: EpochLog) -> None:
        """A round of fine-tuning a text encoder ended."""

    def on_epoch(self, log: EpochLog) -> None:
        """An epoch ended."""


class SilentMonitor:
    """Says nothing."""

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
    """What a run uses but its result does not depend on.

    Attributes:
        cache: of features and preprocessed votes.
        monitor: told of the progress.
        checkpoint: file to keep the state in after every epoch; None for none.
        resume: go on from `checkpoint` where it exists.
        group: the processes that train together; the first of them alone writes and is monitored.
    """

    cache: ContentCache = field(default_factory=ContentCache)
    monitor: TrainingMonitor = field(default_factory=SilentMonitor)
    checkpoint: Path | None = None
    resume: bool = False
    group: ProcessGroup = field(default_factory=ProcessGroup)
