"""Requests and replies in whichever shape a program logged them: text, messages, or what an API takes and gives.

Known are the APIs of OpenAI (chat, responses, completions), Anthropic, Gemini and Ollama, as objects or as JSON text of
them. What is in none of these shapes is never guessed at.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import is_missing, model_name
from model_behavior.data.formats.turns import (
    Turn,
    message_role,
    message_text,
    parse_column,
    parse_text,
    pick_reply,
    pick_request,
)
from model_behavior.errors import DataError

_REQUEST_KEYS = ("messages", "contents", "input", "prompt")
_NAMED_QUESTIONS = ("question", "query", "text", "content", "message")
_NAMED_TEXTS = ("text", "answer", "output", "completion", "response", "content")
_NO_TEXTS = {"id", "object", "model", "created", "created_at", "finish_reason", "stop_reason", "stop", "type", "name"}


class UnknownShapeError(DataError):
    """A value that is neither text nor in the shape of a known API."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: the last user's message, the turns before it, and of which model."""

    prompt: str | None
    history: str = ""
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered, None where nothing was, and by which model."""

    text: str | None
    model: str | None = None


def read_request(value: Any, place: str) -> Request:
    """The request in a value: text, a list of messages, an API's request object, or JSON text of one.

    Raises:
        UnknownShapeError: none of these.
        DataError: broken messages, or a printed Python object.
    """
    found = _decode(value, place, _is_request)
    if isinstance(found, Mapping):
        if message_role(found) is not None:
            found = [found]
        else:
            model = model_name(found.get("model"), f"model of {place}")
            inner = next((found[key] for key in _REQUEST_KEYS if not is_missing(found.get(key))), None)
            if inner is None and found:
                inner = _read_named(found, place, _NAMED_QUESTIONS)
            inside = Request(None) if inner is None else read_request(inner, place)
            return Request(inside.prompt, inside.history, model or inside.model)
    if _is_messages(found):
        turn: Turn = pick_request(found, place)
        return Request(turn.prompt, turn.history)
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], str | list):
        return read_request(found[0], place)
    return Request(None if found == [] else parse_column(found, place))


def read_reply(value: Any, place: str) -> Reply:
    """The reply in a value: text, a message, an API's response object, or JSON text of one. The first choice counts.

    Raises:
        UnknownShapeError: none of these.
        DataError: a chunk of a stream, several texts of which one is meant, or a printed Python object.
    """
    found = _decode(value, place, _is_reply)
    if isinstance(found, Mapping):
        return _read_object(found, place)
    if isinstance(found, list) and found and all(isinstance(item, Mapping) for item in found):
        return Reply(_read_items(found, place))
    return Reply(None if found == [] else parse_column(found, place))


def _read_object(found: Mapping[str, Any], place: str) -> Reply:
    model = model_name(found.get("model"), f"model of {place}")
    if str(found.get("object", "")).endswith(".chunk") or "delta" in found:
        raise _stream_error(found, place)
    for key, read in (("choices", _read_choices), ("candidates", _read_choices), ("output", _read_output)):
        if isinstance(found.get(key), list):
            return Reply(read(found[key], place), model)
    if isinstance(found.get("message"), Mapping):
        return Reply(message_text(found["message"], place), model)
    if message_role(found) is not None or isinstance(found.get("content"), list):
        return Reply(message_text(found, place), model)
    for key in ("body", "outputs"):
        if isinstance(found.get(key), Mapping | list):
            failed = int(found.get("status_code") or 200) >= 400
            return Reply(None) if failed else _with_model(read_reply(found[key], place), model)
    if found.get("type") in ("text", "output_text"):
        return Reply(parse_text([found], place), model)
    if "done" in found and isinstance(found.get("response"), str):  # Ollama's
        return Reply(parse_text(found["response"], place), model)
    return Reply(_read_named(found, place, _NAMED_TEXTS), model)


def _read_named(found: Mapping[str, Any], place: str, names: tuple[str, ...]) -> str | None:
    """The text of an object that holds one under a usual name and no other, as in {"text": …}."""
    named = [key for key in names if isinstance(found.get(key), str)]
    others = [
        key
        for key, value in found.items()
        if key not in named and key not in _NO_TEXTS and isinstance(value, str | list | Mapping) and value
    ]
    if len(named) == 1 and not others:
        return parse_text(found[named[0]], place)
    if not found or "error" in found or found.get("object") == "list" or all(v is None for v in found.values()):
        return None  # nothing was answered, or, in a list, no text, as by an API of embeddings
    raise _shape_error(found, place)


def _read_choices(choices: list[Any], place: str) -> str | None:
    first = choices[0] if choices else None
    if not isinstance(first, Mapping):
        return None
    if "delta" in first and "message" not in first:
        raise _stream_error(first, place)
    message = first.get("message", first.get("content"))
    if isinstance(message, Mapping):
        return message_text(message, place)
    return parse_text(first.get("text"), place)


def _read_output(output: list[Any], place: str) -> str | None:
    return _read_items(output, place) if output and all(isinstance(item, Mapping) for item in output) else None


def _read_items(items: list[Any], place: str) -> str | None:
    """The text of a list of messages, of the items of OpenAI's Responses API, or of the parts of one message."""
    if any(str(item.get("object", "")).endswith(".chunk") for item in items):
        raise _stream_error(items[0], place)
    if any(message_role(item) is not None for item in items):
        return pick_reply(items, place)
    if "message" in items[0] or "delta" in items[0] or ("text" in items[0] and "type" not in items[0]):
        return _read_choices(items, place)
    if len(items) == 1 and "choices" in items[0]:
        return _read_object(items[0], place).text
    if any(isinstance(item.get("type"), str) for item in items):
        return message_text({"content": items}, place)
    raise _shape_error(items, place)


def _with_model(reply: Reply, model: str | None) -> Reply:
    return Reply(reply.text, reply.model or model)


def _decode(value: Any, place: str, is_known: Callable[[Any], bool]) -> Any:
    """A value, decoded where it is JSON text of something known: text that happens to be JSON stays."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        decoded = json.loads(value)
    except (ValueError, RecursionError):
        _refuse_literal(value, place, is_known)
        return value
    return decoded if is_known(decoded) else value


def _refuse_literal(text: str, place: str, is_known: Callable[[Any], bool]) -> None:
    """Refuses messages or a response that Python printed, with single quotes, in place of JSON."""
    if not text.lstrip().startswith(("[{'", "{'")):
        return
    try:
        printed = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return
    if is_known(printed):
        raise DataError(
            f"{place} was printed by Python, and is no JSON. Fix: write it with json.dumps, or export the data as "
            f"Parquet or JSON lines. It is {shorten(text)}."
        )


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and any(message_role(item) is not None for item in value)


def _is_request(value: Any) -> bool:
    if _is_messages(value):
        return True
    if isinstance(value, dict):
        return any(_is_messages(value.get(key)) for key in ("messages", "contents", "input")) or (
            message_role(value) is not None and "content" in value
        )
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and _is_messages(value[0])


def _is_reply(value: Any) -> bool:
    if isinstance(value, list):
        return _is_messages(value)
    if not isinstance(value, dict):
        return False
    if message_role(value) is not None:
        return "content" in value or "tool_calls" in value or "parts" in value
    if isinstance(value.get("choices"), list) or isinstance(value.get("candidates"), list):
        first = next(iter(value.get("choices") or value.get("candidates") or []), None)
        return isinstance(first, dict) and bool({"message", "text", "delta", "content"} & set(first))
    return isinstance(value.get("output"), list) and any(message_role(item) is not None for item in value["output"])


def _stream_error(value: Any, place: str) -> DataError:
    return DataError(
        f"{place} is one chunk of a stream, {shorten(value)}, not the whole answer. Fix: join the chunks' text before "
        "logging, or log the response of a call without streaming."
    )


def _shape_error(value: Any, place: str) -> UnknownShapeError:
    return UnknownShapeError(
        f"{place} is {shorten(value)}. Allowed: text, messages like {{role, content}}, or the request or response of a "
        "known API (with messages, choices, candidates or output). Fix: name the text itself with --columns, as in "
        f"--columns {place.split()[-1]}={place.split()[-1]}.KEY."
    )
