"""State of a training in one verified file, from which it goes on after an interruption."""

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
    """A training that can be put where it was."""

    def state(self) -> CacheEntry:
        """Everything that the rest of the training depends on."""

    def restore(self, state: CacheEntry) -> None:
        """Goes back to a `state`."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state.

    Attributes:
        path: file, replaced at each `save`; None for none.
        key: hash of data and settings; only the same run can go on from the file.
        group: processes that train together; all go on from the file, and the first alone writes it.
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
        """Puts the trainer where the file says; warns where there is no file.

        Raises:
            ArtifactError: the file is damaged, or of another run.
        """
        if self.path is None:
            return
        try:
            state = read_entry(self.path)
        except FileNotFoundError:
            if self.group.is_first:
                message = f"there is no {self.path} to resume from; starting from the beginning"
                warnings.warn(message, UserWarning, stacklevel=4)
            return
        except DamagedEntryError as error:
            raise ArtifactError(f"{error}. Fix: start the training anew, without resuming") from error
        if state.metadata.get("key") != self.key:
            raise ArtifactError(
                f"{self.path} is of a training with other votes or settings. Fix: use the same ones, or start anew"
            )
        trainer.restore(state)


def tuning_checkpoint(path: Path) -> Path:
    """Where fine-tuning keeps its state, beside the checkpoint of the training that it is part of."""
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
