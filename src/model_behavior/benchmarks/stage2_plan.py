"""Settings of the stage-2 benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage2Plan:
    """Settings of the benchmark.

    Attributes:
        validation_fraction: share of prompts to measure on.
        held_out_share: share of LLMs held out, in whole families.
        seeds: one split, training of both stages and measurement for each.
        epochs: epochs of stage 1.
        batch_size: triplets per step of stage 1.
        draws: enrolments per k.
        predictions: measure predicted votes, too; without, only the ratings of new LLMs.
    """

    validation_fraction: float = 0.2
    held_out_share: float = 0.3
    seeds: int = 5
    epochs: int = 10
    batch_size: int = 128
    draws: int = 5
    predictions: bool = True
