"""What clients send. Strict: no unknown fields, no silent conversion."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_TEXT = 1_000_000
_MAX_ITEMS = 10_000

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
FilledText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Cost = Annotated[float, Field(ge=0, le=1e12, strict=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class RankRequest(_Strict):
    """Models to rank, all by default; on a prompt, or over all."""

    prompt: FilledText | None = Field(None, examples=["Is 7 prime?"])
    models: list[Name] | None = Field(None, min_length=1, max_length=_MAX_ITEMS)


class VoteQuestion(_Strict):
    """Who would win on this prompt?"""

    prompt: FilledText
    model_a: Name
    model_b: Name


class PredictRequest(_Strict):
    """Votes to predict."""

    votes: list[VoteQuestion] = Field(min_length=1, max_length=_MAX_ITEMS)


class RouteRequest(_Strict):
    """A prompt to find a model for."""

    prompt: FilledText = Field(examples=["Explain recursion to a child."])
    models: list[Name] | None = Field(None, min_length=1, max_length=_MAX_ITEMS, description="Candidates.")
    costs: dict[Name, Cost] | None = Field(
        None, min_length=1, max_length=_MAX_ITEMS, description="Of a request, instead of the configured ones."
    )
    threshold: float | None = Field(
        None, ge=-1e12, le=1e12, strict=False, description="Win rate that a unit of cost must add."
    )
    floor: float | None = Field(
        None, ge=0, le=0.5, strict=False, description="Cheapest model with this win rate against the best one."
    )
    reference: Name | None = Field(None, description="That win rates are against.")


class Pair(_Strict):
    """A prompt and a response to it."""

    prompt: FilledText
    response: FilledText


class EncodeRequest(_Strict):
    """Pairs to embed."""

    pairs: list[Pair] = Field(min_length=1, max_length=_MAX_ITEMS)


class IdentifyRequest(_Strict):
    """Responses of one unknown model."""

    responses: list[Pair] = Field(min_length=1, max_length=_MAX_ITEMS)
    prior_none: float = Field(
        0.5, gt=0, lt=1, strict=False, description="Probability of a model that the catalog does not know."
    )


class ChatMessage(BaseModel):
    """One message; what else OpenAI defines goes to the upstream as it is."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: str = Field(max_length=64)
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(BaseModel):
    """OpenAI's request; what is not named here goes to the upstream as it is."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: Name = Field(examples=["auto"])
    messages: list[ChatMessage] = Field(min_length=1, max_length=_MAX_ITEMS)
    stream: bool | None = None
