"""Small votes that tests share, and where the real ones are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model_behavior.data.arena import Arena, build_arena
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData

REAL_DATA = Path(__file__).parents[1].parent / "shared" / "data"

VoteRow = tuple[str, str, str, str, str, Outcome]
"""prompt, model_a, response_a, model_b, response_b, outcome"""


def make_votes(rows: Sequence[VoteRow]) -> TrainingData:
    """Votes in columns, by the plainest possible loop."""
    models = sorted({name for row in rows for name in (row[1], row[3])})
    prompts = list(dict.fromkeys(row[0] for row in rows))
    pairs: dict[tuple[str, str, str], int] = {}
    sides = [
        [pairs.setdefault(key, len(pairs)) for key in ((row[0], row[1], row[2]), (row[0], row[3], row[4]))]
        for row in rows
    ]
    table = PairTable(
        prompts=pa.array(prompts, pa.large_string()),
        models=tuple(models),
        responses=pa.array([response for _, _, response in pairs], pa.large_string()),
        histories=pa.array([""] * len(pairs), pa.large_string()),
        prompt_index=np.array([prompts.index(prompt) for prompt, _, _ in pairs], np.int32),
        model_index=np.array([models.index(model) for _, model, _ in pairs], np.int32),
    )
    a, b = np.array(sides, np.int32).reshape(-1, 2).T
    return TrainingData(table, a.copy(), b.copy(), np.array([row[5] for row in rows], np.int8))


@pytest.fixture(scope="session")
def arena() -> Arena:
    """A small synthetic arena."""
    return build_arena(seed=3, n_prompts=60)


@pytest.fixture
def real_data() -> Path:
    """Folder of the real votes."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real votes are not at {REAL_DATA}")
    return REAL_DATA
