"""The routes of the service, each a few lines around a method of `Service`.

page        the page and its files
operation   health, metrics, session of the caller
catalog     the models: reading, adding, removing, drift; export as a Parquet table
scoring     questions about prompts and responses
chat        OpenAI-compatible completions, sent to the best upstream

Requests are conditional (RFC 9110, section 13.1): with If-Match a change applies to a known version only, and with
If-None-Match a client that has the current version gets no second copy.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from model_behavior.errors import ModelBehaviorError
from model_behavior.serving import views
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.backend import Backend
from model_behavior.serving.chat import CONVERSATION_HEADER, RESPONSE_HEADER, encode_body, make_response_id
from model_behavior.serving.conversations import texts_of, turns_of
from model_behavior.serving.guard import require_scope
from model_behavior.serving.page_files import INDEX, StaticFile, load_static_files
from model_behavior.serving.problems import RefusalError, overloaded, refusal_of, refusals
from model_behavior.serving.receiving import UPLOAD_BODY, receive_upload
from model_behavior.serving.schemas import (
    ChatRequest,
    EncodeRequest,
    IdentifyRequest,
    Pair,
    PredictRequest,
    RankRequest,
    RouteRequest,
)
from model_behavior.serving.service import Service
from model_behavior.serving.settings import check_tokens

# The guard has checked the key before; this only documents it in OpenAPI.
KEY: Any = Depends(HTTPBearer(auto_error=False, description="API key; needed where the service has keys."))
Name = Annotated[str, Path(min_length=1, max_length=200, examples=["gpt-4"])]
ModelName = Annotated[str, Query(min_length=1, max_length=200)]
IfMatch = Annotated[
    str | None, Header(max_length=1000, description="ETag of the version to change; 412 if it is no longer current.")
]

_T = TypeVar("_T")
_ROUTES = TypeAdapter(views.Route)
_TAG = re.compile(r'(?:^|,)\s*(W/)?"([^"]*)"\s*(?=,|$)')
_PARQUET = "application/vnd.apache.parquet"
_TABLE: dict[str, Any] = {
    "description": "One row per model.",
    "content": {_PARQUET: {"schema": {"type": "string", "format": "binary"}}},
}


def make_page_router() -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)
    files = load_static_files()

    def send(file: StaticFile, request: Request) -> Response:
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if is_known(", ".join(request.headers.getlist("if-none-match")), file.etag):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    @router.get("/")
    async def page(request: Request) -> Response:
        return send(files[INDEX], request)

    @router.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        if name not in files:
            raise RefusalError(404, "invalid_request", "there is no such file")
        return send(files[name], request)

    return router


def make_operation_router(backend: Backend) -> APIRouter:
    """Routes for operators, and the session of the caller."""
    router = APIRouter()

    @router.get("/healthz", tags=["operation"], responses=refusals())
    async def healthz() -> dict[str, str]:
        """Answers as long as the process runs."""
        return {"status": "ok"}

    @router.get("/readyz", tags=["operation"], responses=refusals())
    async def readyz() -> views.Readiness:
        """Tells whether requests can be answered; 503 while too many wait."""
        if backend.quick.full or backend.routes.full:
            raise overloaded(1)
        snapshot = backend.service.snapshot
        return views.Readiness("ready", len(snapshot.rows), snapshot.version)

    @router.get("/metrics", tags=["operation"], dependencies=[KEY], responses=refusals(), response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(backend.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/session", tags=["operation"], dependencies=[KEY], responses=refusals())
    async def session(request: Request) -> views.Session:
        """Scopes and limits of the caller."""
        limits = backend.settings.limits
        return views.Session(
            scopes=tuple(request.scope["state"]["scopes"]),
            keys_needed=bool(backend.settings.keys),
            chat=bool(backend.settings.upstreams.models),
            version=backend.service.snapshot.version,
            limits=views.SessionLimits(limits.body_bytes, limits.upload_bytes, limits.batch, limits.tokens),
        )

    return router


def make_catalog_router(backend: Backend) -> APIRouter:
    """Routes of the catalog: reading, adding, removing."""
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
        model: Annotated[str | None, Query(min_length=1, max_length=200, description="Model of unnamed rows.")] = None,
        dry_run: Annotated[bool, Query(description="True to place the models without keeping them.")] = False,
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
        """Remove a model that was never voted on. Needs the scope `admin`."""
        require_scope(request.scope, "admin")
        return await backend.ask(slow, lambda: service.remove(name, read_if_match(if_match)))

    @router.post("/drift", responses=refusals(404, 413, 422), openapi_extra=UPLOAD_BODY)
    async def check_drift(request: Request, model: ModelName) -> views.DriftCheck:
        """Test whether a model's answers have changed since it was enrolled."""
        slow.admit()
        async with receive_upload(request, model) as (file, _):
            return await backend.ask(slow, lambda: service.check_drift(file, model))

    @router.get("/drift", responses=refusals())
    async def drift_checks() -> views.DriftChecks:
        """The latest check of each model since the service started, and the history of all checks; newest first."""
        return await backend.ask(quick, service.drift_checks)

    return router


def _add_reading(router: APIRouter, backend: Backend) -> None:
    service, quick = backend.service, backend.quick

    @router.get("/map", responses=refusals(409))
    async def draw_map() -> views.ModelMap:
        """The map: coordinates of all models, with regions of uncertainty."""
        return await backend.ask(quick, service.map)

    @router.get("/prompts", responses=refusals(404, 409, 422))
    async def prompts(
        number: Annotated[int, Query(ge=1, le=1000)] = 8,
        model: Annotated[
            str | None,
            Query(min_length=1, max_length=200, description="Model that answered some already, to go on from these."),
        ] = None,
    ) -> views.PromptList:
        """The prompts that tell most about a new model, in the order to ask them."""
        return await backend.ask(quick, lambda: service.prompts(number, model))

    @router.get("/models", responses=refusals())
    async def models(response: Response) -> views.ModelList:
        """All models, best first; `data` is what chat completions accept."""
        found = await backend.ask(quick, service.models)
        response.headers["ETag"] = etag(found.version)
        return found

    @router.get("/models/{name:path}/neighbours", responses=refusals(404, 422))
    async def neighbours(name: Name, n: Annotated[int, Query(ge=1, le=50)] = 5) -> views.NeighbourList:
        """The models nearest to one."""
        return await backend.ask(quick, lambda: service.neighbours(name, n))

    @router.get("/models/{name:path}", responses=refusals(404, 422))
    async def describe(name: Name, response: Response) -> views.ModelDetails | views.ListedModel:
        """What sets a model apart from the average, its typical responses, and its changes; of an alias, its name."""
        if name in backend.settings.upstreams.accepted and name not in service.snapshot.rows:
            return views.ListedModel(name)
        found = await backend.ask(quick, lambda: service.describe(name))
        response.headers["ETag"] = etag(found.revisions[0].tag)
        return found

    @router.get("/compare", responses=refusals(404, 422))
    async def compare(a: ModelName, b: ModelName) -> views.Comparison:
        """Two models side by side."""
        return await backend.ask(quick, lambda: service.compare(a, b))


def make_export_router(backend: Backend) -> APIRouter:
    """The models as a table, for other programs such as embedding-atlas."""
    router = APIRouter(prefix="/v1", tags=["catalog"], dependencies=[KEY])

    @router.get("/models.parquet", response_class=Response, responses={**refusals(409), 200: _TABLE})
    async def export_models() -> Response:
        """All models with coordinates on the map, rating and embedding, as Parquet."""
        content = await backend.ask(backend.quick, lambda: make_parquet(backend.service))
        headers = {"Content-Disposition": 'attachment; filename="models.parquet"'}
        return Response(content, media_type=_PARQUET, headers=headers)

    return router


def make_scoring_router(backend: Backend) -> APIRouter:
    """Questions about prompts and responses."""
    answers = refusals(404, 409, 413, 422)
    router = APIRouter(prefix="/v1", dependencies=[KEY])
    service, quick, slow = backend.service, backend.quick, backend.slow

    def check(texts: Sequence[str], n: int = 1) -> None:
        limits = backend.settings.limits
        if n > limits.batch:
            raise RefusalError(413, "invalid_request", f"{n:,} items in one request. Allowed: {limits.batch:,}")
        check_tokens(texts, limits.tokens)

    def check_pairs(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
        prompts, responses = [pair.prompt for pair in pairs], [pair.response for pair in pairs]
        check([*prompts, *responses], len(pairs))
        return prompts, responses

    @router.post("/rank", tags=["scoring"], responses=answers)
    async def rank(request: RankRequest) -> views.Ranking:
        """Models by rating, best first, over all prompts, on one, or in a category of the published ratings."""
        check([request.prompt or ""])
        return await backend.ask(
            quick, lambda: service.rank(request.prompt, request.models, request.category, request.scale)
        )

    @router.post("/predict", tags=["scoring"], responses=answers)
    async def predict(request: PredictRequest) -> views.Predictions:
        """Predict votes: probabilities of the four outcomes."""
        votes = request.votes
        check([vote.prompt for vote in votes], len(votes))
        prompts, a, b = ([getattr(vote, name) for vote in votes] for name in ("prompt", "model_a", "model_b"))
        return await backend.ask(quick if len(votes) == 1 else slow, lambda: service.predict(prompts, a, b))

    @router.post("/route", tags=["scoring"], response_model=views.Route, responses=answers)
    async def route(request: RouteRequest) -> Response:
        """Choose a model for a prompt or a conversation; the other candidates follow, best first."""
        *earlier, prompt = (request.prompt,) if request.prompt is not None else turns_of(request.messages or ())
        check([*earlier, prompt])
        query = RouteQuery(
            prompt=prompt,
            earlier=tuple(earlier),
            models=None if request.models is None else tuple(dict.fromkeys(request.models)),
            costs=request.costs,
            threshold=request.threshold,
            floor=request.floor,
            reference=request.reference,
        )
        try:
            found = await backend.routes.ask(query)
        except ModelBehaviorError as error:
            raise refusal_of(error) from error
        # Written here, since FastAPI would check each of the alternatives first.
        headers = {RESPONSE_HEADER: make_response_id(found.model, prompt)}
        return Response(_ROUTES.dump_json(found), headers=headers, media_type="application/json")

    @router.post("/encode", tags=["behaviour"], responses=answers)
    async def encode(request: EncodeRequest) -> views.Embeddings:
        """Embed (prompt, response) pairs as unit vectors."""
        prompts, responses = check_pairs(request.pairs)
        return await backend.ask(slow, lambda: service.encode(prompts, responses))

    @router.post("/identify", tags=["behaviour"], responses=answers)
    async def identify(request: IdentifyRequest) -> views.IdentifiedModel:
        """Identify which known model, or none of them, wrote the responses."""
        prompts, responses = check_pairs(request.responses)
        return await backend.ask(slow, lambda: service.identify(prompts, responses, request.prior_none))

    return router


def make_chat_router(backend: Backend) -> APIRouter:
    """OpenAI-compatible chat completions."""
    router = APIRouter(prefix="/v1", tags=["chat"], dependencies=[KEY])

    @router.post("/chat/completions", responses=refusals(404, 409, 413, 422, 502), response_class=StreamingResponse)
    async def complete(
        request: ChatRequest,
        connection: Request,
        conversation: Annotated[
            str | None, Header(alias=CONVERSATION_HEADER, max_length=200, description="Name of the conversation.")
        ] = None,
    ) -> Response:
        """Send a conversation to the best of the configured upstreams; OpenAI's request and answer."""
        chat, body = backend.chat, request.model_dump(exclude_unset=True)
        encode_body(body)
        check_tokens(texts_of(request.messages), backend.settings.limits.tokens)
        found = chat.conversations.read(request, conversation)
        plan = await backend.ask(backend.quick, lambda: chat.choose(request.model, found))
        answer = await while_connected(connection, chat.complete(body, plan))
        if isinstance(answer.body, bytes):
            return Response(answer.body, answer.status, answer.headers)
        return StreamingResponse(answer.body, answer.status, answer.headers)

    return router


async def while_connected(connection: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of the work, which is cancelled when the client leaves.

    Raises:
        ClientDisconnect: the client has left.
    """

    async def leave() -> None:
        while (await connection.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def make_parquet(service: Service) -> bytes:
    """One row per model, best rating first: columns of `ModelRow`, `x`, `y`, and `embedding`, fixed_size_list<float>.

    Raises:
        NotPossibleError: there are fewer than three models, too few for a map.
    """
    snapshot = service.snapshot
    embeddings = snapshot.artifact.models.mean
    rows = []
    for point in service.map().models:
        row = snapshot.rows[point.name]
        vector = embeddings[snapshot.index_of(point.name)].tolist()
        rows.append({**vars(row), "x": point.x, "y": point.y, "embedding": vector})
    table = pa.Table.from_pylist(rows)
    place = table.schema.get_field_index("embedding")
    sized = table.column("embedding").cast(pa.list_(pa.float32(), embeddings.shape[1]))
    buffer = io.BytesIO()
    pq.write_table(table.set_column(place, "embedding", sized), buffer, compression="zstd")
    return buffer.getvalue()


def etag(version: str) -> str:
    """The ETag header of a version."""
    return f'"{version}"'


def read_if_match(header: str | None) -> frozenset[str] | None:
    """The versions that If-Match allows; None for any. Weak tags match nothing."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(version for weak, version in _TAG.findall(header) if not weak)


def is_known(if_none_match: str, tag: str) -> bool:
    """True where If-None-Match ("" without one) names this ETag. Weak tags match, too."""
    return if_none_match.strip() == "*" or tag in (etag(version) for _, version in _TAG.findall(if_none_match))
