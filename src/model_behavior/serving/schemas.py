"""Request bodies. Strict: no unknown fields, no silent conversion."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from model_behavior.data_models.scoring_types import ScaleName

MAX_TEXT = 1_000_000
_MAX_ITEMS = 10_000

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
FilledText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Cost = Annotated[float, Field(ge=0, le=1e12, strict=False)]


class StrictRequest(BaseModel):
    """A body without unknown fields and silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class RankRequest(StrictRequest):
    """Models to rank, all by default, on one prompt, in a category of the published ratings, or over all prompts."""

    prompt: FilledText | None = Field(None, examples=["Is 7 prime?"])
    category: Name | None = None
    scale: ScaleName = "elo"
    models: list[Name] | None = Field(None, min_length=1, max_length=_MAX_ITEMS)


class VoteQuestion(StrictRequest):
    """A prompt and two models, whose vote is to be predicted."""

    prompt: FilledText
    model_a: Name
    model_b: Name


class PredictRequest(StrictRequest):
    """Votes to predict."""

    votes: list[VoteQuestion] = Field(min_length=1, max_length=_MAX_ITEMS)


class ChatMessage(BaseModel):
    """One message; other fields are passed on to the upstream unchanged."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: str = Field(max_length=64)
    content: str | list[dict[str, Any]] | None = None


class RouteRequest(StrictRequest):
    """A prompt or a conversation to route, and routing settings."""

    prompt: FilledText | None = Field(None, examples=["Explain recursion to a child."])
    messages: list[ChatMessage] | None = Field(
        None, min_length=1, max_length=_MAX_ITEMS, description="Conversation in OpenAI's format, in place of a prompt."
    )
    models: list[Name] | None = Field(None, min_length=1, max_length=_MAX_ITEMS, description="Candidates.")
    costs: dict[Name, Cost] | None = Field(
        None, min_length=1, max_length=_MAX_ITEMS, description="Cost of a request; replaces the configured costs."
    )
    threshold: float | None = Field(
        None, ge=-1e12, le=1e12, strict=False, description="Win rate that one unit of cost must add."
    )
    floor: float | None = Field(
        None, ge=0, le=0.5, strict=False, description="Least win rate of the chosen model against the best one."
    )
    reference: Name | None = Field(None, description="Model that win rates are measured against.")

    @model_validator(mode="after")
    def check_what_is_routed(self) -> RouteRequest:
        """Refuses both of them, and neither."""
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class Pair(StrictRequest):
    """A prompt and a response to it."""

    prompt: FilledText
    response: FilledText


class EncodeRequest(StrictRequest):
    """Pairs to embed."""

    pairs: list[Pair] = Field(min_length=1, max_length=_MAX_ITEMS)


class IdentifyRequest(StrictRequest):
    """Responses of one unknown model."""

    responses: list[Pair] = Field(min_length=1, max_length=_MAX_ITEMS)
    prior_none: float = Field(
        0.5, gt=0, lt=1, strict=False, description="Prior probability that the model is not in the catalog."
    )


class ChatRequest(BaseModel):
    """OpenAI's request; other fields are passed on to the upstream unchanged."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: Name = Field(examples=["auto"])
    messages: list[ChatMessage] = Field(min_length=1, max_length=_MAX_ITEMS)
    stream: bool | None = None
