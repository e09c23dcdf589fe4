"""Small votes that tests share, and where the real ones are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

# Before torch is loaded: threads that spin while they wait slow everything where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests that run side by side share the cores; each gets one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pytest
import torch
from filelock import FileLock
from threadpoolctl import threadpool_limits

from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, build_arena, write_votes
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.evaluation import recognition, stage2

REAL_DATA = Path(__file__).parents[1].parent / "shared" / "data"

FAST = ("--encoder", "style", "--epochs", "1", "--scorer-epochs", "2", "--validation-fraction", "0.3")
"""Options of `train` where a test needs both stages and no quality."""

VoteRow = tuple[str, str, str, str, str, Outcome]
"""prompt, model_a, response_a, model_b, response_b, outcome"""

MakeOnce: TypeAlias = Callable[[str, Callable[[Path], object]], Path]


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


@contextmanager
def one_thread() -> Iterator[None]:
    """As many as a process that a test starts has: a sum over several threads differs in its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that may take longest start first, so that no core waits for one of them at the end."""

    def limit(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return marker.args[0] if marker else 0

    items.sort(key=limit, reverse=True)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """`make_once(name, make)`: a folder that `make` fills, made once for all processes that test side by side."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / f"once-{name}"
        with FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(make_once: MakeOnce) -> Iterator[None]:
    """Keeps the tests out of the user's cache; processes that test side by side share one, as users' may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_BEHAVIOR_CACHE", str(make_once("cache", lambda folder: None)))
        yield


@pytest.fixture(scope="module")
def few_replicates() -> Iterator[None]:
    """A fifth or less of the bootstrap replicates that intervals are made of, where a test is of what is shown."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((recognition, "_REPLICATES"), (recognition, "_PART_REPLICATES"), (stage2, "_REPLICATES")):
            patch.setattr(module, name, 20)
        yield


@pytest.fixture(scope="session")
def arena() -> Arena:
    """A small synthetic arena."""
    return build_arena(seed=3, n_prompts=60)


@pytest.fixture(scope="session")
def scored_arena(arena: Arena, make_once: MakeOnce) -> Path:
    """The small arena's `votes.parquet`, and `a`, both stages trained on it, which no test may change."""

    def make(folder: Path) -> None:
        write_votes(arena, folder / "votes.parquet")
        options = ["--encoder", "style", "--epochs", "2", "--validation-fraction", "0.3"]
        assert run(["train", str(folder / "votes.parquet"), "--output", str(folder / "a"), *options]) == 0

    return make_once("scored", make)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real votes."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real votes are not at {REAL_DATA}")
    return REAL_DATA
