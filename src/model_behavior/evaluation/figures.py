"""Measured values with their sample size and bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array, Int64Array, IntArray

REPLICATES = 1000
_LEVEL = 0.95


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        value: the estimate.
        low: lower end of the 95 % bootstrap interval, clustered by prompt.
        high: upper end of the interval.
        n: number of observations.
    """

    value: float
    low: float
    high: float
    n: int


def bootstrap_share(hits: BoolArray | Float64Array, cluster: IntArray, rng: np.random.Generator) -> Figure:
    """The share of hits, with an interval from resampling whole clusters (Efron and Tibshirani 1993).

    Args:
        hits: True for each hit, or the share of a hit that it counts as, [n].
        cluster: cluster of each observation, here its prompt, [n].
        rng: generator that draws the replicates.
    """
    if not len(hits):
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    _, member = np.unique(cluster, return_inverse=True)
    size = np.bincount(member).astype(float)
    won = np.bincount(member, weights=hits)
    times = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), REPLICATES)
    low, high = interval((times @ won) / (times @ size))
    return Figure(float(hits.mean()), low, high, len(hits))


def bootstrap_prompts(
    prompt: IntArray,
    measure: Callable[[Int64Array], float],
    replicates: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The interval of any figure, which is measured again on resampled prompts.

    Args:
        prompt: prompt of each row, [n_rows].
        measure: function from row indices, with repeats, to the figure.
        replicates: number of bootstrap replicates.
        rng: generator that draws the prompts.
    """
    return interval(np.array([measure(rows) for rows in resample_prompts(prompt, replicates, rng)]))


def resample_prompts(prompt: IntArray, replicates: int, rng: np.random.Generator) -> Iterator[Int64Array]:
    """The rows of each bootstrap replicate: as many prompts as there are, drawn with replacement."""
    order = np.argsort(prompt, kind="stable")
    rows_of_prompt = np.split(order, np.flatnonzero(np.diff(prompt[order])) + 1)
    for _ in range(replicates):
        drawn = rng.integers(0, len(rows_of_prompt), len(rows_of_prompt))
        yield np.concatenate([rows_of_prompt[index] for index in drawn])


def interval(values: Float64Array) -> tuple[float, float]:
    """The middle 95 % of bootstrap replicates. NaN replicates are ignored; NaN where all are."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    tail = (1 - _LEVEL) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
