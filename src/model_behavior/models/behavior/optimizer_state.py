"""What AdamW remembers, as named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_behavior.preprocessing.entry_file import Arrays


def optimizer_to_arrays(optimizer: torch.optim.Optimizer) -> Arrays:
    """Moments and step of every parameter that has had a gradient."""
    return {
        f"{index}.{name}": value.cpu().numpy()
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """The inverse of `optimizer_to_arrays`, in place."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in arrays.items():
        index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = torch.from_numpy(np.array(value))
    groups: list[dict[str, Any]] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
