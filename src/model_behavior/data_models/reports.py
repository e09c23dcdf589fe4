"""What was read, what was left out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SourceReport:
    """One file, shard or dataset: `rows` == `used` + the sum of `skipped`."""

    source: str
    format: str
    rows: int
    used: int
    skipped: Mapping[str, int]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """All sources of one load, in order."""

    sources: tuple[SourceReport, ...]


@dataclass(frozen=True)
class FilterReport:
    """What filtering did. `votes_before` == `votes_after` + the sum of `removed`.

    Attributes:
        removed: votes removed, by reason.
        rare_models: models dropped because they had too few comparisons, sorted.
        masked_responses: responses in which the model named itself or its maker, now masked.
    """

    votes_before: int
    votes_after: int
    removed: Mapping[str, int]
    rare_models: tuple[str, ...]
    masked_responses: int
