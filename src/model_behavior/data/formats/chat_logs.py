"""Responses without votes: message logs (also arena-hard answers) and prompt-response tables."""

from __future__ import annotations

from model_behavior.data.formats.records import Format, Response, Row, Side, Skip, build_response, model_name
from model_behavior.data.formats.turns import parse_conversation, parse_text, pick_turn


def _convert_messages(row: Row) -> Response | Skip:
    turn = pick_turn(parse_conversation(row.get("messages"), "messages"), None, "messages")
    return build_response(turn.prompt, Side(model_name(row.get("model"), "model"), turn.response, turn.history))


def _convert_table(row: Row) -> Response | Skip:
    side = Side(model_name(row.get("model"), "model"), parse_text(row.get("response"), "response"))
    return build_response(parse_text(row.get("prompt"), "prompt"), side)


MESSAGES = Format(
    name="chat log",
    family="responses",
    required=("messages",),
    optional=("model",),
    model_column="model",
    convert=_convert_messages,
)
RESPONSE_TABLE = Format(
    name="prompt-response table",
    family="responses",
    required=("prompt", "response"),
    optional=("model",),
    model_column="model",
    convert=_convert_table,
)
