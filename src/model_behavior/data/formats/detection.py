"""Which published format a file is in, told by its columns."""

from __future__ import annotations

from collections.abc import Sequence

from model_behavior.data.formats.alpaca_eval import ANNOTATIONS, OUTPUTS
from model_behavior.data.formats.chat_logs import MESSAGES, RESPONSE_TABLE
from model_behavior.data.formats.conversations import ARENA, COMPAR_IA
from model_behavior.data.formats.records import Format
from model_behavior.data.formats.tables import KAGGLE, PLAIN, PPE
from model_behavior.errors import DataError
from model_behavior.names import nearest

FORMATS = (KAGGLE, PLAIN, PPE, ARENA, COMPAR_IA, ANNOTATIONS, OUTPUTS, MESSAGES, RESPONSE_TABLE)
"""All formats; where a file has the columns of several, the first one counts."""

_TEST_FILE = {"prompt", "response_a", "response_b"}


def detect_format(columns: Sequence[str]) -> Format:
    """The first format whose required columns are all there.

    Raises:
        DataError: none; lists the columns found, and what the nearest format misses.
    """
    found = set(columns)
    for known in FORMATS:
        if found.issuperset(known.required):
            return known
    listed = ", ".join(columns) or "none"
    has_outcome = any(column.startswith("winner") for column in columns)
    if found >= _TEST_FILE and not found & {"model_a", "model_b"} and not has_outcome:
        raise DataError(
            f"this is the test file without model names (columns: {listed}). Fix: use train.csv or train.parquet."
        )
    nearest = max(FORMATS, key=lambda known: _share(known, found))
    if _share(nearest, found) == 0:
        minimum = ", ".join(PLAIN.required)
        raise DataError(
            f"unknown format. Columns found: {listed}. Allowed for votes, at least: {minimum}; for "
            f"responses: {', '.join(RESPONSE_TABLE.required)}."
        )
    missing = [column for column in nearest.required if column not in found]
    raise DataError(
        f"unknown format. Columns found: {listed}. Nearest format: {nearest.name}; "
        f"missing: {', '.join(missing)}. Fix: {_suggest(missing, columns)}."
    )


def _share(known: Format, found: set[str]) -> float:
    return len(found.intersection(known.required)) / len(known.required)


def _suggest(missing: list[str], columns: Sequence[str]) -> str:
    found = ((column, nearest(columns, column, 1, 0.75)) for column in missing)
    renames = [f"rename {near[0]!r} to {column!r}" for column, near in found if near]
    return "; ".join(renames) or "add or rename columns"
