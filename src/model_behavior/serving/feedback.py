"""Votes and thumbs: routes that append to the log of the artifact. `update` counts its votes, `drift` watches both.

The id of a response says which model gave it and to which prompt, as hashes, so that feedback needs no memory of what
was answered and outlasts a restart.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Response
from fastapi.security import HTTPBearer
from pydantic import Field

from model_behavior.data.split import hash_text, normalise_prompt
from model_behavior.data.vote_log import LoggedThumb, LoggedVote
from model_behavior.serving.backend import Backend
from model_behavior.serving.chat import RESPONSE_HEADER, RESPONSE_PREFIX
from model_behavior.serving.problems import refusals
from model_behavior.serving.schemas import FilledText, Name, StrictRequest

_DIGITS = 16
_ID = r"^mb-[0-9a-f]{48}$"


class VoteRequest(StrictRequest):
    """A person's vote between two models' responses to a prompt."""

    id: Name = Field(description="Id of the vote, chosen by the sender; a vote that is sent again counts once.")
    prompt: FilledText
    model_a: Name
    model_b: Name
    outcome: Literal["model_a", "model_b", "tie", "both_bad"]


class FeedbackRequest(StrictRequest):
    """A thumb up or down for one response; a later one for the same response takes its place."""

    response_id: str = Field(pattern=_ID, description=f"Value of the answer's header {RESPONSE_HEADER}.")
    rating: Literal["up", "down", 1, -1]


def make_feedback_router(backend: Backend) -> APIRouter:
    """Routes for votes and thumbs."""
    key = Depends(HTTPBearer(auto_error=False, description="API key; needed where the service has keys."))
    router = APIRouter(prefix="/v1", tags=["feedback"], dependencies=[key])
    service, lane = backend.service, backend.feedback
    answers = {**refusals(404, 409, 413, 422), 200: {"description": "Known already; nothing was added."}}

    @router.post("/votes", status_code=201, responses=answers)
    async def vote(request: VoteRequest, response: Response) -> dict[str, bool]:
        """Record a vote. The answer is sent once the vote is on the disk; `update` counts it."""
        entry = LoggedVote(
            request.id,
            hash_text(normalise_prompt(request.prompt)),
            request.model_a,
            request.model_b,
            request.outcome,
        )
        added = await backend.ask(lane, lambda: service.record_vote(entry))
        response.status_code = 201 if added else 200
        return {"added": added}

    @router.post("/feedback", status_code=201, responses=answers)
    async def feedback(request: FeedbackRequest, response: Response) -> dict[str, bool]:
        """Record a thumb for a response, by its id. Thumbs do not change ratings; `drift` watches them."""
        hashes = request.response_id.removeprefix(RESPONSE_PREFIX)
        model, prompt = int(hashes[:_DIGITS], 16), int(hashes[_DIGITS : 2 * _DIGITS], 16)
        up = request.rating in ("up", 1)

        def record() -> bool:
            return service.record_thumb(LoggedThumb(request.response_id, prompt, service.name_of(model), up))

        added = await backend.ask(lane, record)
        response.status_code = 201 if added else 200
        return {"added": added}

    return router
