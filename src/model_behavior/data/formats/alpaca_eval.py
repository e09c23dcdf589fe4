"""AlpacaEval: annotations (votes of a judge) and model outputs (responses)."""

from __future__ import annotations

from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Response,
    Row,
    Side,
    Skip,
    Vote,
    build_response,
    build_vote,
    is_missing,
    model_name,
)
from model_behavior.data.formats.turns import parse_text
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError


def _convert_annotation(row: Row) -> Vote | Skip:
    side_1, side_2 = (
        Side(
            model_name(row.get(f"generator_{end}"), f"generator_{end}"),
            parse_text(row.get(f"output_{end}"), f"output_{end}"),
        )
        for end in (1, 2)
    )
    prompt = parse_text(row.get("instruction"), "instruction")
    return build_vote(prompt, side_1, side_2, _parse_preference(row.get("preference")))


def _parse_preference(value: Any) -> Outcome | None:
    if is_missing(value) or value == "":
        return None
    try:
        preference = float(value)
    except (TypeError, ValueError):
        preference = 0.0
    if not 1 <= preference <= 2:
        raise DataError(
            f"preference is {shorten(value)}. Allowed: a number from 1 (output_1 is better) to 2 (output_2 "
            "is better), 1.5 for a tie, or null."
        )
    if preference == 1.5:
        return Outcome.TIE
    return Outcome.MODEL_A if preference < 1.5 else Outcome.MODEL_B


def _convert_output(row: Row) -> Response | Skip:
    side = Side(model_name(row.get("generator"), "generator"), parse_text(row.get("output"), "output"))
    return build_response(parse_text(row.get("instruction"), "instruction"), side)


ANNOTATIONS = Format(
    name="AlpacaEval annotations",
    family="votes",
    required=("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference"),
    convert=_convert_annotation,
)
OUTPUTS = Format(
    name="AlpacaEval outputs",
    family="responses",
    required=("instruction", "output"),
    optional=("generator",),
    model_column="generator",
    convert=_convert_output,
)
