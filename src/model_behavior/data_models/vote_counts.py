"""Votes summed by prompt, pair of models and outcome: all that ratings and their clustered intervals need of votes.

Counts of parts add up, so that each part of a large set of votes can be counted by itself, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Int32Array, Int64Array, UInt64Array
from model_behavior.data_models.votes import Outcome

_N_OUTCOMES = 4


@dataclass(frozen=True, eq=False)
class VoteCounts:
    """Counts in cells, each of one prompt, pair of models and outcome; ordered by prompt, then by cell.

    Attributes:
        models: names, sorted, [n_models].
        prompt: hash of the prompt, uint64, [n_cells].
        cell: (low * n_models + high) * 4 + outcome, where `low` and `high` are places in `models`, low < high, and the
            outcome is from the side of `low`, int64, [n_cells].
        count: number of votes, int32, [n_cells].
    """

    models: tuple[str, ...]
    prompt: UInt64Array
    cell: Int64Array
    count: Int32Array

    @property
    def n_votes(self) -> int:
        """Number of votes."""
        return int(self.count.sum(dtype=np.int64))

    @property
    def sides(self) -> tuple[Int64Array, Int64Array, Int64Array]:
        """`low`, `high` and outcome of each cell, [n_cells] each."""
        pair, outcome = np.divmod(self.cell, _N_OUTCOMES)
        low, high = np.divmod(pair, max(len(self.models), 1))
        return low, high, outcome

    @classmethod
    def of_votes(
        cls,
        models: tuple[str, ...],
        prompt: UInt64Array,
        sides: tuple[Int64Array, Int64Array],
        outcome: Int64Array,
        count: Int32Array | None = None,
    ) -> VoteCounts:
        """Sums votes.

        Args:
            models: names, sorted, [n_models].
            prompt: hash of each vote's prompt, [n].
            sides: places of the left and the right model, [n] each.
            outcome: `Outcome` of each, [n].
            count: number of such votes, 1 by default, [n].
        """
        a, b = (side.astype(np.int64) for side in sides)
        decided = (a > b) & (outcome <= Outcome.MODEL_B)
        outcome = np.where(decided, 1 - outcome, outcome)
        cell = (np.minimum(a, b) * len(models) + np.maximum(a, b)) * _N_OUTCOMES + outcome
        count = np.ones(len(cell), np.int32) if count is None else count
        order = np.lexsort((cell, prompt))
        prompt, cell, count = prompt[order], cell[order], count[order]
        first = np.ones(len(cell), dtype=bool)
        first[1:] = (prompt[1:] != prompt[:-1]) | (cell[1:] != cell[:-1])
        starts = np.flatnonzero(first)
        summed = np.add.reduceat(count, starts).astype(np.int32) if len(starts) else count
        return cls(models, prompt[starts], cell[starts], summed)


def add_counts(parts: Sequence[VoteCounts]) -> VoteCounts:
    """The counts of all parts together, whatever their order."""
    models = tuple(sorted({name for part in parts for name in part.models}))
    place = {name: index for index, name in enumerate(models)}
    lows, highs, outcomes = [], [], []
    for part in parts:
        moved = np.array([place[name] for name in part.models], dtype=np.int64)
        low, high, outcome = part.sides
        lows.append(moved[low].astype(np.int16 if len(models) < 1 << 15 else np.int64))
        highs.append(moved[high].astype(lows[-1].dtype))
        outcomes.append(outcome.astype(np.int8))
    none = np.zeros(0, np.int64)
    return VoteCounts.of_votes(
        models,
        np.concatenate([np.zeros(0, np.uint64), *(part.prompt for part in parts)]),
        (np.concatenate([none, *lows]), np.concatenate([none, *highs])),
        np.concatenate([none, *outcomes]),
        np.concatenate([np.zeros(0, np.int32), *(part.count for part in parts)]),
    )
