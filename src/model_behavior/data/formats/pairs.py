"""Responses in flat rows: one column asks, another answers. Most published layouts are one line of a table here."""

from __future__ import annotations

from dataclasses import replace

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Record,
    Row,
    Side,
    Skip,
    build_response,
    model_name,
)
from model_behavior.data.formats.replies import read_reply, read_request
from model_behavior.data.formats.turns import (
    is_cut_off,
    is_printed_bytes,
    message_role,
    parse_column,
    parse_conversation,
    pick_turn,
)
from model_behavior.errors import DataError

MODEL_COLUMNS = ("model", "generator", "model_name")
_CUT_OFF = Skip("text cut off by the log")


def pair_format(
    name: str,
    prompt: str,
    response: str,
    joined: str | None = None,
    note: str | None = None,
    models: tuple[str, ...] = MODEL_COLUMNS,
) -> Format:
    """Rows with a column that asks and one that answers, each text or in a shape that `replies` knows.

    Args:
        name: what messages call it.
        prompt: column that asks.
        response: column that answers.
        joined: column of a text that belongs to the prompt and follows it, where there is one.
        note: what the report says of the columns taken.
        models: columns that name the model; the first with a name counts.
    """

    def convert(row: Row) -> Record:
        request, reply = read_request(row.get(prompt), prompt), read_reply(row.get(response), response)
        asked, answered = request.prompt, reply.text
        if asked is not None and joined is not None:
            asked = "\n\n".join(text for text in (asked, parse_column(row.get(joined), joined)) if text)
        if is_cut_off(asked) or is_cut_off(answered):
            return _CUT_OFF
        if asked is not None and is_printed_bytes(asked) and is_printed_bytes(answered):
            raise DataError(
                f"{prompt} and {response} are bytes that were printed, {asked[:30]}. Fix: decode them before writing "
                "the file, as bytes.decode() does."
            )
        model = first_name(row, models)
        return build_response(asked, Side(model or reply.model or request.model, answered, request.history))

    return Format(
        name,
        "responses",
        (prompt, response) if joined is None else (prompt, joined, response),
        convert,
        model_columns=models,
        note=note,
    )


def first_name(row: Row, columns: tuple[str, ...]) -> str | None:
    """The first name of a model among columns."""
    return next((name for name in (model_name(row.get(column), column) for column in columns) if name), None)


def _convert_spend_log(row: Row) -> Record:
    """LiteLLM's; its releases since 2025 leave `messages` empty, and keep the request as it came."""
    asked = read_request(row.get("messages"), "messages")
    if asked.prompt is None:
        asked = read_request(row.get("proxy_server_request"), "proxy_server_request")
    reply = read_reply(row.get("response"), "response")
    if is_cut_off(asked.prompt) or is_cut_off(reply.text):
        return _CUT_OFF
    model = first_name(row, MODEL_COLUMNS)
    return build_response(asked.prompt, Side(model or reply.model or asked.model, reply.text, asked.history))


def conversation_format(name: str, column: str, unread: tuple[str, ...] = ()) -> Format:
    """Rows with one column of messages, whose last answer counts."""

    def convert(row: Row) -> Record:
        messages = parse_conversation(row.get(column), column)
        turn = pick_turn(messages, None, column)
        if turn.prompt is None and messages:
            roles = sorted({shorten(message_role(each), 20) for each in messages})
            return Skip(f"no text of a user, but of the roles {', '.join(roles[:3])}")
        if is_cut_off(turn.response) or is_cut_off(turn.prompt):
            return _CUT_OFF
        model = first_name(row, MODEL_COLUMNS)
        return build_response(turn.prompt, Side(model, turn.response, turn.history))

    return Format(name, "responses", (column,), convert, unread=frozenset(unread), model_columns=MODEL_COLUMNS)


def _other_name(prompt: str, response: str) -> Format:
    note = f"{prompt} is taken as the prompt, {response} as the response"
    return pair_format(f"{prompt}-{response} table", prompt, response, note=note)


def _logged(name: str, prompt: str, response: str) -> Format:
    return replace(pair_format(name, prompt, response), names_models=True)


MESSAGES = conversation_format("chat log", "messages", unread=("prompt", "question", "instruction", "query"))
RESPONSE_TABLE = pair_format("prompt-response table", "prompt", "response")
OUTPUTS = pair_format("AlpacaEval outputs", "instruction", "output", models=("generator", "model", "model_name"))
INPUT_OUTPUT = replace(
    _logged("input and output", "input", "output"), note="input is taken as the prompt, output as the response"
)

PROMPT_NAMES = ("prompt", "question", "instruction", "input", "query")
RESPONSE_NAMES = ("response", "answer", "completion", "output")
_JOINED = tuple((joined, answer) for joined in ("input", "context") for answer in ("output", "response", "answer"))
_NAMED = {("prompt", "response"), ("instruction", "output"), ("input", "output")}

PAIRS = (
    RESPONSE_TABLE,
    OUTPUTS,
    INPUT_OUTPUT,
    *(
        _other_name(prompt, response)
        for prompt in PROMPT_NAMES
        for response in RESPONSE_NAMES
        if (prompt, response) not in _NAMED
    ),
    *(
        pair_format(
            f"instruction, {joined} and {response}",
            "instruction",
            response,
            joined,
            note=f"instruction and {joined} are taken as one prompt, {response} as the response",
        )
        for joined, response in (
            ("input", "output"),
            ("input", "response"),
            ("input", "answer"),
            ("context", "response"),
        )
    ),
    _logged("messages and response", "messages", "response"),
    Format(
        "LiteLLM spend logs",
        "responses",
        ("messages", "response", "proxy_server_request"),
        _convert_spend_log,
        model_columns=MODEL_COLUMNS,
        names_models=True,
    ),
    _logged("messages and output", "messages", "output"),
    _logged("messages and completion", "messages", "completion"),
    _logged("messages and choices", "messages", "choices"),
    _logged("prompt and choices", "prompt", "choices"),
    _logged("request and response", "request", "response"),
    _logged("request_body and response_body", "request_body", "response_body"),
    MESSAGES,
    conversation_format("conversation log", "conversation"),
    conversation_format("ShareGPT", "conversations"),
)
"""Where several have all of a file's text columns, the one with more columns counts."""
