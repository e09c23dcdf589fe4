"""A fault campaign: cases that break the program on purpose, and the table of what was lost.

A case is a function from a folder of its own to an `Outcome`, in a process of its own; two run at once. `python -m
tests.faults` runs all of them, prints the table, writes it where it is asked to, and ends with 1 where anything was
lost, wrong or unanswered.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from model_behavior.cli.app import run

_AT_ONCE = 2
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
        kills: number of the faults that were a SIGKILL.
        peak_bytes: most memory that one process had.
    """

    faults: int = 0
    lost: int = 0
    wrong: int = 0
    unanswered: int = 0
    errors: int = 0
    notes: list[str] = field(default_factory=list)
    kills: int = 0
    peak_bytes: int = 0

    @property
    def kept(self) -> bool:
        """True where there were faults, and every promise was kept."""
        return self.faults > 0 and not (self.lost or self.wrong or self.unanswered or self.errors)

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


def start_process(work: Callable[[], int], before_call: Callable[[int], None] | None = None) -> int:
    """Starts `work` in a copy of this process, without its output; returns the id of the process.

    Args:
        work: returns the exit code.
        before_call: called before each file call with its number, from 1.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        if before_call is not None:
            _watch_calls(before_call)
        code = work()
    finally:
        os._exit(code)


def kill_at(number: int) -> Callable[[int], None]:
    """For `start_process`: ends the process with SIGKILL before this file call."""

    def kill(call: int) -> None:
        if call == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def copy_at_every_call(folder: Path, states: Path) -> Callable[[int], None]:
    """For `start_process`: copies a folder before each file call, as a kill would leave it, to `states/NUMBER`."""
    return lambda call: (shutil.copytree(folder, states / str(call)), None)[1]


def _watch_calls(before_call: Callable[[int], None]) -> None:
    calls, inside = 0, False

    def wrap(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **named: object) -> object:
            nonlocal calls, inside
            if not inside:
                calls, inside = calls + 1, True
                before_call(calls)
                inside = False
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


@dataclass
class _Running:
    """A case in a process of its own, which writes its outcome to a pipe."""

    number: int
    case: Case
    child: int
    result: int
    begun: float


def run_campaign(cases: Sequence[Case], folder: Path, seed: int, seconds: float) -> tuple[str, bool]:
    """Runs the cases, two at once; returns the table in Markdown, and whether every promise was kept.

    Args:
        cases: cases, the longest first.
        folder: folder for their files.
        seed: seed of chance.
        seconds: time after which cases are ended, and blamed for it.
    """
    deadline = time.monotonic() + seconds
    waiting, running, found = list(enumerate(cases)), list[_Running](), dict[int, Outcome]()
    try:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                running.append(_start_case(*waiting.pop(0), folder, seed))
            ended = [each for each in running if os.waitpid(each.child, os.WNOHANG)[0]]
            if time.monotonic() > deadline:
                ended, waiting = running, []
            for each in ended:
                running = [other for other in running if other is not each]
                found[each.number] = _end_case(each)
                _say(each, found[each.number], len(found), len(cases))
            time.sleep(0.05)
    finally:  # Ctrl-C leaves no case behind
        for each in running:
            _end_case(each)
    return _draw_table(cases, found), all(found.get(number, Outcome()).kept for number in range(len(cases)))


def _start_case(number: int, case: Case, folder: Path, seed: int) -> _Running:
    place = folder / str(number)
    place.mkdir()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return _Running(number, case, child, reading, time.monotonic())
    os.setsid()
    outcome = Outcome()
    try:
        outcome = case.run(place, random.Random(seed + number))
    except BaseException as error:  # noqa: BLE001  the campaign goes on, and the table says it
        traceback.print_exc()
        outcome.blame("wrong", f"the case itself failed: {error!r}")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome.peak_bytes = max(outcome.peak_bytes, usage.ru_maxrss << 10)
    with os.fdopen(writing, "w", encoding="utf-8") as file:
        json.dump(asdict(outcome), file)
    os._exit(0)


def _end_case(each: _Running) -> Outcome:
    """What a case has found; one that still runs is ended with all its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(each.child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(each.child, 0)
    with os.fdopen(each.result, encoding="utf-8") as file:
        content = file.read()
    if content:
        return Outcome(**json.loads(content))
    return Outcome(notes=["not finished in time"], wrong=1)


def _say(each: _Running, found: Outcome, done: int, of: int) -> None:
    took = time.monotonic() - each.begun
    verdict = "kept" if found.kept else "BROKEN"
    line = f"{done:2} of {of}  {took:4.0f} s  {verdict:6}  {found.faults:4} faults  {each.case.name}"
    sys.stderr.write("\n".join([line, *(f"              {note}" for note in found.notes[:10])]) + "\n")


def _draw_table(cases: Sequence[Case], found: Mapping[int, Outcome]) -> str:
    lines = [
        "| fault | faults | of these kills | lost | wrong | unanswered | 5xx but 503 | memory, MiB | what holds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for number, case in enumerate(cases):
        each = found.get(number)
        if each is None:
            lines.append(f"| {case.name} | not run: the time was over | | | | | | | {case.promise} |")
            continue
        figures = (each.faults, each.kills, each.lost, each.wrong, each.unanswered, each.errors, each.peak_bytes >> 20)
        lines.append(f"| {case.name} | {' | '.join(f'{figure:,}' for figure in figures)} | {case.promise} |")
    every = found.values()
    columns = ("faults", "kills", "lost", "wrong", "unanswered", "errors")
    sums = [sum(getattr(each, name) for each in every) for name in columns]
    peak = max((each.peak_bytes for each in every), default=0) >> 20
    lines.append(f"| **all** | {' | '.join(f'{figure:,}' for figure in (*sums, peak))} | |")
    return "\n".join(lines)
