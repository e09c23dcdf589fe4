"""A small object store that speaks as much of S3 as reading files needs; it can fail, refuse and damage answers."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

_DATE = "Sun, 29 Nov 2026 00:00:00 GMT"


@dataclass
class S3Server:
    """Objects of one bucket, by key.

    Attributes:
        objects: content by key.
        bucket: name of the bucket.
        key_id: access key that is allowed, or "" for everybody.
        failing: number of the next requests that are answered with 503.
        requests: method, path and range of every request.
        port: port on this machine.
    """

    objects: dict[str, bytes]
    bucket: str = "votes"
    key_id: str = "allowed"
    failing: int = 0
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0

    def address(self, key: str = "") -> str:
        """Address of a key, with what Arrow needs to find this server."""
        options = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://{self.bucket}/{key}?{options}"

    def bytes_sent(self) -> int:
        """Bytes that were asked for with ranges."""
        spans = [each.removeprefix("bytes=").split("-") for _, _, each in self.requests if each]
        return sum(int(last) - int(first) + 1 for first, last in spans)


@contextmanager
def running(server: S3Server) -> Iterator[S3Server]:
    """The server while the block runs."""
    handler = type("Handler", (_Handler,), {"store": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        server.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    store: S3Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        store = self.store
        path, _, query = self.path.partition("?")
        store.requests.append((self.command, self.path, self.headers.get("Range", "")))
        _, bucket, key = (urllib.parse.unquote(path) + "/").split("/", 2)
        key = key.removesuffix("/")
        if store.failing:
            store.failing -= 1
            self._send(503, _error("SlowDown"))
        elif store.key_id and f"Credential={store.key_id}/" not in self.headers.get("Authorization", ""):
            self._send(403, _error("AccessDenied"))
        elif bucket != store.bucket:
            self._send(404, _error("NoSuchBucket"))
        elif not key:
            self._send(200, self._list({name: values[0] for name, values in urllib.parse.parse_qs(query).items()}))
        elif key in store.objects:
            self._send_object(store.objects[key])
        else:
            self._send(404, _error("NoSuchKey"))

    def _list(self, options: dict[str, str]) -> bytes:
        prefix, delimiter = options.get("prefix", ""), options.get("delimiter", "")
        found, folders = [], set()
        for key, content in sorted(self.store.objects.items()):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                found.append((key, len(content)))
        found = found[: int(options.get("max-keys", "1000"))]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><LastModified>2026-11-29T00:00:00.000Z</LastModified>"
            f'<ETag>"x"</ETag></Contents>'
            for key, size in found
        )
        entries += "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
        return (
            f"<ListBucketResult><Name>{self.store.bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(found) + len(folders)}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
            f"{entries}</ListBucketResult>"
        ).encode()

    def _send_object(self, content: bytes) -> None:
        span = self.headers.get("Range")
        if not span:
            self._send(200, content)
            return
        first, last = (int(each) for each in span.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self._send(206, part, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"})

    def _send(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Last-Modified": _DATE, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
