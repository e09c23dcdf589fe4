"""Measures time and memory of pieces of work, and computes a lower bound of the time.

The ways that are compared take turns, so that other load on the machine affects all of them alike. The lower bound is
the number of operations divided by this machine's rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from model_behavior.models.behavior.text.execution import Precision

Work: TypeAlias = Callable[[int], object]
"""One piece of work, by the number of the repetition."""
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_TRIALS = 5
_ROWS = 2048
_COPIED_BYTES = 1 << 27
_HARDLY_FOUND = r"(?i)\b(?:zqxj|qzxj)\b"  # no literal start, so that every byte goes through the automaton


@dataclass(frozen=True)
class Timing:
    """Measurements of one way, by repetition.

    Attributes:
        items: number of things that one repetition handles, such as texts.
        seconds: elapsed time of each repetition.
        cpu_seconds: CPU time of all threads, of each repetition.
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


@dataclass(frozen=True)
class Machine:
    """Rates of this machine per second, the best of a few trials.

    Attributes:
        flops: floating-point operations of a matrix product of the transformer's width, by precision.
        copied: bytes of memory copied.
        scanned: bytes of text that one regular expression goes through.
        device: device of the matrix products.
    """

    flops: dict[Precision, float]
    copied: float
    scanned: float
    device: str


def take_turns(ways: Mapping[str, Work], repetitions: int, items: int) -> dict[str, Timing]:
    """Runs every way once per repetition, in an order that turns, so that what else the machine does hits all alike.

    Args:
        ways: pieces of work by name; called with the number of the repetition.
        repetitions: number of turns.
        items: number of things that one call handles.
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


def measure_machine(width: int, precisions: Sequence[Precision], texts: Sequence[str], device: str) -> Machine:
    """Measures this machine.

    Args:
        width: width of the transformer.
        precisions: precisions of its products.
        texts: texts that a regular expression is tried on.
        device: torch device of the products.
    """
    column = pa.array(texts, pa.large_string())
    n_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    source = np.ones(_COPIED_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)
    return Machine(
        flops={each: _gemm_rate(width, each, device) for each in precisions},
        copied=_COPIED_BYTES / _best(lambda: np.copyto(target, source)),
        scanned=n_bytes / _best(lambda: pc.count_substring_regex(column, _HARDLY_FOUND)),
        device=device,
    )


def transformer_flops(config: Any, lengths: Sequence[int]) -> float:
    """Floating-point operations of one pass over texts, products alone.

    Of each layer and token 4 h^2 multiplications for queries, keys, values and output, 2 h f for the two feed-forward
    products, and 2 t h for scores and weighted values over t tokens; an addition goes with each.

    Args:
        config: configuration of the transformer, as Hugging Face names its fields.
        lengths: tokens of each text.
    """
    h, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    tokens = np.asarray(lengths, dtype=np.float64)
    return float(2 * layers * (tokens * (4 * h**2 + 2 * h * f) + 2 * np.square(tokens) * h).sum())


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


def _gemm_rate(width: int, precision: Precision, device: str) -> float:
    kind = torch.float32 if precision == "f32" else torch.bfloat16
    left = torch.ones(_ROWS, width, dtype=kind, device=device)
    right = torch.ones(width, 4 * width, dtype=kind, device=device)

    def multiply() -> None:
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 2 * _ROWS * width * 4 * width / _best(multiply)


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_TRIALS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
