"""The service as an ASGI application, built from its parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from model_behavior.errors import ModelBehaviorError
from model_behavior.serving import catalog_routes, chat_routes, export_routes, operation_routes, scoring_routes
from model_behavior.serving.backend import Backend
from model_behavior.serving.guard import Guard
from model_behavior.serving.problems import fields_of, problem_response
from model_behavior.serving.pulse import Pulse
from model_behavior.serving.refusals import RefusalError, internal_error


def build_app(backend: Backend) -> ASGIApp:
    """The application.

    Args:
        backend: closed when the application ends.
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
    # The busiest first, since they are tried in order.
    for module in (scoring_routes, chat_routes, operation_routes, catalog_routes, export_routes):
        app.include_router(module.make_router(backend))
    app.add_exception_handler(RefusalError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(Exception, _refuse)
    app.openapi()  # prepares the routes, for which the first requests would wait
    return Guard(app, backend, pulse)


def _lifespan(backend: Backend, pulse: Pulse) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each) for each in (_refresh(backend), pulse.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await backend.close()

    return lifespan


async def _refresh(backend: Backend) -> None:
    """Looks now and then whether another process has changed the folder."""
    while True:
        await asyncio.sleep(backend.settings.refresh_seconds)
        with contextlib.suppress(ModelBehaviorError, RefusalError, OSError):  # the catalog in memory goes on
            await backend.slow.run(backend.service.refresh)


def _refuse(_: Request, error: Exception) -> Response:
    return problem_response(error if isinstance(error, RefusalError) else internal_error())


def _refuse_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = fields_of(error.errors())
    what = "; ".join(f"{each['at']}: {each['message']}" for each in fields[:3])
    return problem_response(RefusalError(422, "invalid_request", f"the request cannot be meant: {what}"), fields)


def _refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = RefusalError(error.status_code, "invalid_request", str(error.detail), error.headers)
    return problem_response(refusal)
