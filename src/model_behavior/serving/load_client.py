"""An HTTP client for load tests: it must not use more of the processor than the service that it asks."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import final
from urllib.parse import urlsplit


@dataclass(frozen=True)
class LoadAnswer:
    """What a load test looks at; a status of 0 is a connection that failed."""

    status: int
    retry_after: bool
    body: bytes


FAILED = LoadAnswer(0, False, b"")


@final
class LoadClient:
    """HTTP/1.1 over as many kept connections as there are requests at once.

    Args:
        address: such as `http://127.0.0.1:8000/`.
        timeout_seconds: of a request.
    """

    def __init__(self, address: str, timeout_seconds: float = 60.0) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout_seconds
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def get(self, path: str) -> LoadAnswer:
        """Asks without a body."""
        return await self._send(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def post(self, path: str, value: object) -> LoadAnswer:
        """Sends JSON."""
        body = json.dumps(value).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        return await self._send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def close(self) -> None:
        """Closes all connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _send(self, request: bytes) -> LoadAnswer:
        writer = None
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = self._idle.pop() if self._idle else await self._connect()
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                answer = LoadAnswer(
                    int(head.split(b" ", 2)[1]), b"\r\nretry-after:" in head, await reader.readexactly(_length_of(head))
                )
        except (OSError, EOFError, TimeoutError, ValueError, IndexError, asyncio.LimitOverrunError):
            if writer is not None:
                writer.close()
            return FAILED
        if b"\r\nconnection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port)


def _length_of(head: bytes) -> int:
    return int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
