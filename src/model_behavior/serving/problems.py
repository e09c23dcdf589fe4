"""How refusals look: one JSON shape for every error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from model_behavior.serving.refusals import RefusalError


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of a request."""

    at: str
    message: str


@dataclass(frozen=True)
class ProblemDetails:
    """What went wrong, as OpenAI clients read it."""

    type: str
    message: str
    code: str | None
    fields: tuple[FieldProblem, ...]


@dataclass(frozen=True)
class Problem:
    """The body of every answer with a status of 400 or more."""

    error: ProblemDetails


def problem_response(refusal: RefusalError, fields: Sequence[Mapping[str, str]] = ()) -> Response:
    """The answer to a refused request."""
    body = {"error": {"type": refusal.kind, "message": str(refusal), "code": None, "fields": list(fields)}}
    return Response(json.dumps(body), refusal.status, refusal.headers, "application/json")


def fields_of(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Validation errors without the values that were sent."""
    return [{"at": ".".join(map(str, each.get("loc", ()))), "message": str(each.get("msg", ""))} for each in errors]
