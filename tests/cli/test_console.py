"""Progress says how far, how fast and how long still, and keeps quiet about short tasks."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator

import pytest

from model_behavior.cli.console import Progress, print_result
from model_behavior.cli.entry import remembering_interrupts


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    # The module's name for it alone: other threads, such as a server's, go on by the real one.
    monkeypatch.setattr("model_behavior.cli.console.time", made)
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


@pytest.fixture
def default_interrupt() -> Iterator[None]:
    """SIGINT as it is in a terminal; a test that a script started in the background would inherit it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_a_library_has_swallowed_is_raised_again(default_interrupt: None) -> None:
    progress = Progress()
    with remembering_interrupts():
        progress.show("training", 1, 9)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            progress.show("training", 2, 9)
    progress.show("training", 3, 9)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_was_ignored_before_stays_ignored(default_interrupt: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with remembering_interrupts():
        signal.raise_signal(signal.SIGINT)
        Progress().show("training", 1, 9)
