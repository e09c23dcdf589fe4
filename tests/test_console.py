"""Progress says how far, how fast and how long still, and keeps quiet about short tasks."""

from __future__ import annotations

import json
import sys

import pytest

from model_behavior.cli.console import Progress, print_result


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("model_behavior.cli.console.time.monotonic", made.monotonic)
    return made


def test_rate_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.show("encoding", 1000, 5000)
    clock.now += 20
    progress.show("encoding", 3000, 5000)
    clock.now += 1
    progress.show("encoding", 3100, 5000)
    assert capsys.readouterr().err == "encoding: 3,000 of 5,000 (100/s, 20 s left)\n"


def test_an_unknown_total_shows_the_rate_alone(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.show("reading", 0, None)
    clock.now += 10
    progress.show("reading", 50_000, None)
    assert capsys.readouterr().err == "reading: 50,000 (5,000/s)\n"


def test_short_tasks_are_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for task in ("one", "two"):
        for step in range(4):
            progress.show(task, step, 3)
            clock.now += 0.4
    assert capsys.readouterr().err == ""


def test_a_terminal_is_redrawn_and_cleared(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress()
    progress.show("training", 0, 9000)
    clock.now += 3
    progress.show("training", 30, 9000)
    progress.close()
    line = "training: 30 of 9,000 (10/s, 15 min left)"
    assert capsys.readouterr().err == f"\r\x1b[2K{line}\r\x1b[2K"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"a": float("nan"), "b": [float("inf"), 1.5], "c": "é"}, as_json=True, text="")
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [None, 1.5], "c": "é"}
    print_result({}, as_json=False, text="plain")
    assert capsys.readouterr().out == "plain\n"
