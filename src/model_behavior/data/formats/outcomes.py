"""What the judge said, in the words that published datasets use."""

from __future__ import annotations

from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import is_missing
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

_LABELS = {
    "model_a": Outcome.MODEL_A,
    "model_b": Outcome.MODEL_B,
    "both_bad": Outcome.BOTH_BAD,
    "tie (bothbad)": Outcome.BOTH_BAD,
}
_TRUE = {"1", "1.0", "true"}
_FALSE = {"0", "0.0", "false", ""}


def parse_outcome(value: Any, column: str = "winner") -> Outcome | None:
    """The outcome; None where there is none. Case and surrounding space don't matter.

    Raises:
        DataError: an unknown outcome.
    """
    if is_missing(value):
        return None
    text = str(value).strip().casefold()
    if not text:
        return None
    known = _LABELS.get(text)
    if known is not None:
        return known
    if text.startswith("tie"):
        return Outcome.TIE
    raise DataError(
        f"unknown outcome {shorten(value)} in column {column}. Allowed: model_a, model_b, tie (or any text "
        "that starts with tie), both_bad, tie (bothbad). Fix: write one of these, or leave the value out to "
        "skip the row."
    )


def parse_flag(value: Any, column: str) -> bool:
    """A 0/1 flag, as number, bool or text; missing means 0.

    Raises:
        DataError: anything else.
    """
    text = "" if is_missing(value) else str(value).strip().casefold()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise DataError(f"{column} is {shorten(value)}. Allowed: 0 or 1.")
