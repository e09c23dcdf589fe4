"""Flat tables of votes: the documented minimum (also WSDM's), PPE, and Kaggle's 55k."""

from __future__ import annotations

import json
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Row,
    Side,
    Skip,
    Vote,
    build_vote,
    is_missing,
    model_name,
    parse_flag,
    parse_outcome,
)
from model_behavior.data.formats.turns import encode_history, parse_text
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

_FLAGS = {
    "winner_model_a": Outcome.MODEL_A,
    "winner_model_b": Outcome.MODEL_B,
    "winner_tie": Outcome.TIE,
}


def _convert_plain(row: Row) -> Vote | Skip:
    return _convert_flat(row, "response_a", "response_b")


def _convert_ppe(row: Row) -> Vote | Skip:
    return _convert_flat(row, "response_1", "response_2")


def _convert_flat(row: Row, column_a: str, column_b: str) -> Vote | Skip:
    return build_vote(
        parse_text(row.get("prompt"), "prompt"),
        Side(model_name(row.get("model_a"), "model_a"), parse_text(row.get(column_a), column_a)),
        Side(model_name(row.get("model_b"), "model_b"), parse_text(row.get(column_b), column_b)),
        parse_outcome(row.get("winner")),
    )


def _convert_kaggle(row: Row) -> Vote | Skip:
    prompts = _parse_turn_list(row.get("prompt"), "prompt")
    sides = []
    for end in ("a", "b"):
        answers = _parse_turn_list(row.get(f"response_{end}"), f"response_{end}")
        answers += [None] * (len(prompts) - len(answers))
        last = answers[len(prompts) - 1] if prompts else None
        history = encode_history(list(zip(prompts[:-1], answers, strict=False)))
        sides.append(Side(model_name(row.get(f"model_{end}"), f"model_{end}"), last, history))
    return build_vote(prompts[-1] if prompts else None, sides[0], sides[1], _parse_flags(row))


def _parse_turn_list(value: Any, column: str) -> list[str | None]:
    if is_missing(value) or value == "":
        return []
    turns = value
    if isinstance(value, str):
        try:
            turns = json.loads(value)
        except (ValueError, RecursionError):
            turns = None
    if not isinstance(turns, list) or not all(turn is None or isinstance(turn, str) for turn in turns):
        raise DataError(
            f'{column} is {shorten(value)}. Allowed: a JSON list with one text or null for each turn, as in ["Hello"].'
        )
    return turns


def _parse_flags(row: Row) -> Outcome:
    values = {column: row.get(column) for column in _FLAGS}
    chosen = [column for column, value in values.items() if parse_flag(value, column)]
    if len(chosen) != 1:
        found = ", ".join(f"{column}={shorten(value)}" for column, value in values.items())
        raise DataError(f"{found}. Allowed: exactly one 1 among the three, and 0 in the others.")
    return _FLAGS[chosen[0]]


PLAIN = Format(
    name="plain table",
    family="votes",
    required=("prompt", "model_a", "response_a", "model_b", "response_b", "winner"),
    convert=_convert_plain,
)
PPE = Format(
    name="PPE human preference",
    family="votes",
    required=("prompt", "model_a", "response_1", "model_b", "response_2", "winner"),
    convert=_convert_ppe,
    warning="PPE-Human-Preference is meant for evaluation only: results on it mean little once trained on.",
)
KAGGLE = Format(
    name="Kaggle 55k",
    family="votes",
    required=("prompt", "model_a", "response_a", "model_b", "response_b", *_FLAGS),
    convert=_convert_kaggle,
)
