"""Builds the ASGI application from its parts, and runs it with uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable
from socket import IPPROTO_TCP, TCP_NODELAY, socket
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp

from model_behavior.errors import ModelBehaviorError
from model_behavior.serving.backend import Backend, build_backend
from model_behavior.serving.chat import MAX_UPSTREAM_CONNECTIONS
from model_behavior.serving.connections import (
    Deadlines,
    DeadlineServer,
    accepted_at_once,
    fit_connections,
    make_protocol,
)
from model_behavior.serving.feedback import make_feedback_router
from model_behavior.serving.guard import LEFT, Guard, Pulse
from model_behavior.serving.problems import RefusalError, fields_of, internal_error, problem_response
from model_behavior.serving.routes import (
    make_catalog_router,
    make_chat_router,
    make_export_router,
    make_operation_router,
    make_page_router,
    make_scoring_router,
)
from model_behavior.serving.service import Service
from model_behavior.serving.settings import ServeSettings

_KEEP_ALIVE_SECONDS = 30
_PUBLISH_SECONDS = 1.0  # between a worker's reports of its queues and memory to the others


def run_server(
    service: Service, settings: ServeSettings, on_ready: Callable[[str], None], listener: socket | None = None
) -> None:
    """Runs the service until SIGINT or SIGTERM; running requests then have `shutdown_seconds` to finish.

    Args:
        service: service that answers.
        settings: settings of the service.
        on_ready: callback, called with the address once the service listens.
        listener: socket that listens already, where several processes share one.

    Raises:
        OSError: the address is taken or cannot be listened on.
    """
    server, listener = open_server(service, settings, listener)
    gc.collect()
    gc.freeze()  # collecting libraries and models would delay requests by a tenth of a second
    threading.Thread(target=service.uploads.start, daemon=True).start()
    on_ready(address_of(listener))
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()


def open_server(
    service: Service, settings: ServeSettings, listener: socket | None = None
) -> tuple[uvicorn.Server, socket]:
    """The server, and the listening socket to run it with; `listener` is used where one is given.

    Raises:
        OSError: the address is taken or cannot be listened on.
    """
    connections = fit_connections(settings.limits, MAX_UPSTREAM_CONNECTIONS if settings.upstreams.models else 0)
    deadlines = Deadlines(connections, settings.limits.header_seconds, settings.limits.body_seconds)
    config = uvicorn.Config(
        build_app(build_backend(service, settings)),
        http=make_protocol(deadlines),
        host=settings.host,
        port=settings.port,
        loop="asyncio",  # uvloop takes one new connection a turn, so that in a burst they wait outside, unseen
        log_level="error",  # warnings are of requests that are no HTTP, one line each
        access_log=False,  # it would contain query strings
        server_header=False,
        proxy_headers=False,
        backlog=accepted_at_once(),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return DeadlineServer(config), listener if listener is not None else listen(settings)


def listen(settings: ServeSettings) -> socket:
    """A socket that listens on the address of the service: early connections wait until it answers.

    Raises:
        OSError: the address is taken or cannot be listened on.
    """
    config = uvicorn.Config("", host=settings.host, port=settings.port, backlog=accepted_at_once(), log_level="error")
    listener = config.bind_socket()
    listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # handed on to connections: asyncio leaves it off for this socket
    listener.listen(config.backlog)
    return listener


def address_of(listener: socket) -> str:
    """The URL of a listening socket, with a slash at the end."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def build_app(backend: Backend) -> ASGIApp:
    """Builds the application.

    Args:
        backend: state shared by the routes; closed when the application ends.
    """
    pulse = Pulse()
    app = FastAPI(
        title="Model Behavior",
        version="1",
        summary="Embeddings of LLMs from what they answer: ratings, neighbours, routing.",
        lifespan=_lifespan(backend, pulse),
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
    )
    # The busiest routes come first, since routes are tried in order.
    for make_router in (
        make_scoring_router,
        make_chat_router,
        make_operation_router,
        make_catalog_router,
        make_export_router,
        make_feedback_router,
    ):
        app.include_router(make_router(backend))
    app.include_router(make_page_router())
    app.add_exception_handler(RefusalError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(ClientDisconnect, _record_leaving)
    app.add_exception_handler(Exception, _refuse)
    app.openapi()  # prepares the routes, so that the first requests do not wait for it
    return Guard(app, backend, pulse)


def _lifespan(backend: Backend, pulse: Pulse) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each) for each in (_refresh(backend), pulse.run())]
        if backend.settings.metrics is not None:
            tasks.append(asyncio.create_task(_publish(backend)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await backend.close()

    return lifespan


async def _refresh(backend: Backend) -> None:
    """Reloads the folder from time to time where another process has changed it."""
    while True:
        await asyncio.sleep(backend.settings.refresh_seconds)
        with contextlib.suppress(ModelBehaviorError, RefusalError, OSError):  # the catalog in memory stays in use
            await backend.slow.run(backend.service.refresh)


async def _publish(backend: Backend) -> None:
    """Tells the other workers from time to time how long the queues of this one are."""
    while True:
        backend.metrics.publish()
        await asyncio.sleep(_PUBLISH_SECONDS)


def _refuse(_: Request, error: Exception) -> Response:
    return problem_response(error if isinstance(error, RefusalError) else internal_error())


def _record_leaving(_: Request, __: Exception) -> Response:
    return Response(status_code=LEFT)  # for the log and the metrics; nobody is left to be answered


def _refuse_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = fields_of(error.errors())
    what = "; ".join(f"{each['at']}: {each['message']}" for each in fields[:3])
    return problem_response(RefusalError(422, "invalid_request", f"invalid request: {what}"), fields)


def _refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = RefusalError(error.status_code, "invalid_request", str(error.detail), error.headers)
    return problem_response(refusal)
