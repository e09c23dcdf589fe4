"""Errors as HTTP responses: maps errors of the library to refusals, and refusals to responses.

Every error has one JSON shape, which OpenAI clients can read. The command line imports this module through
`settings.py`, so the web framework is imported only where an answer is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from model_behavior.errors import DataError, ModelBehaviorError, UsageError
from model_behavior.serving.snapshot import ChangedMeanwhileError, NotPossibleError, UnknownModelError
from model_behavior.serving.upload_process import BusyError

if TYPE_CHECKING:
    from starlette.responses import Response

_FIELD: Final = {
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
"""Body of every answer with a status of 400 or more."""


_MEANING = {
    400: "Invalid argument.",
    401: "An API key is needed.",
    403: "The key does not allow this.",
    404: "No such model.",
    409: "Not possible with this catalog.",
    412: "The version has changed; see If-Match.",
    413: "Too large.",
    422: "Invalid request or file.",
    429: "Too many requests of this client; see Retry-After.",
    502: "No upstream answered.",
    503: "Too many requests are waiting; see Retry-After.",
}
_ALWAYS = (400, 401, 403, 429, 503)


class RefusalError(Exception):
    """Refusal of a request: the error that it is answered with.

    Attributes:
        status: HTTP status.
        kind: name of the error for programs, listed in docs/reference/api.md.
        headers: headers of the answer.
    """

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})


def refusal_of(error: ModelBehaviorError) -> RefusalError:
    """The refusal for an error of the library."""
    if isinstance(error, UnknownModelError):
        return RefusalError(404, "invalid_request", str(error))
    if isinstance(error, NotPossibleError):
        return RefusalError(409, "invalid_request", str(error))
    if isinstance(error, ChangedMeanwhileError):
        return RefusalError(412, "changed_meanwhile", str(error))
    if isinstance(error, BusyError):
        return RefusalError(503, "overloaded", str(error), {"Retry-After": "5"})
    if isinstance(error, DataError):
        return RefusalError(422, "invalid_request", str(error))
    if isinstance(error, UsageError):
        return RefusalError(400, "invalid_request", str(error))
    return internal_error()


def overloaded(seconds: int) -> RefusalError:
    """The refusal where too many requests wait."""
    return RefusalError(503, "overloaded", "too many requests are waiting", {"Retry-After": str(seconds)})


def internal_error() -> RefusalError:
    """The refusal after a fault of the service, without details."""
    return RefusalError(500, "internal", "the service failed to answer. Fix: try again; the operator has the log")


def problem_response(refusal: RefusalError, fields: Sequence[Mapping[str, str]] = ()) -> Response:
    """The answer to a refused request."""
    from starlette.responses import Response

    body = {"error": {"type": refusal.kind, "message": str(refusal), "code": None, "fields": list(fields)}}
    return Response(json.dumps(body), refusal.status, refusal.headers, "application/json")


def fields_of(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Validation errors, without the values that the client sent."""
    return [{"at": ".".join(map(str, each.get("loc", ()))), "message": str(each.get("msg", ""))} for each in errors]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error responses of a route: those of all routes, and these."""
    content = {"application/json": {"schema": PROBLEM_SCHEMA}}
    return {status: {"description": _MEANING[status], "content": content} for status in {*_ALWAYS, *statuses}}
