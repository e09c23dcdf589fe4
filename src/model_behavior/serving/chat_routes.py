"""OpenAI-compatible chat completions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from model_behavior.serving.backend import Backend
from model_behavior.serving.chat import ATTEMPTS_HEADER, MODEL_HEADER, read_prompt, texts_of
from model_behavior.serving.documented import KEY, refusals
from model_behavior.serving.limits import check_tokens
from model_behavior.serving.schemas import ChatRequest


def make_router(backend: Backend) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", tags=["chat"], dependencies=[KEY])

    @router.post("/chat/completions", responses=refusals(404, 409, 413, 422, 502), response_class=StreamingResponse)
    async def complete(request: ChatRequest) -> StreamingResponse:
        """Send a conversation to the best of the configured upstreams; OpenAI's request and answer."""
        check_tokens(texts_of(request), backend.settings.limits.tokens)
        prompt = read_prompt(request)
        models = await backend.ask(backend.quick, lambda: backend.chat.choose(request.model, prompt))
        answer = await backend.chat.complete(request.model_dump(exclude_unset=True), models)
        headers = {MODEL_HEADER: answer.model, ATTEMPTS_HEADER: str(answer.attempts), "Content-Type": answer.media_type}
        return StreamingResponse(answer.body, answer.status, headers)

    return router
