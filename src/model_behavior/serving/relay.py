"""One call of an upstream: what it answers is checked before the client sees a byte of it.

An answer counts as one only if it is what OpenAI's format says: a completion with choices, or a stream of events that
begins with one and ends with a `finish_reason` or `[DONE]`. Anything else, such as a page of HTML with status 200, is a
failure, after which another upstream can be asked; within a stream that has begun, the client gets an error event.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import httpx

from model_behavior.serving.upstreams import Upstream

FIELD = "model_behavior"
"""Field of a completion, and of the first event of a stream, that explains the choice."""

CALLERS_FAULT = frozenset({400, 413, 422})  # another model would refuse it as well
_MAX_ANSWER = 64 << 20
_MAX_REFUSAL = 1 << 20
_MAX_LINE = 4 << 20
_CONNECT_SECONDS = 10.0
_STREAM = "text/event-stream"
_JSON = "application/json"
_BROKEN = b'data: {"error": {"type": "upstream_failed", "message": "the upstream broke off", "code": null}}\n\n'


class UpstreamError(Exception):
    """An upstream that has not answered.

    Attributes:
        status: its HTTP status of 300 or more; None where there was none, or the fault is in the body.
        retry_after: its header Retry-After.
    """

    def __init__(self, what: str, status: int | None = None, retry_after: str | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, eq=False)
class Relayed:
    """An answer of an upstream: a whole body, or a stream whose first event has come."""

    status: int
    media_type: str
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True, eq=False)
class Call:
    """What an upstream is asked.

    Attributes:
        content: body of the request, JSON.
        streams: True where a stream of events is asked for.
        explanation: value of `FIELD` in the answer.
        on_end: callback after a stream: True where it was whole.
    """

    content: bytes
    streams: bool
    explanation: Mapping[str, Any]
    on_end: Callable[[bool], None]


async def call_upstream(client: httpx.AsyncClient, upstream: Upstream, call: Call) -> Relayed:
    """Asks an upstream.

    Raises:
        UpstreamError: it does not answer, or with what is no completion.
    """
    headers = {"Content-Type": _JSON, "Accept-Encoding": "identity"}
    if upstream.api_key:
        headers["Authorization"] = f"Bearer {upstream.api_key}"
    try:
        request = client.build_request(
            "POST",
            f"{upstream.base_url}/chat/completions",
            content=call.content,
            headers=headers,
            timeout=httpx.Timeout(upstream.timeout_seconds, connect=_CONNECT_SECONDS),
        )
        response = await client.send(request, stream=True)
        opened = False
        try:
            relayed = await _open(response, call)
            opened = not isinstance(relayed.body, bytes)
            return relayed
        finally:
            if not opened:
                await response.aclose()
    except (httpx.TransportError, httpx.InvalidURL, httpx.DecodingError) as error:
        raise UpstreamError(f"broke off or cannot be reached ({type(error).__name__})") from error


async def _open(response: httpx.Response, call: Call) -> Relayed:
    status, media_type = response.status_code, response.headers.get("content-type", "")
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UpstreamError("answered compressed, which was not asked for")
    if status in CALLERS_FAULT:
        body = await _read(response.aiter_raw(), _MAX_REFUSAL)
        return Relayed(status, media_type or _JSON, body)
    if status >= 300:
        raise UpstreamError(f"answered {status}", status, response.headers.get("retry-after"))
    if not call.streams:
        return Relayed(status, _JSON, _explain(await _read(response.aiter_raw(), _MAX_ANSWER), call.explanation))
    if not media_type.lower().startswith(_STREAM):
        raise UpstreamError("answered with no stream of events")
    chunks, events = response.aiter_raw(), _Events(call.explanation)
    first = b""
    async for chunk in chunks:
        first += events.feed(chunk)
        if events.begun:
            return Relayed(status, media_type, _pass_on(response, first, chunks, (events, call.on_end)))
    raise UpstreamError("ended its stream before the first event")


async def _read(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise UpstreamError(f"answered with more than {limit >> 20} MiB")
    return bytes(body)


def _explain(body: bytes, explanation: Mapping[str, Any]) -> bytes:
    """The completion with the explanation in it."""
    answer = _parse(body)
    if answer is None or not answer.get("choices"):
        raise UpstreamError("answered with no completion")
    return json.dumps({**answer, FIELD: explanation}).encode()


def _parse(text: bytes) -> dict[str, Any] | None:
    """A JSON object in OpenAI's format; None for anything else, errors included."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fine = isinstance(value, dict) and isinstance(value.get("choices"), list) and not value.get("error")
    return value if fine else None


@final
class _Events:
    """Server-sent events as they pass: whether the stream has begun and ended as it should."""

    def __init__(self, explanation: Mapping[str, Any]) -> None:
        self._explanation = explanation
        self._line = b""
        self.begun = False
        self.whole = False

    def feed(self, chunk: bytes) -> bytes:
        """The complete lines so far, the first event with the explanation in it.

        Raises:
            UpstreamError: the first event is no completion, or a line does not end.
        """
        *lines, self._line = (self._line + chunk).split(b"\n")
        if len(self._line) > _MAX_LINE:
            raise UpstreamError(f"sent a line of more than {_MAX_LINE >> 20} MiB")
        return b"".join(self._note(line) + b"\n" for line in lines)

    @property
    def rest(self) -> bytes:
        """What has come after the last line."""
        return self._line

    def _note(self, line: bytes) -> bytes:
        if not line.startswith(b"data:"):
            return line
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self.whole = True
            return line
        answer = _parse(payload)
        if answer is None and not self.begun:
            raise UpstreamError("began its stream with no completion")
        if answer is None:
            self.whole = False
            return line
        choices = answer["choices"]
        self.whole |= any(isinstance(each, dict) and each.get("finish_reason") for each in choices)
        if self.begun:
            return line
        self.begun = True
        return b"data: " + json.dumps({**answer, FIELD: self._explanation}).encode()


async def _pass_on(
    response: httpx.Response,
    first: bytes,
    chunks: AsyncIterator[bytes],
    watch: tuple[_Events, Callable[[bool], None]],
) -> AsyncIterator[bytes]:
    """The stream as it arrives; the connection is released even where the client leaves early."""
    events, on_end = watch
    passed = len(first)
    try:
        yield first
        async for chunk in chunks:
            passed += len(chunk)
            if passed > _MAX_ANSWER:
                events.whole = False
                break
            yield events.feed(chunk)
        on_end(events.whole)
        yield events.rest if events.whole else _BROKEN
    except (httpx.TransportError, UpstreamError):
        on_end(events.whole)
        if not events.whole:
            yield _BROKEN
    finally:
        await response.aclose()
