"""The process: uvicorn around the application."""

from __future__ import annotations

import gc
from collections.abc import Callable
from socket import IPPROTO_TCP, TCP_NODELAY, socket

import uvicorn

from model_behavior.serving.app import build_app
from model_behavior.serving.backend import build_backend
from model_behavior.serving.service import Service
from model_behavior.serving.settings import ServeSettings

_KEEP_ALIVE_SECONDS = 30
_MAX_HEADER_BYTES = 32 << 10


def run_server(service: Service, settings: ServeSettings, on_ready: Callable[[str], None]) -> None:
    """Answers until SIGINT or SIGTERM; requests under way are then finished, for `shutdown_seconds` at most.

    Args:
        service: that answers.
        settings: of the process.
        on_ready: told the address when it is listened on.

    Raises:
        OSError: the address is taken or cannot be listened on.
    """
    server, listener = open_server(service, settings)
    gc.collect()
    gc.freeze()  # libraries and models stay: looking through them again would hold requests up for a tenth of a second
    on_ready(address_of(listener))
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()


def open_server(service: Service, settings: ServeSettings) -> tuple[uvicorn.Server, socket]:
    """The server, to be run with the socket, which is listened on already.

    Raises:
        OSError: the address is taken or cannot be listened on.
    """
    config = uvicorn.Config(
        build_app(build_backend(service, settings)),
        host=settings.host,
        port=settings.port,
        loop="asyncio",  # uvloop takes one new connection a turn, so that in a burst they wait outside, unseen
        log_level="warning",
        access_log=False,  # it would hold query strings
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.limits.connections,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    listener = config.bind_socket()
    listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # handed on to connections: asyncio leaves it off for this socket
    listener.listen(config.backlog)  # who connects before the application has started waits instead of being refused
    return uvicorn.Server(config), listener


def address_of(listener: socket) -> str:
    """The URL of what listens there, with a slash at the end."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
