"""Conversations as (prompt, response, history) of one turn."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import is_missing
from model_behavior.errors import DataError

_USER = {"user", "human", "prompter"}
_ASSISTANT = {"assistant", "gpt", "chatgpt", "model", "ai", "bot"}
_TOOL = {"tool", "function", "observation", "tool_result", "tool_response", "ipython", "function_call", "tool_call"}
_TOOL_CALLS = {"tool_use", "tool_call", "function_call"}
_ROLE_TYPES = {"human", "ai", "system", "tool", "function"}
"""Types of messages that LangChain writes in place of roles."""

_TEXT_PARTS = {"text", "input_text", "output_text"}

_STREAM = re.compile(
    r"(?:ModelResponseStream|ChatCompletionChunk|AIMessageChunk|GenerationChunk|StreamingChoices|ChoiceDelta)\(.*\)\s*"
    r"|<(?:async_)?generator object [\w.]+ at 0x[0-9a-fA-F]+>\s*"
    r"|<[\w.]*[Ss]tream\w* object at 0x[0-9a-fA-F]+>\s*"
    r"|data: ?\{.*\"(?:delta|choices)\".*",
    re.DOTALL,
)
_PRINTED = re.compile(
    r"(?:ModelResponse|ChatCompletion|ChatCompletionMessage|AIMessage|LLMResult|GenerateContentResponse|CompletionOutput"
    r"|RequestOutput)\(\w+=.*\)\s*"
    r"|(?:Completion|Choices?|Message|Response)\((?=.*(?:finish_reason=|role='assistant'))\w+=.*\)\s*"
    r"|<(?:openai|litellm|anthropic|google|langchain\w*|vllm|ollama|cohere|httpx)\.[\w.]+ object at 0x[0-9a-fA-F]+>\s*",
    re.DOTALL,
)
"""Printed objects of libraries that call LLMs: nothing that an LLM would answer, so that no answer is refused."""

_BYTES = re.compile(r"b(?P<quote>['\"]).*(?P=quote)", re.DOTALL)
_CUT_OFF = "(litellm_truncated "


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's message and the answer to it; None where there is no text."""

    prompt: str | None
    response: str | None
    history: str = ""


def parse_text(value: Any, place: str) -> str | None:
    """The text of a message's content, None where it has none.

    Content may be text, a number, `{"answer": text}`, or a list of parts (also as JSON text) of which
    those of type "text" count; thoughts, tool calls and images do not.

    Raises:
        DataError: anything else, also an object that was printed instead of its text.
    """
    if isinstance(value, str):
        refuse_printed(value, place)
        return _parts_in_json(value)
    if is_missing(value):
        return None
    if isinstance(value, dict):
        if "answer" in value:
            return parse_text(value["answer"], place)
        if value.get("type") in _TEXT_PARTS:
            return parse_text(value.get("text"), place)
    elif isinstance(value, list):
        if all(isinstance(part, (dict, str)) for part in value):
            return _join_parts(value)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise DataError(
        f"{place} is {shorten(value)}. Allowed: text, a list of parts like "
        '{"type": "text", "text": …}, or {"answer": text}. Fix: write the text itself there, or name it with --columns.'
    )


def parse_column(value: Any, place: str) -> str | None:
    """The text of a column of its own. As `parse_text`, but a list of several texts is refused, not joined.

    Raises:
        DataError: as in `parse_text`; also several texts, of which only one can be meant.
    """
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        if len(value) > 1:
            raise DataError(
                f"{place} is a list of {len(value)} texts, {shorten(value)}. Allowed: one text. Fix: write one row "
                "for each, or keep the one that is meant."
            )
        return parse_text(value[0], place)
    return parse_text(value, place)


def refuse_printed(text: str, place: str) -> None:
    """Refuses a Python object, or a list of them, that was printed where its text was meant.

    Raises:
        DataError: the text is such an object.
    """
    printed = text.strip()
    if printed.startswith("[") and printed.endswith("]"):
        printed = printed[1:-1].strip()
    if printed[:1] not in _FIRST:
        return
    if _STREAM.fullmatch(printed):
        raise DataError(
            f"{place} is a stream or a chunk of one that was printed, {shorten(text)}, not its text. Fix: join the "
            "chunks' text before logging, or log the response of a call without stream=True."
        )
    if _PRINTED.fullmatch(printed):
        raise DataError(
            f"{place} is a Python object that was printed, {shorten(text)}. Fix: log the text itself, such as "
            "response.choices[0].message.content, or write the object as JSON with json.dumps."
        )


_FIRST = frozenset("MCAGSLRd<")
"""With these begins whatever `refuse_printed` refuses."""


def is_printed_bytes(text: str | None) -> bool:
    """Whether a text is bytes that were printed, as in b'Hello'."""
    return text is not None and text.startswith(("b'", 'b"')) and _BYTES.fullmatch(text) is not None


def is_cut_off(text: str | None) -> bool:
    """Whether a log has left out the middle of the text."""
    return text is not None and _CUT_OFF in text


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

    System messages are ignored. The last answer to a user's message counts; what the assistant says while it calls
    tools, and before their results, is none.

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


def pick_request(messages: Sequence[Any] | None, place: str) -> Turn:
    """The last user's message, which is still to be answered; what an assistant said after it does not count.

    Raises:
        DataError: as in `pick_turn`.
    """
    turns = _list_turns(messages or [], place)
    return Turn(turns[-1][0], None, encode_history(turns[:-1])) if turns else Turn(None, None)


def pick_reply(messages: Sequence[Any], place: str) -> str | None:
    """The last answer among messages, of which the user's may be left out; None where the last one calls a tool.

    Raises:
        DataError: as in `pick_turn`.
    """
    turns = _list_turns([{"role": "user", "content": ""}, *messages], place)
    return turns[-1][1] if len(turns) == 1 or turns[-1][1] is not None else None


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
        raise DataError(f"turn is {shorten(value)}. Allowed: a whole number from 1. Fix: correct it.")
    return int(number)


def message_role(message: Any) -> str | None:
    """The role of a message of any API, in lower case; None where it is no message with a role."""
    if not isinstance(message, dict):
        return None
    role = message.get("role", message.get("from"))
    if role is None and "content" in message and message.get("type") in _ROLE_TYPES:
        role = message["type"]
    return role.strip().casefold() if isinstance(role, str) else None


def message_text(message: Any, place: str) -> str | None:
    """What a message says; None where it says nothing, or calls a tool, so that its answer is still to come.

    Raises:
        DataError: content of an unknown kind.
    """
    return None if _calls_tool(message) else parse_text(_content(message), place)


def _content(message: Any) -> Any:
    content = next((message[key] for key in ("content", "value", "parts") if message.get(key) is not None), None)
    return content["parts"] if isinstance(content, dict) and isinstance(content.get("parts"), list) else content


def _calls_tool(message: Any) -> bool:
    if message.get("tool_calls") or message.get("function_call"):
        return True
    content = _content(message)
    return isinstance(content, list) and any(
        isinstance(part, dict) and (part.get("type") in _TOOL_CALLS or "functionCall" in part) for part in content
    )


def _list_turns(messages: Sequence[Any], place: str) -> list[tuple[str | None, str | None]]:
    turns: list[tuple[str | None, str | None]] = []
    for message in messages:
        role = message_role(message)
        if role is None:
            if isinstance(message, dict) and isinstance(message.get("type"), str) and "content" not in message:
                role = "tool" if message["type"].startswith(("function", "tool", "computer", "mcp")) else ""
            else:
                raise DataError(
                    f"{place} holds {shorten(message)}. Allowed: messages like {{role, content}}. Fix: rename the keys."
                )
        if role in _USER:
            if not _is_tool_result(message):
                turns.append((message_text(message, place), None))
            elif turns:
                turns[-1] = (turns[-1][0], None)
        elif role in _ASSISTANT and turns:
            answer = message_text(message, place)
            if answer is not None or _calls_tool(message):
                turns[-1] = (turns[-1][0], answer)
        elif role in _TOOL and turns:
            turns[-1] = (turns[-1][0], None)
    return turns


def _is_tool_result(message: dict[str, Any]) -> bool:
    """Whether a user's message only hands over what a tool gave, as in Anthropic's and Gemini's API."""
    content = _content(message)
    if not isinstance(content, list) or not content:
        return False
    return all(isinstance(p, dict) and (p.get("type") == "tool_result" or "functionResponse" in p) for p in content)


def _join_parts(parts: list[Any]) -> str | None:
    texts = [part if isinstance(part, str) else _part_text(part) for part in parts]
    found = [text for text in texts if isinstance(text, str)]
    return "\n".join(found) if found else None


def _part_text(part: dict[str, Any]) -> Any:
    """The text of a part; None of what is no text. OpenTelemetry writes the text of a part as its content."""
    kind = part.get("type")
    if kind is None:
        return None if part.get("thought") else part.get("text")
    if kind not in _TEXT_PARTS or part.get("thought"):
        return None
    return part.get("text", part.get("content"))


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
