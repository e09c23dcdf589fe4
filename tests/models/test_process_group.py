"""Training in two processes is training in one: every term of the loss on, dropout on, uneven shares."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from model_behavior.cli.app import run
from model_behavior.data.arena import build_arena, write_votes
from model_behavior.models.behavior.process_group import ProcessGroup

_ALL_TERMS = (
    *("--mining", "batch-hard", "--contrastive-weight", "0.3", "--proxy-margin", "0.2", "--vote-ties"),
    *("--compactness-weight", "0.1", "--kl-weight", "0.01", "--epochs", "2", "--batch-size", "37"),
    *("--min-comparisons", "1", "--seed", "4"),
)


def start_process(rank: int, port: int, arguments: list[str]) -> subprocess.Popen[str]:
    """One process as `torchrun --nproc-per-node 2` starts it."""
    source = str(Path(__file__).parents[2] / "src")
    meeting = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": source}
    command = [sys.executable, "-m", "model_behavior", *arguments]
    return subprocess.Popen(
        command, env={**os.environ, **meeting, **place}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    write_votes(build_arena(seed=3, n_prompts=8), tmp_path / "votes.parquet")
    arguments = ["train-encoder", str(tmp_path / "votes.parquet"), *_ALL_TERMS, "--output"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start_process(rank, port, [*arguments, str(tmp_path / "two")]) for rank in range(2)]
    assert run([*arguments, str(tmp_path / "one")]) == 0
    (first, errors), second = (process.communicate(timeout=200) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], errors + second[1]
    assert "encoder with" in first
    assert second == ("", "")
    one, two = (load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, expected in one.items():
        np.testing.assert_allclose(two[name], expected, rtol=1e-4, atol=5e-6, err_msg=name)


def test_shares_are_all_rows_once_and_nearly_equal() -> None:
    for size in (1, 2, 3, 7):
        for n_rows in (1, 6, 7, 100):
            shares = [ProcessGroup(rank, size).own(n_rows) for rank in range(size)]
            assert [row for share in shares for row in range(n_rows)[share]] == list(range(n_rows))
            lengths = [share.stop - share.start for share in shares]
            assert max(lengths) - min(lengths) <= 1


def test_a_process_alone_gathers_and_sums_nothing() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    parameter = torch.nn.Parameter(torch.ones(2))
    (rows * parameter).sum().backward()  # type: ignore[no-untyped-call]
    group = ProcessGroup()
    assert group.gather_rows(rows, 3) is rows
    group.sum_gradients([parameter])
    group.mean_gradients([parameter])
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3, 3]
