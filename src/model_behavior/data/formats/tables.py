"""Flat tables of votes: two models, two texts, one outcome. Kaggle's lists of turns have a converter of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Record,
    Row,
    Side,
    build_vote,
    is_missing,
    model_name,
    parse_flag,
    parse_outcome,
)
from model_behavior.data.formats.turns import encode_history, parse_column
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

_FLAGS = {
    "winner_model_a": Outcome.MODEL_A,
    "winner_model_b": Outcome.MODEL_B,
    "winner_tie": Outcome.TIE,
}


def vote_format(
    name: str,
    columns: tuple[str, str, str, str, str, str],
    parse: Callable[[Any, str], Outcome | None] = parse_outcome,
    joined: tuple[str, ...] = (),
) -> Format:
    """Rows with the columns (prompt, model_a, response_a, model_b, response_b, outcome), whatever they are called.

    Args:
        name: what messages call it.
        columns: names of the six columns.
        parse: reads the outcome from its value and column.
        joined: columns of texts that belong to the prompt and follow it, where they are there.
    """
    prompt, model_a, response_a, model_b, response_b, outcome = columns

    def convert(row: Row) -> Record:
        texts = [parse_column(row.get(column), column) for column in (prompt, *joined)]
        return build_vote(
            None if texts[0] is None else "\n\n".join([texts[0], *(text for text in texts[1:] if text)]),
            Side(model_name(row.get(model_a), model_a), parse_column(row.get(response_a), response_a)),
            Side(model_name(row.get(model_b), model_b), parse_column(row.get(response_b), response_b)),
            parse(row.get(outcome), outcome),
        )

    return Format(name, "votes", columns, convert, optional=joined, outcome_column=outcome)


def _parse_preference(value: Any, column: str) -> Outcome | None:
    """AlpacaEval's: from 1, output_1 is better, to 2, output_2 is; 1.5 is a tie, and so is 0."""
    if is_missing(value) or value == "":
        return None
    if isinstance(value, Outcome):
        return value
    try:
        preference = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        preference = -1.0
    if preference in (0, 1.5):
        return Outcome.TIE
    if not 1 <= preference <= 2:
        raise DataError(
            f"{column} is {shorten(value)}. Allowed: a number from 1 (output_1 is better) to 2 (output_2 is better), "
            "1.5 or 0 for a tie, or null. Fix: correct it, or say what it means with --outcome VALUE=OUTCOME."
        )
    return Outcome.MODEL_A if preference < 1.5 else Outcome.MODEL_B


def _convert_kaggle(row: Row) -> Record:
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


KAGGLE = Format(
    name="Kaggle 55k",
    family="votes",
    required=("prompt", "model_a", "response_a", "model_b", "response_b", *_FLAGS),
    convert=_convert_kaggle,
)
PLAIN = vote_format("plain table", ("prompt", "model_a", "response_a", "model_b", "response_b", "winner"))
PPE = replace(
    vote_format("PPE human preference", ("prompt", "model_a", "response_1", "model_b", "response_2", "winner")),
    warning="PPE-Human-Preference is meant for evaluation only: results on it mean little once trained on.",
)
ANNOTATIONS = vote_format(
    "AlpacaEval annotations",
    ("instruction", "generator_1", "output_1", "generator_2", "output_2", "preference"),
    _parse_preference,
    joined=("input",),
)
TABLES = (KAGGLE, PLAIN, PPE, ANNOTATIONS)
