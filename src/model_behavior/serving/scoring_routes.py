"""Questions about prompts and responses."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from model_behavior.errors import ModelBehaviorError
from model_behavior.serving import views
from model_behavior.serving.backend import Backend
from model_behavior.serving.documented import KEY, refusals
from model_behavior.serving.limits import check_tokens
from model_behavior.serving.refusals import RefusalError, refusal_of
from model_behavior.serving.route_finding import RouteQuery
from model_behavior.serving.schemas import (
    EncodeRequest,
    IdentifyRequest,
    Pair,
    PredictRequest,
    RankRequest,
    RouteRequest,
)

_REFUSALS = refusals(404, 409, 413, 422)


def make_router(backend: Backend) -> APIRouter:
    """The routes."""
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

    @router.post("/rank", tags=["scoring"], responses=_REFUSALS)
    async def rank(request: RankRequest) -> views.Ranking:
        """Models by rating, best first, over all prompts or on one."""
        check([request.prompt or ""])
        return await backend.ask(quick, lambda: service.rank(request.prompt, request.models))

    @router.post("/predict", tags=["scoring"], responses=_REFUSALS)
    async def predict(request: PredictRequest) -> views.Predictions:
        """Who would win."""
        votes = request.votes
        check([vote.prompt for vote in votes], len(votes))
        prompts, a, b = ([getattr(vote, name) for vote in votes] for name in ("prompt", "model_a", "model_b"))
        return await backend.ask(quick if len(votes) == 1 else slow, lambda: service.predict(prompts, a, b))

    @router.post("/route", tags=["scoring"], responses=_REFUSALS)
    async def route(request: RouteRequest) -> views.Route:
        """Which model for a prompt, and the other candidates, best first."""
        check([request.prompt])
        query = RouteQuery(
            prompt=request.prompt,
            models=None if request.models is None else tuple(dict.fromkeys(request.models)),
            costs=request.costs,
            threshold=request.threshold,
            floor=request.floor,
            reference=request.reference,
        )
        try:
            return await backend.routes.ask(query)
        except ModelBehaviorError as error:
            raise refusal_of(error) from error

    @router.post("/encode", tags=["behaviour"], responses=_REFUSALS)
    async def encode(request: EncodeRequest) -> views.Embeddings:
        """Pairs to unit vectors."""
        prompts, responses = check_pairs(request.pairs)
        return await backend.ask(slow, lambda: service.encode(prompts, responses))

    @router.post("/identify", tags=["behaviour"], responses=_REFUSALS)
    async def identify(request: IdentifyRequest) -> views.IdentifiedModel:
        """Which known model wrote these responses, or none."""
        prompts, responses = check_pairs(request.responses)
        return await backend.ask(slow, lambda: service.identify(prompts, responses, request.prior_none))

    return router
