"""The history of drift checks beside an artifact: one JSON object a line, appended, never changed.

What `append_checks` has returned from is on the disk. A line that a killed process has begun is skipped by readers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from model_behavior.catalog.drift import DriftReport
from model_behavior.errors import DataError
from model_behavior.files import locked_file, sync

HISTORY: Final = "drift.jsonl"
"""Name of the history in the folder of an artifact."""

_MOST_REASONS = 3


@dataclass(frozen=True)
class PastCheck:
    """One check of one model.

    Attributes:
        checked_at: time of the check, ISO 8601 in UTC.
        model: name of the model.
        kind: "responses" for new responses beside enrolled ones, "votes" for new votes beside the ratings, "thumbs" for
            the latest thumbs beside those before.
        n: number of new responses or votes, or of prompts with the latest thumbs.
        p_value: p-value of the check.
        effect: `DriftReport.effect`; of votes, the share of points won less the share predicted; of thumbs, the share
            of thumbs up less the share before.
        alpha: accepted rate of false alarms.
        changed: decision of the check.
        reasons: largest differences, in words; empty where there is none to tell.
    """

    checked_at: str
    model: str
    kind: Literal["responses", "votes", "thumbs"]
    n: int
    p_value: float
    effect: float
    alpha: float
    changed: bool
    reasons: tuple[str, ...] = ()

    def summary(self) -> str:
        """The check in one line."""
        verdict = "changed" if self.changed else "no change found"
        line = f"{self.model}: {verdict} (p = {self.p_value:.3g}, effect {self.effect:.2f}, {self.n:,} new {self.kind})"
        return f"{line}: {'; '.join(self.reasons)}" if self.reasons else line


_KEYS = {each.name for each in fields(PastCheck)}


def check_of(report: DriftReport, alpha: float, checked_at: str | None = None) -> PastCheck:
    """The record of a report; made now, unless a time is given."""
    return PastCheck(
        checked_at=now() if checked_at is None else checked_at,
        model=report.model,
        kind="responses",
        n=report.n_new,
        p_value=report.p_value,
        effect=report.effect,
        alpha=alpha,
        changed=report.changed,
        reasons=tuple(driver.text for driver in report.drivers[:_MOST_REASONS]) if report.changed else (),
    )


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def append_checks(path: Path, checks: Sequence[PastCheck]) -> None:
    """Appends checks, and returns once they are on the disk.

    Args:
        path: file of the history; the first check makes it.
        checks: checks, oldest first.

    Raises:
        OSError: the file cannot be written.
    """
    if not checks:
        return
    lines = "".join(json.dumps(asdict(check), ensure_ascii=False, allow_nan=False) + "\n" for check in checks)
    with locked_file(path):
        new = not path.exists()
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a killed process has begun
                    lines = "\n" + lines
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync(path.parent)


def read_checks(path: Path) -> list[PastCheck]:
    """All checks, oldest first; none where there is no file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return [check for line in content.splitlines() if (check := _check_of_line(line)) is not None]


def _check_of_line(line: bytes) -> PastCheck | None:
    try:
        value = json.loads(line)
        check = PastCheck(**{**{key: value[key] for key in _KEYS & value.keys()}, "reasons": tuple(value["reasons"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return check if _is_whole(check) else None


def _is_whole(check: PastCheck) -> bool:
    """True where the fields have the types that `append_checks` wrote, and no number is infinite or NaN."""
    texts = (check.checked_at, check.model, *check.reasons)
    numbers = (check.p_value, check.effect, check.alpha)
    return (
        all(isinstance(each, str) for each in texts)
        and check.kind in ("responses", "votes", "thumbs")
        and type(check.n) is int
        and all(type(each) in (int, float) and abs(each) < math.inf for each in numbers)
        and isinstance(check.changed, bool)
    )
