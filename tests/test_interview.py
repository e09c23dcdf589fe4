"""Servers that answer `ask` with what nobody asked for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from model_behavior.errors import ModelBehaviorError
from model_behavior.interview import Endpoint, open_client


@contextmanager
def server(body: bytes, encoding: str = "identity", endless: bool = False) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.wfile.write(body)
            while endless:
                try:
                    self.wfile.write(b" " * (1 << 20))
                except OSError:
                    return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()


@pytest.mark.parametrize(
    ("body", "encoding", "endless", "message"),
    [
        (b"[" * 100_000, "identity", False, "not a chat completion"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "identity", False, "not a chat completion"),
        (b"<html>", "identity", False, "not a chat completion"),
        (gzip.compress(b" " * (100 << 20), 1), "gzip", False, "compressed"),
        (b"", "identity", True, "more than 67,108,864 bytes|no end within"),
    ],
)
def test_an_answer_that_is_none_is_an_error(body: bytes, encoding: str, endless: bool, message: str) -> None:
    with server(body, encoding, endless) as address:
        endpoint = Endpoint(address, "m", attempts=1, timeout_seconds=20.0)
        with open_client(endpoint) as client, pytest.raises(ModelBehaviorError, match=message):
            client.answer("Hello?")
