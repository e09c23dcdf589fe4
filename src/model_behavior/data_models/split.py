"""How votes are divided into training and validation, and the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ValidationSplit:
    """How to divide votes before anything is fitted.

    Attributes:
        fraction: share of prompts (or of votes, with by="random") kept for validation, in (0, 1).
        seed: seed of the draw.
        by: "prompt" keeps all votes on one normalised prompt on one side; "random" draws votes.
        held_out_models: names of models whose votes are in neither side.
    """

    fraction: float = 0.1
    seed: int = 0
    by: Literal["prompt", "random"] = "prompt"
    held_out_models: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SplitVotes:
    """Vote indices of each side, ascending; together they are all votes, and none is on two sides.

    Attributes:
        train: votes to fit on.
        validation: votes to choose the best epoch by.
        held_out: votes in which a held-out model takes part.
    """

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
