"""Conversations as (prompt, response, history) of one turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import is_missing
from model_behavior.errors import DataError

_USER = {"user", "human"}
_ASSISTANT = {"assistant", "gpt"}


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's message and the answer to it; None where there is no text."""

    prompt: str | None
    response: str | None
    history: str = ""


def parse_text(value: Any, place: str) -> str | None:
    """The text of a message's content, None where it has none.

    Content may be text, a number, `{"answer": text}`, or a list of parts (also as JSON text) of which
    those of type "text" count.

    Raises:
        DataError: anything else.
    """
    if isinstance(value, str):
        return _parts_in_json(value)
    if is_missing(value):
        return None
    if isinstance(value, dict):
        if "answer" in value:
            return parse_text(value["answer"], place)
        if value.get("type") == "text":
            return parse_text(value.get("text"), place)
    elif isinstance(value, list):
        if all(isinstance(part, (dict, str)) for part in value):
            return _join_parts(value)
    elif not isinstance(value, bool):
        return str(value)
    raise DataError(
        f"{place} is {shorten(value)}. Allowed: text, a list of parts like "
        '{"type": "text", "text": …}, or {"answer": text}.'
    )


def parse_conversation(value: Any, place: str) -> list[Any] | None:
    """The list of messages, also where it is JSON text; None where there is none.

    Raises:
        DataError: neither a list nor JSON text of one.
    """
    if is_missing(value) or value == "":
        return None
    messages = value
    if isinstance(value, str):
        try:
            messages = json.loads(value)
        except (ValueError, RecursionError):
            messages = None
    if not isinstance(messages, list):
        raise DataError(
            f"{place} is {shorten(value)}. Allowed: a list of {{role, content}}, or JSON text of one. "
            "Fix: export the data as Parquet or JSON lines."
        )
    return messages


def pick_turn(messages: Sequence[Any] | None, turn: int | None, place: str) -> Turn:
    """The turn that a row is about: number `turn` (from 1), or the last answered one where there is no such.

    System, tool and other messages are ignored; the first answer with text counts.

    Raises:
        DataError: a message that is not an object with a role.
    """
    turns = _list_turns(messages or [], place)
    if not turns:
        return Turn(None, None)
    if turn is not None and 1 <= turn <= len(turns):
        index = turn - 1
    else:
        index = max((i for i, (_, answer) in enumerate(turns) if answer is not None), default=len(turns) - 1)
    return Turn(*turns[index], encode_history(turns[:index]))


def encode_history(turns: Sequence[tuple[str | None, str | None]]) -> str:
    """Earlier turns as a JSON list of {role, content}; "" where there are none."""
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
        if text is not None
    ]
    return json.dumps(messages, ensure_ascii=False) if messages else ""


def parse_turn_number(value: Any) -> int | None:
    """The number in a `turn` column; None where there is none.

    Raises:
        DataError: not a whole number.
    """
    if is_missing(value) or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.5
    if not number.is_integer():
        raise DataError(f"turn is {shorten(value)}. Allowed: a whole number from 1.")
    return int(number)


def _list_turns(messages: Sequence[Any], place: str) -> list[tuple[str | None, str | None]]:
    turns: list[tuple[str | None, str | None]] = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(f"{place} holds {shorten(message)}. Allowed: messages like {{role, content}}.")
        role = message["role"].strip().casefold()
        if role in _USER:
            turns.append((parse_text(message.get("content"), place), None))
        elif role in _ASSISTANT and turns and turns[-1][1] is None:
            turns[-1] = (turns[-1][0], parse_text(message.get("content"), place))
    return turns


def _join_parts(parts: list[Any]) -> str | None:
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in parts
        if isinstance(part, str) or part.get("type") == "text"
    ]
    found = [text for text in texts if isinstance(text, str)]
    return "\n".join(found) if found else None


def _parts_in_json(text: str) -> str | None:
    """Text as it is, unless it is the JSON of message parts: answers that happen to be JSON must stay."""
    if not (text.startswith('[{"') and text.endswith("}]") and '"type"' in text):
        return text
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_parts = all(isinstance(p, dict) and isinstance(p.get("type"), str) and "text" in p for p in parts)
    return _join_parts(parts) if is_parts else text
