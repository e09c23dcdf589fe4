"""What a row becomes: votes, responses, or a skip with its reason; and how its names, outcomes and flags are read."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from model_behavior.data.byte_streams import shorten
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

Row = Mapping[str, Any]
_SPELLINGS = {
    Outcome.MODEL_A: "model_a a left model_1 first response_a response_1 answer_a output_1 assistant_a",
    Outcome.MODEL_B: "model_b b right model_2 second response_b response_2 answer_b output_2 assistant_b",
    Outcome.TIE: "tie tied draw equal both_equal both_good tie_both_good tie_inconsistent",
    Outcome.BOTH_BAD: "both_bad tie_both_bad",
}
_OUTCOMES = {
    spelling.replace("_", ""): outcome for outcome, listed in _SPELLINGS.items() for spelling in listed.split()
}
_VERDICTS = {
    "a>>b": Outcome.MODEL_A,
    "a>b": Outcome.MODEL_A,
    "a=b": Outcome.TIE,
    "b>a": Outcome.MODEL_B,
    "b>>a": Outcome.MODEL_B,
}
"""Arena-Hard's: without their signs, A>B and A=B would be the same."""

_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
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


Record: TypeAlias = Vote | Response | Skip | tuple[Vote | Response, ...]
"""What a row becomes. Several where it holds several: ranked answers, the turns of an answer, the games of a judge."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a vote as far as the row gives it."""

    model: str | None
    response: str | None
    history: str = ""


@dataclass(frozen=True)
class Links:
    """What rows need of other files.

    Attributes:
        question: the row of a question by its key, None where there is none.
        answer: the rows of an answer by model and key, with the question's row, None where there is none.
        baseline: model that the rows are compared with where they do not name it.
        file_model: model after which the file is named.
        is_named_by_file: True where that name counts, whatever the rows say.
    """

    question: Callable[[str], Row | None]
    answer: Callable[[str, str], tuple[Row, Row | None] | None]
    baseline: Callable[[], str]
    file_model: str
    is_named_by_file: bool = False


@dataclass(frozen=True)
class Format:
    """One published layout of rows.

    Attributes:
        name: name in messages and reports.
        family: kind of the rows. Questions are only read with their answers, or for prompts; battles have no texts.
        required: columns that must be there.
        convert: makes a row a record. Raises `DataError`, without the place, for an impossible value.
        optional: columns used where they are there.
        unread: columns of text that are known and not read; a file with any other known one is in another format.
        model_columns: columns that name the model of a response, the first that is there counts.
        names_models: True where rows name the model inside an object rather than in a column.
        outcome_column: column that holds the outcome as one value.
        warning: caution about such data, for the user.
        note: remark of the report on the columns taken.
        prefixes: beginnings of the names of further columns that are used.
        needs: other files without which rows have no text; `link` is called in place of `convert`.
        link: function like `convert` that is also given the other files.
    """

    name: str
    family: Literal["votes", "responses", "questions", "battles"]
    required: tuple[str, ...]
    convert: Callable[[Row], Record]
    optional: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()
    model_columns: tuple[str, ...] = ()
    names_models: bool = False
    outcome_column: str | None = None
    warning: str | None = None
    note: str | None = None
    prefixes: tuple[str, ...] = ()
    needs: Literal["questions", "answers"] | None = None
    link: Callable[[Row, Links], Record] | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that the format uses."""
        return (*self.required, *self.optional, *self.model_columns)

    def uses(self, column: str) -> bool:
        """Whether the format uses a column."""
        return column in self.used or column.startswith(self.prefixes)


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


def join_records(records: list[Vote | Skip] | list[Response | Skip] | list[Vote | Response | Skip]) -> Record:
    """The records of one row that can be used, or why none can."""
    usable = tuple(record for record in records if not isinstance(record, Skip))
    if usable:
        return usable if len(usable) > 1 else usable[0]
    return next((record for record in records if isinstance(record, Skip)), Skip("nothing to compare"))


def is_missing(value: Any) -> bool:
    """Whether a value is null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and value != value)


def model_name(value: Any, column: str) -> str | None:
    """A model's name as text in NFC, without space around it; None where there is none.

    Raises:
        DataError: neither text nor a number, or a control or bidirectional character in it.
    """
    if is_missing(value):
        return None
    if not isinstance(value, (str, int, float)):
        raise DataError(f"{column} is {shorten(value)}. Allowed: a model's name as text. Fix: write one name.")
    return clean_name(str(value), column) or None


@lru_cache(maxsize=4096)
def clean_name(name: str, column: str) -> str:
    """The name in NFC without space around it.

    Raises:
        DataError: a control or bidirectional character, which would be seen nowhere, or turn the name around.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    for character in clean:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _BIDIRECTIONAL:
            kind = "bidirectional" if character in _BIDIRECTIONAL else "control"
            raise DataError(
                f"{column} is {clean!a}, which holds the {kind} character U+{ord(character):04X}. Allowed: names "
                "of visible characters. Fix: remove it from the name."
            )
    return clean


def fold_outcome(value: Any) -> str:
    """A value as outcomes are compared: without case, spaces and punctuation."""
    return "".join(character for character in str(value).casefold() if character.isalnum())


def known_outcome(value: Any) -> Outcome | None:
    """The outcome that a value spells; None where it spells none."""
    text = "".join(str(value).casefold().split())
    return _VERDICTS.get(text) if set(text) & set("<>=") else _OUTCOMES.get(fold_outcome(text))


def parse_outcome(value: Any, column: str = "winner") -> Outcome | None:
    """The outcome; None where there is none. Case, spaces and punctuation don't matter.

    Raises:
        DataError: an unknown outcome.
    """
    if is_missing(value):
        return None
    if isinstance(value, Outcome):
        return value
    if isinstance(value, str) and not value.strip():
        return None
    known = known_outcome(value) if isinstance(value, str) else None
    if known is not None:
        return known
    raise DataError(
        f"unknown outcome {shorten(value)} in column {column}. Allowed: model_a, model_b, tie, both_bad, and their "
        "usual spellings such as left, A, draw, tie (bothbad), without regard to case, spaces and punctuation. Fix: "
        f"say what it means with --outcome {shown_value(value)}=model_a (or model_b, tie, both_bad), or leave the "
        "value out to skip the row."
    )


def shown_value(value: Any) -> str:
    """A value as it would be typed in an option."""
    text = str(value)
    if len(text) > 30 or not text.isprintable():
        return "VALUE"
    return text if text.replace("_", "").isalnum() else f"'{text}'"


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


def parse_number(value: Any) -> float | None:
    """A number, also as text; None where there is none, or something else."""
    if is_missing(value) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None
