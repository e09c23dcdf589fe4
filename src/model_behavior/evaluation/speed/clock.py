"""Time and memory of pieces of work, the ways to compare taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

Work: TypeAlias = Callable[[int], object]
"""One piece of work, by the number of the repetition."""

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timing:
    """One way's repetitions.

    Attributes:
        items: what one repetition handles, such as texts.
        seconds: elapsed, of each repetition.
        cpu_seconds: of all threads, of each repetition.
        peak_bytes: the largest memory of the process while it ran, with what was there before; None where the system
            does not tell.
    """

    items: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    peak_bytes: int | None

    @property
    def rate(self) -> float:
        """Items a second, median."""
        return self.items / max(float(np.median(self.seconds)), 1e-9)

    @property
    def cpu_per_item(self) -> float:
        """CPU seconds of one item, median."""
        return float(np.median(self.cpu_seconds)) / max(self.items, 1)


@dataclass(frozen=True)
class Ratio:
    """How many times faster one way is than another: median, least and greatest of the repetitions."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def take_turns(ways: Mapping[str, Work], repetitions: int, items: int) -> dict[str, Timing]:
    """Runs every way once per repetition, in an order that turns, so that what else the machine does hits all alike.

    Args:
        ways: by name; called with the number of the repetition.
        repetitions: turns.
        items: that one call handles.
    """
    names = list(ways)
    parts: dict[str, list[Timing]] = {name: [] for name in names}
    for turn in range(repetitions):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            parts[name].append(clock(partial(ways[name], turn), items))
    return {
        name: Timing(
            items,
            tuple(each.seconds[0] for each in timings),
            tuple(each.cpu_seconds[0] for each in timings),
            max((each.peak_bytes for each in timings if each.peak_bytes is not None), default=None),
        )
        for name, timings in parts.items()
    }


def clock(work: Callable[[], object], items: int) -> Timing:
    """Runs a piece of work once."""
    tells = _reset_peak()
    started, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return Timing(items, (seconds,), (cpu_seconds,), _peak() if tells else None)


def faster(one: Timing, other: Timing, by_cpu: bool = False) -> Ratio:
    """How many times faster `one` is than `other`, item for item, turn by turn."""
    mine, theirs = (
        np.array(timing.cpu_seconds if by_cpu else timing.seconds) / timing.items for timing in (one, other)
    )
    turns = min(len(mine), len(theirs))
    ratios = theirs[:turns] / np.maximum(mine[:turns], 1e-12)
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))


def _reset_peak() -> bool:
    """Lets Linux count the peak of this process's memory anew; False where it cannot."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int | None:
    lines = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    found = next(lines, None)
    return None if found is None else int(found.split()[1]) * 1024
