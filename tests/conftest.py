"""Small votes that tests share, and where the real ones are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that spin while they wait slow everything where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests that run side by side share the cores; each gets one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pytest

from model_behavior.cli.app import run
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


def held_out_rows(arena: Arena) -> list[dict[str, str]]:
    """The responses of an arena's held-out models: prompt, model, response."""
    pairs = arena.held_out_responses
    return [
        {"prompt": pairs.prompts[int(p)].as_py(), "model": pairs.models[int(m)], "response": response}
        for p, m, response in zip(pairs.prompt_index, pairs.model_index, pairs.responses.to_pylist(), strict=True)
    ]


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command that succeeds prints with --json."""
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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
