"""The least that a stage can cost: its counted operations over what this machine does in a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from model_behavior.models.behavior.execution import Precision

_TRIALS = 5
_ROWS = 2048
_COPIED_BYTES = 1 << 27
_HARDLY_FOUND = r"(?i)\b(?:zqxj|qzxj)\b"  # no literal start, so that every byte goes through the automaton


@dataclass(frozen=True)
class Machine:
    """What this machine does in a second, the best of a few trials.

    Attributes:
        flops: floating-point operations of a matrix product of the transformer's width, by precision.
        copied: bytes of memory copied.
        scanned: bytes of text that one regular expression goes through.
        device: where the products were taken.
    """

    flops: dict[Precision, float]
    copied: float
    scanned: float
    device: str


def measure_machine(width: int, precisions: Sequence[Precision], texts: Sequence[str], device: str) -> Machine:
    """Measures it.

    Args:
        width: of the transformer.
        precisions: of its products.
        texts: what a regular expression is tried on.
        device: torch's name of where the products are taken.
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
        config: of the transformer, as Hugging Face names its fields.
        lengths: tokens of each text.
    """
    h, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    tokens = np.asarray(lengths, dtype=np.float64)
    return float(2 * layers * (tokens * (4 * h**2 + 2 * h * f) + 2 * np.square(tokens) * h).sum())


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
