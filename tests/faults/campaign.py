"""A fault campaign: cases that break the program on purpose, and the table of what was lost.

A case is a function from a folder of its own to an `Outcome`. `python -m tests.faults` runs all of them, prints the
table, writes it where it is asked to, and ends with 1 where anything was lost, wrong or unanswered.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_behavior.cli.app import run

_WRITING = ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "pwrite", "ftruncate")


@dataclass
class Outcome:
    """What a case found.

    Attributes:
        faults: number of faults that were caused.
        lost: number of things that were acknowledged and are gone.
        wrong: number of states or answers that are neither the old nor the new one.
        unanswered: number of health checks without an answer.
        errors: number of answers of 500 or above that are not 503.
        notes: what went wrong, one line each.
        peak_bytes: largest memory of a process, 0 where it is not measured.
    """

    faults: int = 0
    lost: int = 0
    wrong: int = 0
    unanswered: int = 0
    errors: int = 0
    notes: list[str] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def failed(self) -> bool:
        """True where a promise was broken."""
        return bool(self.lost or self.wrong or self.unanswered or self.errors)

    def blame(self, kind: str, note: str) -> None:
        """Counts one failure of a kind, which is the name of an attribute."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(note)


@dataclass(frozen=True)
class Case:
    """A case of the campaign.

    Attributes:
        name: fault, as the table names it.
        promise: what holds all the same.
        run: causes the faults in a folder of its own, with a source of chance.
    """

    name: str
    promise: str
    run: Callable[[Path, random.Random], Outcome]


def start_process(work: Callable[[], int], kill_at_call: int | None = None) -> int:
    """Starts `work` in a copy of this process, without its output; returns the id of the process.

    Args:
        work: returns the exit code.
        kill_at_call: number of the file call, from 1, at which the process kills itself; never by default.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        if kill_at_call is not None:
            _kill_at(kill_at_call)
        code = work()
    finally:
        os._exit(code)


def _kill_at(number: int) -> None:
    """Ends this process with SIGKILL before one of its file calls."""
    calls = 0

    def wrap(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counted

    for name in _WRITING:
        setattr(os, name, wrap(getattr(os, name)))


def end_process(child: int) -> int:
    """Waits for a process; returns its exit code, minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_process(child: int, after: float) -> bool:
    """Kills a process after some seconds; returns False where it had ended before."""
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return end_process(child) == -signal.SIGKILL


def command(*words: object) -> Callable[[], int]:
    """The command line with these words, for `start_process`."""
    return lambda: run([str(word) for word in words])


def run_campaign(cases: Sequence[Case], folder: Path, seed: int, seconds: float) -> tuple[str, bool]:
    """Runs the cases until the time is over; returns the table in Markdown, and whether every promise was kept."""
    started, kept = time.monotonic(), True
    lines = [
        "| fault | faults | lost | wrong | unanswered | 5xx but 503 | what holds |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for number, case in enumerate(cases):
        if time.monotonic() - started > seconds:
            lines.append(f"| {case.name} | not run: the time was over | | | | | {case.promise} |")
            kept = False
            continue
        place = folder / str(number)
        place.mkdir()
        begun = time.monotonic()
        found = case.run(place, random.Random(seed + number))
        figures = (found.faults, found.lost, found.wrong, found.unanswered, found.errors)
        lines.append(f"| {case.name} | {' | '.join(map(str, figures))} | {case.promise} |")
        sys.stderr.write(f"{time.monotonic() - begun:5.0f} s  {lines[-1]}\n")
        for note in found.notes[:10]:
            sys.stderr.write(f"         {note}\n")
        kept = kept and not found.failed and found.faults > 0
    return "\n".join(lines), kept
