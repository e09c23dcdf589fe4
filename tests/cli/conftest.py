"""What the tests of the commands share: votes, a small encoder, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes


def said(capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """JSON on stdout, text on stderr."""
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def start(arguments: list[str], cache: Path) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "model_behavior", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"MODEL_BEHAVIOR_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="session")
def fast(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a quick training."""
    path = tmp_path_factory.mktemp("fast") / "fast.toml"
    path.write_text('batch_size = 128\n[text]\nencoders = ["style"]\n[encoder.projection]\ndim = 16\n')
    return ["--config", str(path)]


@pytest.fixture(scope="session")
def votes(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small arena's votes as a file."""
    path = tmp_path_factory.mktemp("votes") / "votes.parquet"
    write_votes(arena, path)
    return path


@pytest.fixture(scope="session")
def stage1(votes: Path, fast: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with stage 1 alone, which no test may change."""
    folder = tmp_path_factory.mktemp("encoder") / "e"
    arguments = ["--epochs", "2", "--validation-fraction", "0.3", *fast]
    assert run(["train-encoder", str(votes), "--output", str(folder), *arguments]) == 0
    return folder
