"""The page, and what operators look at."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from model_behavior.serving import views
from model_behavior.serving.backend import Backend
from model_behavior.serving.documented import KEY, refusals
from model_behavior.serving.refusals import RefusalError, overloaded
from model_behavior.serving.static_files import INDEX, StaticFile, load_static_files


def make_router(backend: Backend) -> APIRouter:
    """The routes."""
    router = APIRouter()
    files = load_static_files()

    def send(file: StaticFile, request: Request) -> Response:
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    @router.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return send(files[INDEX], request)

    @router.get("/static/{name}", include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        if name not in files:
            raise RefusalError(404, "invalid_request", "there is no such file")
        return send(files[name], request)

    @router.get("/healthz", tags=["operation"], responses=refusals())
    async def healthz() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    @router.get("/readyz", tags=["operation"], responses=refusals())
    async def readyz() -> views.Readiness:
        """Whether requests can be answered: 503 while too many wait."""
        if backend.quick.full or backend.routes.full:
            raise overloaded(1)
        snapshot = backend.service.snapshot
        return views.Readiness("ready", len(snapshot.rows), snapshot.version)

    @router.get("/metrics", tags=["operation"], dependencies=[KEY], responses=refusals(), response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(backend.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/session", tags=["operation"], dependencies=[KEY], responses=refusals())
    async def session(request: Request) -> views.Session:
        """What the caller may do."""
        limits = backend.settings.limits
        return views.Session(
            scopes=tuple(request.scope["state"]["scopes"]),
            keys_needed=bool(backend.settings.keys),
            chat=bool(backend.settings.upstreams.models),
            version=backend.service.snapshot.version,
            limits=views.SessionLimits(limits.body_bytes, limits.upload_bytes, limits.batch, limits.tokens),
        )

    return router
