"""What the caller says of a file: which column is which, what an outcome means, and where its questions are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_behavior.data.formats.detection import KNOWN_COLUMNS
from model_behavior.data.formats.records import fold_outcome, known_outcome
from model_behavior.data.sources import Source
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import UsageError
from model_behavior.names import nearest

_MAIN = "prompt, response, model, model_a, response_a, model_b, response_b, winner, messages"


@dataclass(frozen=True)
class ReadingOptions:
    """How to read sources whose columns or outcomes have names of their own.

    Attributes:
        columns: name in the file by known name, such as {"prompt": "query"}; a dotted name such as "body.text" goes
            into objects, lists and JSON text.
        outcomes: outcome by the value that means it, compared without case, spaces and punctuation.
        questions: FastChat's question.jsonl or the input of an OpenAI batch, for answers that name questions by key.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    questions: Source | None = None

    def __post_init__(self) -> None:
        for known in self.columns:
            if known not in KNOWN_COLUMNS:
                near = nearest(KNOWN_COLUMNS, known, 3, 0.6)
                hint = f" Near ones: {', '.join(near)}." if near else ""
                raise UsageError(
                    f"--columns names {known!r}, which no format has. Allowed before the sign =: {_MAIN}, and every "
                    f"other column of a known format.{hint} Fix: write KNOWN=NAME_IN_THE_FILE, as in prompt=query."
                )

    @classmethod
    def parse(
        cls, columns: Iterable[str] = (), outcomes: Iterable[str] = (), questions: Source | None = None
    ) -> ReadingOptions:
        """Options as they are typed.

        Args:
            columns: such as "prompt=query,response=text", several also apart.
            outcomes: such as "1=model_a", one for each value.
            questions: file or folder of questions.

        Raises:
            UsageError: not of that form, an unknown column or outcome, or a name that is given twice.
        """
        return cls(parse_columns(columns), parse_outcomes(outcomes), questions)

    def outcome_of(self, value: Any) -> Outcome | None:
        """The outcome that the caller says a value means; None where nothing was said of it."""
        if not self.outcomes or value is None:
            return None
        text = str(value).strip().casefold()
        exact = next((out for key, out in self.outcomes.items() if key.strip().casefold() == text), None)
        if exact is not None or not fold_outcome(text):
            return exact
        return next((out for key, out in self.outcomes.items() if fold_outcome(key) == fold_outcome(text)), None)


AS_IT_IS = ReadingOptions()
"""Nothing but what the formats say."""


def parse_columns(given: Iterable[str]) -> dict[str, str]:
    """The names of `--columns prompt=NAME,response=NAME`."""
    columns: dict[str, str] = {}
    for text in given:
        for part in text.split(","):
            known, sign, name = (piece.strip() for piece in part.partition("="))
            if not (known and sign and name):
                raise UsageError(
                    f"--columns is {text!r}. Allowed: KNOWN=NAME, several separated by commas. Fix: write, for "
                    "example, --columns prompt=query,response=text."
                )
            if columns.setdefault(known, name) != name:
                raise UsageError(f"--columns names {known} twice: {columns[known]} and {name}. Fix: keep one of them.")
    return columns


def parse_outcomes(given: Iterable[str]) -> dict[str, Outcome]:
    """The values of `--outcome VALUE=OUTCOME`."""
    outcomes: dict[str, Outcome] = {}
    allowed = ", ".join(outcome.label for outcome in Outcome)
    for text in given:
        value, sign, name = (piece.strip() for piece in text.rpartition("="))
        meant = known_outcome(name) if sign and value else None
        if meant is None:
            raise UsageError(
                f"--outcome is {text!r}. Allowed: VALUE=OUTCOME with one of {allowed} as the outcome. Fix: write, for "
                "example, --outcome 1=model_a."
            )
        if outcomes.setdefault(value, meant) is not meant:
            raise UsageError(f"--outcome says two things of {value!r}. Fix: keep one of them.")
    return outcomes


def dig(value: Any, path: Sequence[str]) -> Any:
    """What lies under a path of keys and places in objects, lists and JSON text; None where there is nothing."""
    for key in path:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value
