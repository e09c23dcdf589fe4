"""Votes on two conversations: the arena releases (33k, 100k, 140k, expert), MT-Bench, and compar:IA."""

from __future__ import annotations

from model_behavior.data.formats.records import (
    Format,
    Record,
    Row,
    Side,
    Skip,
    build_vote,
    model_name,
    parse_flag,
    parse_outcome,
)
from model_behavior.data.formats.turns import parse_conversation, parse_turn_number, pick_turn
from model_behavior.data_models.votes import Outcome


def _convert_arena(row: Row) -> Record:
    models = model_name(row.get("model_a"), "model_a"), model_name(row.get("model_b"), "model_b")
    return _build(row, models, parse_outcome(row.get("winner")))


def _convert_compar_ia(row: Row) -> Record:
    model_a = model_name(row.get("model_a_name"), "model_a_name")
    model_b = model_name(row.get("model_b_name"), "model_b_name")
    if parse_flag(row.get("both_equal"), "both_equal"):
        return _build(row, (model_a, model_b), Outcome.TIE)
    chosen = model_name(row.get("chosen_model_name"), "chosen_model_name")
    if chosen is None:
        return Skip("no outcome")
    if model_a is not None and model_b is not None and chosen not in (model_a, model_b):
        return Skip("chosen model is neither")
    return _build(row, (model_a, model_b), Outcome.MODEL_A if chosen == model_a else Outcome.MODEL_B)


def _build(row: Row, models: tuple[str | None, str | None], outcome: Outcome | None) -> Record:
    # 140k's full_conversation is not read: other models may have answered its earlier turns.
    number = parse_turn_number(row.get("turn"))
    turn_a, turn_b = (
        pick_turn(parse_conversation(row.get(column), column), number, column)
        for column in ("conversation_a", "conversation_b")
    )
    if None not in (turn_a.prompt, turn_b.prompt) and turn_a.prompt != turn_b.prompt:
        return Skip("prompts differ")
    return build_vote(
        turn_a.prompt if turn_b.prompt is not None else None,
        Side(models[0], turn_a.response, turn_a.history),
        Side(models[1], turn_b.response, turn_b.history),
        outcome,
    )


ARENA = Format(
    name="arena conversations",
    family="votes",
    required=("model_a", "model_b", "winner", "conversation_a", "conversation_b"),
    optional=("turn",),
    outcome_column="winner",
    convert=_convert_arena,
)
COMPAR_IA = Format(
    name="compar:IA votes",
    family="votes",
    required=(
        "model_a_name",
        "model_b_name",
        "chosen_model_name",
        "both_equal",
        "conversation_a",
        "conversation_b",
    ),
    optional=("turn",),
    convert=_convert_compar_ia,
)
