"""Votes and responses in columns. Every prompt and every response is stored once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int32]


class Outcome(IntEnum):
    """What the judge said. The canonical labels are the lower-case names."""

    MODEL_A = 0
    MODEL_B = 1
    TIE = 2
    BOTH_BAD = 3

    @property
    def label(self) -> str:
        """The canonical string: model_a, model_b, tie or both_bad."""
        return self.name.lower()


@dataclass(frozen=True, eq=False)
class PairTable:
    """Unique (prompt, model, response) pairs.

    Attributes:
        prompts: unique prompt texts, [n_prompts].
        models: unique model names, sorted, [n_models].
        responses: response text of each pair, [n_pairs].
        histories: earlier turns of each pair as a JSON list of {role, content}, "" where there are none, [n_pairs].
        prompt_index: index into `prompts`, [n_pairs].
        model_index: index into `models`, [n_pairs].
    """

    prompts: pa.LargeStringArray
    models: tuple[str, ...]
    responses: pa.LargeStringArray
    histories: pa.LargeStringArray
    prompt_index: IntArray
    model_index: IntArray

    def __len__(self) -> int:
        return len(self.prompt_index)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Pairwise votes over a table of pairs.

    Attributes:
        pairs: the answers that were compared.
        pair_a: index into `pairs` of the left answer, [n_votes].
        pair_b: index into `pairs` of the right answer, [n_votes]. Same prompt as `pair_a`, another model.
        outcome: `Outcome` of each vote, [n_votes], int8.
    """

    pairs: PairTable
    pair_a: IntArray
    pair_b: IntArray
    outcome: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.outcome)
