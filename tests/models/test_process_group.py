"""Training in two processes is training in one: every term of the loss on, dropout on, uneven shares."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from model_behavior.cli.app import run
from model_behavior.cli.console import ConsoleMonitor
from model_behavior.data.arena import Arena, write_votes
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import Outcome
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.preprocessing.entry_file import inside, read_entry
from tests.models.text.tiny_transformer import make_marked_votes, write_tiny_bert

_OPTIONS = (
    *("--epochs", "2", "--batch-size", "37", "--min-comparisons", "1", "--seed", "4", "--validation-fraction", "0.3"),
    *("--encoder", "style", "--encoder", "lexical", "--encoder", "finetuned", "--backend", "torch"),
)
_SETTINGS = """
[encoder.objectives]
contrastive = 0.3
compactness = 0.1
kl = 0.01
[text.reading]
model = "{bert}"
prompt_tokens = 4
response_tokens = 10
precision = "f32"
[text.tuning]
learning_rate = 0.003
steps = 40
rounds = 2
batch_size = 12
micro_batch = 10
"""


def train_in_two_processes(arguments: list[str], logs: Path) -> tuple[str, dict[int, str]]:
    """What the first process printed as its result, and what each said besides."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--redirects", "3"]
    meeting = ["--master-addr", "127.0.0.1", "--master-port", str(port), "--log-dir", str(logs)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, *meeting, "-m", "model_behavior", *arguments]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    printed = {path.parent.name: path.read_text() for path in logs.glob("*/*/*/stdout.log")}
    said = {int(path.parent.name): path.read_text() for path in logs.glob("*/*/*/stderr.log")}
    assert finished.returncode == 0, (finished.stderr, said)
    assert printed["1"] == ""
    return printed["0"], said


def test_torchrun_goes_on_where_one_process_was_cut_off_and_gives_what_it_would_have(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    votes = make_marked_votes()
    outcome = votes.outcome.copy()
    outcome[::5], outcome[::31] = Outcome.TIE, Outcome.BOTH_BAD
    write_votes(replace(arena, votes=replace(votes, outcome=outcome)), tmp_path / "votes.parquet")
    bert = write_tiny_bert(tmp_path / "bert")
    config = tmp_path / "config.toml"
    config.write_text(_SETTINGS.format(bert=bert))
    settings = ["train-encoder", str(tmp_path / "votes.parquet"), "--config", str(config), *_OPTIONS]

    def into(name: str) -> list[str]:
        return [*settings, "--output", str(tmp_path / name), "--cache", str(tmp_path / f"{name}-cache")]

    assert run(into("one")) == 0

    def stop(monitor: ConsoleMonitor, log: EpochLog) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleMonitor, "on_tuning_round", stop)
        assert run(into("two")) == 130
    best_before = inside(read_entry(tmp_path / ".two.checkpoint.tuning").arrays, "best.")
    printed, said = train_in_two_processes([*into("two"), "--resume"], tmp_path / "logs")
    assert "encoder with 4 models" in printed
    assert "round 2" in said[0]
    assert said[1] == ""
    assert not list(tmp_path.glob(".two.checkpoint*")), "no checkpoint is left"
    one, two = (load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    tuned = inside(two, "text_encoders.2.")
    assert sum(not np.array_equal(best_before[name], tuned[name]) for name in tuned) > 30, "the best round came later"
    for name, expected in one.items():
        # What is fitted to the tuned vectors has more of their rounding, most of all by solving equations; and Adam
        # divides it by the size of the gradient, however small that is.
        largest = np.abs(expected).max(initial=0)
        allowed = {"features": 1e-3 * largest, "head": 1e-5}.get(name.partition(".")[0], 1e-6)
        np.testing.assert_allclose(two[name], expected, rtol=0, atol=allowed, err_msg=name)


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
    assert group.gather_shares(rows, 3) is rows
    group.sum_gradients([parameter])
    group.mean_gradients([parameter])
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3, 3]
