"""The catalog: reading it, adding to it, taking out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from model_behavior.serving import views
from model_behavior.serving.backend import Backend
from model_behavior.serving.conditions import IfMatch, etag, read_if_match
from model_behavior.serving.documented import KEY, refusals
from model_behavior.serving.guard import require_scope
from model_behavior.serving.receiving import UPLOAD_BODY, receive_upload

Name = Annotated[str, Path(min_length=1, max_length=200, examples=["gpt-4"])]
ModelName = Annotated[str, Query(min_length=1, max_length=200)]


def make_router(backend: Backend) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1", tags=["catalog"], dependencies=[KEY])
    service, quick, slow = backend.service, backend.quick, backend.slow
    _add_reading(router, backend)

    @router.post(
        "/models",
        status_code=201,
        responses={**refusals(409, 412, 413, 422), 200: {"model": views.Upload, "description": "A dry run."}},
        openapi_extra=UPLOAD_BODY,
    )
    async def upload(
        request: Request,
        response: Response,
        model: Annotated[str | None, Query(min_length=1, max_length=200, description="Of rows that name none.")] = None,
        dry_run: Annotated[bool, Query(description="Place the models and keep nothing.")] = False,
        if_match: IfMatch = None,
    ) -> views.Upload:
        """Enrol the models in a file of responses. Needs the scope `admin`, or `read` for a dry run."""
        if not dry_run:
            require_scope(request.scope, "admin")
        slow.admit()
        expected = read_if_match(if_match)
        async with receive_upload(request, model) as (file, name):
            found = await backend.ask(slow, lambda: service.upload(file, name, dry_run, expected))
        response.status_code = 200 if dry_run else 201
        response.headers["ETag"] = etag(found.version)
        return found

    @router.delete("/models/{name:path}", responses=refusals(404, 409, 412))
    async def remove(request: Request, name: Name, if_match: IfMatch = None) -> views.Removal:
        """Take a model out that was never voted on. Needs the scope `admin`."""
        require_scope(request.scope, "admin")
        return await backend.ask(slow, lambda: service.remove(name, read_if_match(if_match)))

    @router.post("/drift", responses=refusals(404, 413, 422), openapi_extra=UPLOAD_BODY)
    async def check_drift(request: Request, model: ModelName) -> views.DriftCheck:
        """Whether a model answers otherwise than when it was enrolled."""
        slow.admit()
        async with receive_upload(request, model) as (file, _):
            return await backend.ask(slow, lambda: service.check_drift(file, model))

    @router.get("/drift", responses=refusals())
    async def drift_checks() -> views.DriftChecks:
        """The latest check of each model since the service started, newest first."""
        return await backend.ask(quick, service.drift_checks)

    return router


def _add_reading(router: APIRouter, backend: Backend) -> None:
    service, quick = backend.service, backend.quick

    @router.get("/map", responses=refusals(409))
    async def draw_map() -> views.ModelMap:
        """Where the models lie, and how well that is known."""
        return await backend.ask(quick, service.map)

    @router.get("/models", responses=refusals())
    async def models(response: Response) -> views.ModelList:
        """All models, best first; `data` is what chat completions accept."""
        found = await backend.ask(quick, service.models)
        response.headers["ETag"] = etag(found.version)
        return found

    @router.get("/models/{name:path}/neighbours", responses=refusals(404, 422))
    async def neighbours(name: Name, n: Annotated[int, Query(ge=1, le=50)] = 5) -> views.NeighbourList:
        """The models most like one."""
        return await backend.ask(quick, lambda: service.neighbours(name, n))

    @router.get("/models/{name:path}", responses=refusals(404, 422))
    async def describe(name: Name, response: Response) -> views.ModelDetails:
        """What sets a model apart from the average, typical responses, and what became of it."""
        found = await backend.ask(quick, lambda: service.describe(name))
        response.headers["ETag"] = etag(found.revisions[0].tag)
        return found

    @router.get("/compare", responses=refusals(404, 422))
    async def compare(a: ModelName, b: ModelName) -> views.Comparison:
        """Two models side by side."""
        return await backend.ask(quick, lambda: service.compare(a, b))
