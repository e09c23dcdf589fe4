"""The state of an interrupted training, in one verified file."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from model_behavior.data_models.training_log import EpochLog
from model_behavior.errors import ArtifactError
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.training import Trainer
from model_behavior.preprocessing.entry_file import DamagedEntryError, read_entry, write_entry


def save_checkpoint(path: Path, trainer: Trainer, key: str) -> None:
    """Replaces the file by the trainer's present state.

    Args:
        key: hash of data and settings; only the same run can go on from it.
    """
    state = trainer.state()
    write_entry(path, replace(state, metadata={**state.metadata, "key": key}))


def load_checkpoint(path: Path, trainer: Trainer, key: str) -> bool:
    """Puts the trainer where the file says; does nothing and gives False where there is no file.

    Raises:
        ArtifactError: the file is damaged, or of another run.
    """
    try:
        state = read_entry(path)
    except FileNotFoundError:
        return False
    except DamagedEntryError as error:
        raise ArtifactError(f"{error}. Fix: start the training anew, without resuming") from error
    if state.metadata.get("key") != key:
        raise ArtifactError(
            f"{path} is of a training with other votes or settings. Fix: use the same ones, or start anew"
        )
    trainer.restore(state)
    return True


def run_with_checkpoints(trainer: Trainer, key: str, runtime: Runtime) -> None:
    """Runs a training, from the runtime's checkpoint where it is to be resumed, and keeps its state after each epoch.

    Args:
        trainer: fresh.
        key: as in `save_checkpoint`.
        runtime: where the state is kept, and who is told of the progress.
    """
    path, monitor = runtime.checkpoint, runtime.monitor
    if path is not None and runtime.resume:
        if not load_checkpoint(path, trainer, key):
            warnings.warn(f"there is no {path} to resume from; starting from the beginning", UserWarning, 3)
        for log in trainer.history:
            monitor.on_epoch(log)

    def on_epoch(log: EpochLog) -> None:
        if path is not None and runtime.group.is_first:
            save_checkpoint(path, trainer, key)
        monitor.on_epoch(log)

    trainer.run(partial(monitor.on_progress, "training"), on_epoch)
