"""The catalog: reading it, adding to it, taking out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from model_behavior.serving import views
from model_behavior.serving.backend import Backend
from model_behavior.serving.documented import KEY, refusals
from model_behavior.serving.guard import require_scope

Name = Annotated[str, Path(min_length=1, max_length=200, examples=["gpt-4"])]
ModelName = Annotated[str, Query(min_length=1, max_length=200)]
_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Responses as a chat log, JSON lines, JSON, CSV, TSV or Parquet; the first bytes say which.",
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": '{"prompt": "Name a river in France.", "response": "The Loire."}\n',
            }
        },
    }
}


def make_router(backend: Backend) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1", tags=["catalog"], dependencies=[KEY])
    service, quick, slow = backend.service, backend.quick, backend.slow
    _add_reading(router, backend)

    @router.post(
        "/models",
        status_code=201,
        responses={**refusals(409, 413, 422), 200: {"model": views.Upload, "description": "A dry run."}},
        openapi_extra=_FILE,
    )
    async def upload(
        request: Request,
        response: Response,
        model: Annotated[str | None, Query(min_length=1, max_length=200, description="Of rows that name none.")] = None,
        dry_run: Annotated[bool, Query(description="Place the models and keep nothing.")] = False,
    ) -> views.Upload:
        """Enrol the models in a file of responses. Needs the scope `admin`, or `read` for a dry run."""
        if not dry_run:
            require_scope(request.scope, "admin")
        body = await request.body()
        found = await backend.ask(slow, lambda: service.upload(body, model, dry_run))
        response.status_code = 200 if dry_run else 201
        return found

    @router.delete("/models/{name:path}", responses=refusals(404, 409))
    async def remove(request: Request, name: Name) -> views.Removal:
        """Take a model out that was never voted on. Needs the scope `admin`."""
        require_scope(request.scope, "admin")
        return await backend.ask(slow, lambda: service.remove(name))

    @router.post("/drift", responses=refusals(404, 413, 422), openapi_extra=_FILE)
    async def check_drift(request: Request, model: ModelName) -> views.DriftCheck:
        """Whether a model answers otherwise than when it was enrolled."""
        body = await request.body()
        return await backend.ask(slow, lambda: service.check_drift(body, model))

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
    async def models() -> views.ModelList:
        """All models, best first; `data` is what chat completions accept."""
        return await backend.ask(quick, service.models)

    @router.get("/models/{name:path}/neighbours", responses=refusals(404, 422))
    async def neighbours(name: Name, n: Annotated[int, Query(ge=1, le=50)] = 5) -> views.NeighbourList:
        """The models most like one."""
        return await backend.ask(quick, lambda: service.neighbours(name, n))

    @router.get("/models/{name:path}", responses=refusals(404, 422))
    async def describe(name: Name) -> views.ModelDetails:
        """What sets a model apart from the average, and typical responses."""
        return await backend.ask(quick, lambda: service.describe(name))

    @router.get("/compare", responses=refusals(404, 422))
    async def compare(a: ModelName, b: ModelName) -> views.Comparison:
        """Two models side by side."""
        return await backend.ask(quick, lambda: service.compare(a, b))
