"""Traces of LLM calls: OpenTelemetry's GenAI attributes, OpenInference's (Phoenix), and Langfuse's observations.

A span's attributes are flat (`gen_ai.prompt.0.content`), nested ({"llm": {"input_messages": …}}), or OTLP's list of
{key, value}; all become flat here. A span that is no LLM call is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Record,
    Response,
    Row,
    Side,
    Skip,
    build_response,
    is_missing,
    join_records,
    model_name,
)
from model_behavior.data.formats.replies import UnknownShapeError, read_reply, read_request
from model_behavior.data.formats.turns import is_cut_off
from model_behavior.errors import DataError

_MESSAGES = (
    ("gen_ai.input.messages", "gen_ai.output.messages"),
    ("gen_ai.prompt", "gen_ai.completion"),
    ("llm.input_messages", "llm.output_messages"),
)
"""Attributes of requests and replies, by convention: OpenTelemetry's, its older one (OpenLLMetry), OpenInference's."""

_VALUES = ("input.value", "output.value")
_MODELS = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name")
_KINDS = ("openinference.span.kind", "span_kind")
_GENERATIONS = {"GENERATION", "LLM", "CHAT"}
_NO_CALL = Skip("no LLM call in the span")


def _convert_span(row: Row) -> Record:
    return read_span(_flatten(row.get("attributes")))


def _convert_flat(row: Row) -> Record:
    return read_span({key.removeprefix("attributes."): value for key, value in _flatten(row).items()})


def _convert_otlp(row: Row) -> Record:
    """One export of OTLP as JSON: resourceSpans[].scopeSpans[].spans[]."""
    records: list[Response | Skip] = []
    for resource in _objects(row.get("resourceSpans"), "resourceSpans"):
        for scope in _objects(resource.get("scopeSpans"), "scopeSpans"):
            for span in _objects(scope.get("spans"), "spans"):
                record = read_span(_flatten(span.get("attributes")))
                if isinstance(record, Response | Skip):
                    records.append(record)
    return join_records(records) if records else _NO_CALL


def read_span(attributes: Mapping[str, Any]) -> Response | Skip:
    """The call that the flat attributes of a span describe."""
    model = next((name for name in (model_name(attributes.get(key), key) for key in _MODELS) if name), None)
    for asked, answered in _MESSAGES:
        messages, replies = _gather(attributes, asked, "user"), _gather(attributes, answered, "assistant")
        if messages:
            return _read_call(messages, replies or None, model, (asked, answered))
    kind = next((str(attributes[key]).upper() for key in _KINDS if attributes.get(key)), None)
    values = [attributes.get(key) for key in _VALUES]
    if kind not in (None, *_GENERATIONS) or is_missing(values[0]):
        return _NO_CALL
    return _read_call(values[0], values[1], model, _VALUES)


def _convert_langfuse(row: Row) -> Record:
    kind = row.get("type")
    if isinstance(kind, str) and kind.upper() not in _GENERATIONS:
        return Skip(f"{kind.lower()}, no generation")
    model = model_name(row.get("model"), "model")
    return _read_call(row.get("input"), row.get("output"), model, ("input", "output"))


def _read_call(asked: Any, answered: Any, model: str | None, places: tuple[str, str]) -> Response | Skip:
    try:
        request, reply = read_request(_decode_object(asked), places[0]), read_reply(answered, places[1])
    except UnknownShapeError:
        return Skip("neither text nor messages of a known API")
    if is_cut_off(request.prompt) or is_cut_off(reply.text):
        return Skip("text cut off by the log")
    return build_response(request.prompt, Side(model or reply.model or request.model, reply.text, request.history))


def _decode_object(value: Any) -> Any:
    """An object that was written as JSON text, as exports do; any other value as it is."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, dict) else value


def _gather(attributes: Mapping[str, Any], prefix: str, role: str) -> Any:
    """Messages under a prefix: as one value, maybe JSON text, or one attribute for every part of each message.

    Attributes without a role are of `role`.
    """
    whole = attributes.get(prefix)
    if isinstance(whole, str):
        try:
            whole = json.loads(whole)
        except (ValueError, RecursionError):
            return whole
    if isinstance(whole, list):
        return [_unwrap(message) for message in whole]
    messages: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if not key.startswith(prefix + "."):
            continue
        number, _, name = key[len(prefix) + 1 :].partition(".")
        if number.isdigit() and not is_missing(value):
            messages.setdefault(int(number), {})[name] = value
    return [{"role": role, **_assemble(messages[number])} for number in sorted(messages)]


def _unwrap(message: Any) -> Any:
    """OpenInference's {"message": {…}} and {"message.role": …} as a message."""
    if not isinstance(message, Mapping):
        return message
    inner = message.get("message")
    return _assemble(_flatten(inner if isinstance(inner, Mapping) and "role" not in message else message))


def _assemble(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A message of flat fields: role, content, parts of content, tool calls."""
    named = {key.removeprefix("message."): value for key, value in fields.items()}
    message: dict[str, Any] = {key: named[key] for key in ("role", "content", "parts") if named.get(key) is not None}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in named.items():
        if key.startswith(("tool_calls", "function_call")) and value:
            message["tool_calls"] = [value]
        elif key.startswith("contents."):
            number, _, name = key.removeprefix("contents.").partition(".")
            parts.setdefault(number, {})[name.removeprefix("message_content.")] = value
    if parts and "content" not in message:
        message["content"] = [parts[number] for number in sorted(parts)]
    return message


def _flatten(value: Any) -> dict[str, Any]:
    """Attributes as dotted keys; lists of messages stay lists."""
    if is_missing(value):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DataError(f"attributes is {shorten(value)}. Allowed: an object, or JSON text of one.") from None
    if isinstance(value, list):
        return {each["key"]: _otlp_value(each.get("value")) for each in _objects(value, "attributes") if "key" in each}
    return dict(_walk(value, ""))


def _walk(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _walk(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _otlp_value(value: Any) -> Any:
    """OTLP's {"stringValue": …} and its likes."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    (kind, inner), *_ = value.items()
    if kind == "arrayValue" and isinstance(inner, Mapping):
        return [_otlp_value(each) for each in inner.get("values", [])]
    return inner


def _objects(value: Any, place: str) -> list[Mapping[str, Any]]:
    if is_missing(value):
        return []
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise DataError(
            f"{place} is {shorten(value)}. Allowed: a list of objects, as OpenTelemetry exports them. Fix: export anew."
        )
    return value


OTLP = Format("OpenTelemetry export", "responses", ("resourceSpans",), _convert_otlp, names_models=True)
SPANS = Format("trace spans", "responses", ("attributes",), _convert_span, names_models=True)
LANGFUSE = tuple(
    Format(
        "Langfuse observations",
        "responses",
        ("input", "output", mark),
        _convert_langfuse,
        optional=("type",),
        model_columns=("model",),
        names_models=True,
    )
    for mark in ("traceId", "trace_id", "sessionId", "session_id", "startTime", "start_time")
)


def _flat(asked: str, answered: str, prefix: str = "") -> Format:
    return Format(
        "trace attributes",
        "responses",
        (prefix + asked, prefix + answered),
        _convert_flat,
        optional=tuple(prefix + key for key in (*_MODELS, *_KINDS, *_VALUES)),
        prefixes=tuple(f"{prefix}{each}." for pair in _MESSAGES for each in pair),
        names_models=True,
    )


FLAT_SPANS = tuple(
    _flat(asked, answered, prefix)
    for prefix in ("", "attributes.")
    for asked, answered in (
        ("gen_ai.input.messages", "gen_ai.output.messages"),
        ("llm.input_messages", "llm.output_messages"),
        ("gen_ai.prompt.0.content", "gen_ai.completion.0.content"),
        ("llm.input_messages.0.message.content", "llm.output_messages.0.message.content"),
    )
)
TRACES = (OTLP, SPANS, *LANGFUSE, *FLAT_SPANS)
