"""Requests that are refused, and which errors of the library become which refusal.

How refusals look: one JSON shape for every error, which OpenAI clients can read.

Conditional requests: who changes something says which version of it he has seen (RFC 9110, section 13.1.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import Header
from starlette.responses import Response

from model_behavior.errors import DataError, ModelBehaviorError, UsageError
from model_behavior.serving.snapshot import ChangedMeanwhileError, NotPossibleError, UnknownModelError


class RefusalError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        kind: name of the error for programs, listed in docs/reference/api.md.
        headers: of the answer.
    """

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})


def refusal_of(error: ModelBehaviorError) -> RefusalError:
    """The refusal that an error of the library stands for."""
    if isinstance(error, UnknownModelError):
        return RefusalError(404, "invalid_request", str(error))
    if isinstance(error, NotPossibleError):
        return RefusalError(409, "invalid_request", str(error))
    if isinstance(error, ChangedMeanwhileError):
        return RefusalError(412, "changed_meanwhile", str(error))
    if isinstance(error, DataError):
        return RefusalError(422, "invalid_request", str(error))
    if isinstance(error, UsageError):
        return RefusalError(400, "invalid_request", str(error))
    return internal_error()


def overloaded(seconds: int) -> RefusalError:
    """Too many requests wait."""
    return RefusalError(503, "overloaded", "too many requests are waiting", {"Retry-After": str(seconds)})


def internal_error() -> RefusalError:
    """What a client is told of a fault of the service: nothing."""
    return RefusalError(500, "internal", "the service failed to answer. Fix: try again; the operator has the log")


_FIELD = {
    "type": "object",
    "required": ["at", "message"],
    "properties": {"at": {"type": "string"}, "message": {"type": "string"}},
}
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "code", "fields"],
            "properties": {
                "type": {"type": "string", "examples": ["invalid_request", "overloaded"]},
                "message": {"type": "string"},
                "code": {"type": "null"},
                "fields": {"type": "array", "items": _FIELD},
            },
        }
    },
}
"""Of the body of every answer with a status of 400 or more."""


def problem_response(refusal: RefusalError, fields: Sequence[Mapping[str, str]] = ()) -> Response:
    """The answer to a refused request."""
    body = {"error": {"type": refusal.kind, "message": str(refusal), "code": None, "fields": list(fields)}}
    return Response(json.dumps(body), refusal.status, refusal.headers, "application/json")


def fields_of(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Validation errors without the values that were sent."""
    return [{"at": ".".join(map(str, each.get("loc", ()))), "message": str(each.get("msg", ""))} for each in errors]


IfMatch = Annotated[
    str | None, Header(max_length=1000, description="The ETag of what is changed; 412 where it is another one by now.")
]


def etag(version: str) -> str:
    """The header of a version."""
    return f'"{version}"'


def read_if_match(header: str | None) -> frozenset[str] | None:
    """The versions one of which must be the current one; None where any will do. Weak tags match nothing."""
    tags = [tag.strip() for tag in (header or "*").split(",")]
    if tags == ["*"]:
        return None
    return frozenset(tag[1:-1] for tag in tags if len(tag) > 1 and tag[0] == tag[-1] == '"')
