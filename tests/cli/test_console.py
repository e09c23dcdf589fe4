"""Progress says how far, how fast and how long still, and keeps quiet about short tasks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from model_behavior.cli.app import run
from model_behavior.cli.console import Progress, clear_bar, counted, print_load_report, print_result, stderr
from model_behavior.data_models.votes import LoadReport, SourceReport


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


def make_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the test itself: fixtures have another stderr."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


HIDE, SHOW, ERASE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


def test_a_terminal_is_redrawn_and_cleared(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch)
    progress = Progress()
    progress.show("training", 0, 9000)
    clock.now += 1.9
    progress.show("training", 20, 9000)
    assert capsys.readouterr().err == "", "a short task has no bar"
    clock.now += 1.1
    progress.show("training", 30, 9000)
    clock.now += 0.1
    progress.show("training", 31, 9000)  # too soon to draw again
    clock.now += 2.9
    progress.show("training", 90, 9000)
    shown = capsys.readouterr().err
    drawn = [frame for frame in shown.split(ERASE) if re.search(r"training .*━", frame)]
    figures = [re.findall(r"\d+ of 9,000 \(.*\)", frame)[0] for frame in drawn]
    assert list(dict.fromkeys(figures)) == [
        "30 of 9,000 (10/s, 15 min left)",
        "90 of 9,000 (15/s, 10 min left)",
    ]
    assert HIDE in shown and SHOW not in shown
    clear_bar()
    cleared = capsys.readouterr().err
    assert ERASE in cleared and SHOW in cleared and "training" not in cleared.split(ERASE)[-1]


def test_a_line_clears_the_bar_and_the_next_step_draws_it_again(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch)
    progress = Progress()
    for done in (0, 30, 60):
        progress.show("reading", done, None)
        clock.now += 3
    stderr().print("a warning")
    progress.show("reading", 90, None)
    clear_bar()
    shown = capsys.readouterr().err
    before, after = shown.split("a warning")
    assert "reading" not in before[before.rindex(ERASE) :] and SHOW in before
    assert "90 (10/s)" in after and SHOW in after and after.endswith(ERASE)


def test_the_command_line_leaves_the_terminal_as_it_was(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch)

    def interrupted(context: object) -> None:
        progress = Progress()
        progress.show("training", 0, 9)
        clock.now += 3
        progress.show("training", 1, 9)
        raise KeyboardInterrupt

    monkeypatch.setattr("model_behavior.cli.measure_commands.open_cache", interrupted)
    assert run(["cache", "info"]) == 130
    shown = capsys.readouterr().err
    assert shown.index("training") < shown.rindex(ERASE) and shown.rindex(HIDE) < shown.rindex(SHOW)


def test_what_a_command_prints_is_no_part_of_the_drawing(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch)
    progress = Progress()
    for done in (0, 1):
        progress.show("training", done, 9)
        clock.now += 3
    print_result({"a": 1}, as_json=True, text="")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1} and SHOW in captured.err


def test_a_dumb_terminal_gets_lines(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    progress = Progress()
    for done in (0, 20):
        progress.show("reading", done, None)
        clock.now += 10
    assert capsys.readouterr().err == "reading: 20 (2/s)\n"


def test_a_task_that_begins_again_is_measured_anew(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for done in (0, 500):
        progress.show("encoding", done, 1000)
        clock.now += 5
    progress.show("encoding", 100, 1000)
    clock.now += 10
    progress.show("encoding", 200, 1000)
    assert capsys.readouterr().err == "encoding: 200 of 1,000 (10/s, 80 s left)\n"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"a": float("nan"), "b": [float("inf"), 1.5], "c": "é"}, as_json=True, text="")
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [None, 1.5], "c": "é"}
    print_result({}, as_json=False, text="plain")
    assert capsys.readouterr().out == "plain\n"


def in_a_process_of_its_own(body: str) -> None:
    """Runs statements where SIGINT is as in a terminal; an interrupt that is not caught must not end the tests."""
    script = f"""
import contextlib, signal
from model_behavior.cli.console import Progress
from model_behavior.cli.entry import remembering_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
progress = Progress()
{textwrap.dedent(body)}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_that_a_library_has_swallowed_is_raised_again() -> None:
    in_a_process_of_its_own("""
        with remembering_interrupts():
            progress.show("training", 1, 9)
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            try:
                progress.show("training", 2, 9)
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError("the interrupt was lost")
        progress.show("training", 3, 9)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    """)


def test_an_interrupt_that_was_ignored_before_stays_ignored() -> None:
    in_a_process_of_its_own("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with remembering_interrupts():
            signal.raise_signal(signal.SIGINT)
            progress.show("training", 1, 9)
    """)


def test_one_of_a_thing_is_not_many() -> None:
    assert [counted(n, "more response") for n in (0, 1, 2_000)] == [
        "0 more responses",
        "1 more response",
        "2,000 more responses",
    ]
    assert (counted(1, "entry"), counted(3, "entry")) == ("1 entry", "3 entries")


HOSTILE = "evil\x1b]0;owned\x07\x9b2J\r\u202egnp.exe\x7f\ud800"


def test_nothing_from_a_file_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = "evil\\u001b]0;owned\\u0007\\u009b2J\\u000d\\u202egnp.exe\\u007f\\ud800"
    stderr().print(f"name {HOSTILE}", markup=False)
    print_result({"name": HOSTILE}, True, "")
    print_result({}, False, f"{HOSTILE}\n\tsecond line")
    found = capsys.readouterr()
    assert found.err == f"name {shown}\n"
    as_json, _, as_text = found.out.partition("}\n")
    assert json.loads(as_json + "}") == {"name": HOSTILE}
    assert as_text == f"{shown}\n\tsecond line\n"


def test_names_and_contents_of_files_are_shown_as_they_are_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "votes\x1b[2J.csv"
    path.write_text("prompt,model_a\x1b[31m\nx,y\n")
    assert run(["train", str(path), "--output", str(tmp_path / "out")]) != 0
    found = capsys.readouterr()
    assert "\x1b" not in found.err + found.out and "\\u001b" in found.err


def test_of_many_files_the_sums_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sources = [
        SourceReport(
            f"{number}.parquet", "plain table", 10, 9, {"no outcome": 1}, ("a caution",), (f"note {number % 2}",)
        )
        for number in range(30)
    ]
    print_load_report(LoadReport(tuple(sources[:20])))
    assert len(capsys.readouterr().err.splitlines()) == 20 * 3
    print_load_report(LoadReport(tuple(sources)))
    assert capsys.readouterr().err.splitlines() == [
        "30 files: plain table, 270 of 300 rows used; skipped 30 no outcome",
        "  note 0",
        "  note 1",
        "warning: a caution",
    ]
