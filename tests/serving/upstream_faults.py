"""An upstream that answers with prepared bytes, and the faulty answers that real ones have given."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
MESSAGE = {"role": "assistant", "content": "fine"}


def completion() -> bytes:
    choices = [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]
    return json.dumps({**CHUNK, "object": "chat.completion", "choices": choices}).encode()


def event(word: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": finish}
    return f"data: {json.dumps({**CHUNK, 'choices': [choice]})}\n\n".encode()


def respond(
    body: bytes, *, status: str = "200 OK", media: str = "application/json", more: str = "", cut: int = 0
) -> bytes:
    """An answer whose header promises `cut` bytes more than come."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body) + cut}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n".encode() + body


SSE = "text/event-stream"
BOMB = gzip.compress(b"0" * (200 << 20), 9)
WHOLE = {
    False: respond(completion()),
    True: respond(event("one ") + event("two", "stop") + b"data: [DONE]\n\n", media=SSE),
}
BEFORE: dict[str, tuple[bool, bytes]] = {
    "no answer at all": (False, b""),
    "no HTTP": (False, b"\x16\x03\x01 nonsense\r\n\r\n"),
    "truncated answer": (False, respond(completion()[:40], cut=100)),
    "HTML with status 200": (False, respond(b"<html>Welcome</html>", media="text/html")),
    "error with status 200": (False, respond(b'{"error": {"message": "no credits"}}')),
    "choices that are none": (False, respond(b'{"choices": []}')),
    "JSON nested 100,000 deep": (False, respond(b"[" * 100_000)),
    "compressed bomb": (False, respond(BOMB, more="Content-Encoding: gzip\r\n")),
    "redirect": (False, respond(b"", status="302 Found", more="Location: http://127.0.0.1:1/\r\n")),
    "status 500": (False, respond(b"oh", status="500 Internal Server Error")),
    "stream of HTML": (True, respond(b"<html>Welcome</html>", media="text/html")),
    "stream that begins with an error": (True, respond(b'data: {"error": {"message": "no"}}\n\n', media=SSE)),
    "stream without an event": (True, respond(b": ping\n\n", media=SSE)),
    "stream that is only the end": (True, respond(b"data: [DONE]\n\n", media=SSE)),
    "stream cut before the first event": (True, respond(event("one ")[:30], media=SSE, cut=100)),
    "compressed stream": (True, respond(BOMB, media=SSE, more="Content-Encoding: gzip\r\n")),
}
"""Answers after which another upstream can still be asked: whether a stream was asked for, and the bytes."""

WITHIN: dict[str, bytes] = {
    "stream that just ends": respond(event("one ") + event("two "), media=SSE),
    "stream that is cut": respond(event("one "), media=SSE, cut=100),
    "stream that ends in an error": respond(event("one ") + b'data: {"error": {"message": "no"}}\n\n', media=SSE),
    "stream of one endless line": respond(event("one ") + b"data: " + b"x" * (5 << 20), media=SSE),
}
"""Streams that fail after their first event."""


@dataclass
class Seen:
    """What a prepared upstream has seen of its clients."""

    requests: int = 0
    left_after: float | None = None


class PreparedUpstream:
    """A server that answers every request with the same bytes; None to say nothing until the client leaves."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.seen = Seen()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> PreparedUpstream:
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(1 << 16) or b"\r\n\r\n"
            head, _, body = received.partition(b"\r\n\r\n")
            sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            while sizes and len(body) < int(sizes[0].split(b":")[1]):
                body += connection.recv(1 << 16)
            self.seen.requests += 1
            started = time.monotonic()
            try:
                if self.answer is not None:
                    connection.sendall(self.answer)
                    return
                connection.settimeout(30)
                if not connection.recv(1):
                    self.seen.left_after = time.monotonic() - started
            except OSError:
                self.seen.left_after = time.monotonic() - started
