"""How refusals look: one JSON shape for every error, which OpenAI clients can read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from model_behavior.serving.refusals import RefusalError

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
