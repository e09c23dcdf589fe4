"""The state of an interrupted training, in one verified file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model_behavior.errors import ArtifactError
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
