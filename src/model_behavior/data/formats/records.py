"""What a row becomes: a vote, a response, or a skip with its reason; and how its names, outcomes and flags are read.

Outcomes are in the words that published datasets use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model_behavior.data.byte_streams import shorten
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

Row = Mapping[str, Any]
_LABELS = {
    "model_a": Outcome.MODEL_A,
    "model_b": Outcome.MODEL_B,
    "both_bad": Outcome.BOTH_BAD,
    "tie (bothbad)": Outcome.BOTH_BAD,
}
_TRUE = {"1", "1.0", "true"}
_FALSE = {"0", "0.0", "false", ""}


@dataclass(frozen=True, slots=True)
class Vote:
    """One comparison. Histories are JSON lists of {role, content}, "" where there are no earlier turns."""

    prompt: str
    model_a: str
    response_a: str
    history_a: str
    model_b: str
    response_b: str
    history_b: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. `model` is None where the row names none."""

    prompt: str
    response: str
    history: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that cannot be used, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a vote as far as the row gives it."""

    model: str | None
    response: str | None
    history: str = ""


@dataclass(frozen=True)
class Format:
    """One published layout of rows.

    Attributes:
        name: what messages and reports call it.
        family: whether rows are votes or single responses.
        required: columns that must be there.
        optional: columns used where they are there.
        model_column: the column that names the model, for responses.
        convert: makes a row a record. Raises `DataError`, without the place, for an impossible value.
        warning: what the user should know about such data.
    """

    name: str
    family: Literal["votes", "responses"]
    required: tuple[str, ...]
    convert: Callable[[Row], Vote | Response | Skip]
    optional: tuple[str, ...] = ()
    model_column: str | None = None
    warning: str | None = None

    def columns_in(self, columns: tuple[str, ...]) -> list[str]:
        """Those of `columns` that the format uses."""
        return [column for column in (*self.required, *self.optional) if column in columns]


def build_vote(prompt: str | None, side_a: Side, side_b: Side, outcome: Outcome | None) -> Vote | Skip:
    """The vote, or why there is none. Empty texts pass: filters remove them, with a count."""
    if outcome is None:
        return Skip("no outcome")
    if side_a.model is None or side_b.model is None:
        return Skip("no model name")
    if side_a.model == side_b.model:
        return Skip("same model on both sides")
    if prompt is None:
        return Skip("no prompt")
    if side_a.response is None or side_b.response is None:
        return Skip("no response")
    return Vote(
        prompt,
        side_a.model,
        side_a.response,
        side_a.history,
        side_b.model,
        side_b.response,
        side_b.history,
        outcome,
    )


def build_response(prompt: str | None, side: Side) -> Response | Skip:
    """The response, or why there is none."""
    if prompt is None:
        return Skip("no prompt")
    if side.response is None:
        return Skip("no response")
    return Response(prompt, side.response, side.history, side.model)


def is_missing(value: Any) -> bool:
    """Whether a value is null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and value != value)


def model_name(value: Any, column: str) -> str | None:
    """A model's name as text; None where there is none.

    Raises:
        DataError: neither text nor a number.
    """
    if is_missing(value):
        return None
    if not isinstance(value, (str, int, float)):
        raise DataError(f"{column} is {shorten(value)}. Allowed: a model's name as text.")
    return str(value).strip() or None


def parse_outcome(value: Any, column: str = "winner") -> Outcome | None:
    """The outcome; None where there is none. Case and surrounding space don't matter.

    Raises:
        DataError: an unknown outcome.
    """
    if is_missing(value):
        return None
    if isinstance(value, Outcome):
        return value
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
