"""Connections with deadlines: uvicorn's protocol, which has one between requests only, and room for newcomers.

The head of a request, its body and the reading of the answer each have a deadline. A connection notes when its own
ends, and a sweep over all of them each second closes those that are late: a request costs a few assignments, no timer.
At the limit of connections the oldest one without a request under way is closed, so that connections which say nothing
keep nobody out.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import resource
from collections import deque
from dataclasses import dataclass
from typing import Any, final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from model_behavior.serving.settings import Limits

_BYTES_PER_SECOND = 16 << 10
_WRITE_SECONDS = 60.0
_MAX_HEAD_BYTES = 64 << 10
_SWEEP_SECONDS = 1.0
_ACCEPTED_AT_ONCE = 32
_TURNS = 8  # of the event loop, until a connection that has to go is closed
_BACKLOG = 2048
_OTHER_FILES = 128
_NEXT_TO_GO = 64
_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE_HEAD = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_log = logging.getLogger("model_behavior.serving")


@dataclass(frozen=True)
class Deadlines:
    """Limits of a connection, see `Limits`."""

    connections: int
    header_seconds: float
    body_seconds: float


class DeadlineProtocol(HttpToolsProtocol):
    """One connection. `make_protocol` gives uvicorn a subclass with deadlines."""

    deadlines: Deadlines
    next_to_go: deque[tuple[float, DeadlineProtocol]]
    due = math.inf
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room, and begins to wait for the head of a request."""
        super().connection_made(transport)
        self.due = self.loop.time() + self.deadlines.header_seconds
        if len(self.connections) > self.deadlines.connections:
            _make_room(self)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, but no endless head."""
        if self._in_head:
            if not self._head_bytes:
                self.due = self.loop.time() + self.deadlines.header_seconds
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_LARGE_HEAD)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begins to wait for the body."""
        self._in_head, self._head_bytes = False, 0
        self.due = self.loop.time() + self.deadlines.body_seconds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Grants time for what has arrived."""
        self.due += len(body) / _BYTES_PER_SECOND
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends the wait: now the service has to answer."""
        self._in_head, self.due = True, math.inf
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begins to wait for the client to read."""
        self.due = self.loop.time() + _WRITE_SECONDS
        super().pause_writing()

    def resume_writing(self) -> None:
        """Ends that wait."""
        self.due = math.inf
        super().resume_writing()

    @property
    def is_idle(self) -> bool:
        """True where no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def give_up(self) -> None:
        """Closes a connection that is late; tells a client that has begun a request and got no answer."""
        began = not self._in_head or self._head_bytes > 0
        if began and not self.transport.is_closing() and (self.cycle is None or not self.cycle.response_started):
            self.transport.write(_LATE)
        self.transport.abort() if self.flow.write_paused else self.transport.close()


def make_protocol(deadlines: Deadlines) -> type[DeadlineProtocol]:
    """The protocol class for uvicorn, which makes one object a connection."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"deadlines": deadlines, "next_to_go": deque()})


@final
class DeadlineServer(uvicorn.Server):
    """Uvicorn's server with a sweep over its connections."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Starts listening and the sweep."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)  # what uvicorn has set bounds what is accepted in a turn of the loop, too
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for each in list(self.server_state.connections):
                if isinstance(each, DeadlineProtocol) and each.due < now:
                    each.give_up()

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Ends the sweep after the last request."""
        await super().shutdown(sockets)
        self._sweeping.cancel()


def accepted_at_once() -> int:
    """Most connections that are accepted in one turn of the event loop."""
    return _ACCEPTED_AT_ONCE


def fit_connections(limits: Limits, upstream_connections: int) -> int:
    """Raises the limit of open files for the wanted connections, and returns how many connections fit."""
    spare = _TURNS * _ACCEPTED_AT_ONCE + _OTHER_FILES + upstream_connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + spare
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fitting = limits.connections if soft == resource.RLIM_INFINITY else max(16, min(limits.connections, soft - spare))
    if fitting < limits.connections:
        _log.warning(
            "%d connections at most, not %d: the system allows %d open files. Fix: ulimit -n %d",
            *(fitting, limits.connections, soft, wanted),
        )
    return fitting


def _make_room(newest: DeadlineProtocol) -> None:
    """Closes the idle connection whose deadline ends first, or else the newest one.

    The next ones to go are looked for many at a time, so that a flood does not search all connections for each one.
    """
    if not _close_next(newest.next_to_go):
        idle = [each for each in newest.connections if isinstance(each, DeadlineProtocol) and each.is_idle]
        idle = [each for each in idle if each is not newest and not each.transport.is_closing()]
        oldest = heapq.nsmallest(_NEXT_TO_GO, idle, key=lambda each: each.due)
        newest.next_to_go.extend((each.due, each) for each in oldest)
        if not _close_next(newest.next_to_go):
            newest.transport.abort()


def _close_next(waiting: deque[tuple[float, DeadlineProtocol]]) -> bool:
    """Closes the first one that has been idle since it was noted; False where there is none."""
    while waiting:
        due, each = waiting.popleft()
        if each.due == due and each.is_idle and not each.transport.is_closing():
            each.transport.abort()
            return True
    return False
