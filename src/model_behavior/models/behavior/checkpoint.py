"""Checkpoints: the state of a training in one verified file, to resume it after an interruption."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from model_behavior.arrays import AnyArray, Arrays
from model_behavior.errors import ArtifactError
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.preprocessing.entry_file import CacheEntry, DamagedEntryError, read_entry, write_entry


class Resumable(Protocol):
    """A training whose state can be saved and restored."""

    def state(self) -> CacheEntry:
        """Everything that the rest of the training depends on."""

    def restore(self, state: CacheEntry) -> None:
        """Restores a `state`."""


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint file of a training.

    Attributes:
        path: file, replaced at each `save`; None for no checkpoint.
        key: hash of data and settings; a file with another key is refused.
        group: processes that train together; all of them read the file, and only the first one writes it.
    """

    path: Path | None
    key: str
    group: ProcessGroup = field(default_factory=ProcessGroup)

    def save(self, trainer: Resumable) -> None:
        """Replaces the file by the trainer's present state."""
        if self.path is not None and self.group.is_first:
            state = trainer.state()
            write_entry(self.path, replace(state, metadata={**state.metadata, "key": self.key}))

    def restore(self, trainer: Resumable) -> None:
        """Restores the trainer from the file; warns if there is no file.

        Raises:
            ArtifactError: the file is damaged or belongs to another run.
        """
        if self.path is None:
            return
        try:
            state = read_entry(self.path)
        except FileNotFoundError:
            if self.group.is_first:
                message = f"there is no checkpoint {self.path} to resume from; starting from the beginning"
                warnings.warn(message, UserWarning, stacklevel=4)
            return
        except DamagedEntryError as error:
            raise ArtifactError(f"{error}. Fix: start the training anew, without resuming") from error
        if state.metadata.get("key") != self.key:
            raise ArtifactError(
                f"{self.path} belongs to a training with other votes or settings. "
                "Fix: use the same ones, or train without resuming"
            )
        trainer.restore(state)


def tuning_checkpoint(path: Path) -> Path:
    """The checkpoint file of fine-tuning, next to the checkpoint of the whole training."""
    return path.with_name(f"{path.name}.tuning")


def optimizer_to_arrays(optimizer: torch.optim.Optimizer) -> Arrays:
    """Moments and step of every parameter that has had a gradient."""
    return {
        f"{index}.{name}": value.cpu().numpy()
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, AnyArray]) -> None:
    """The inverse of `optimizer_to_arrays`, in place."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in arrays.items():
        index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = torch.from_numpy(np.array(value))
    groups: list[dict[str, Any]] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
