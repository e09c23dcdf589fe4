"""What the routes say of themselves in OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import Depends
from fastapi.security import HTTPBearer

from model_behavior.serving.problems import PROBLEM_SCHEMA

# The guard has checked the key before; this tells clients how to send it.
KEY: Any = Depends(HTTPBearer(auto_error=False, description="An API key, where the service has any."))

_MEANING = {
    400: "An argument that cannot be meant.",
    401: "A key is needed.",
    403: "The key does not allow this.",
    404: "No such model.",
    409: "This catalog cannot answer that.",
    412: "It has changed meanwhile; see If-Match.",
    413: "Too large.",
    415: "Another type of content is needed.",
    422: "A request or a file that cannot be used.",
    429: "Too many requests of this client; see Retry-After.",
    502: "No upstream answered.",
    503: "Too many requests are waiting; see Retry-After.",
}
_ALWAYS = (400, 401, 403, 429, 503)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route: those of all routes, and these."""
    content = {"application/json": {"schema": PROBLEM_SCHEMA}}
    return {status: {"description": _MEANING[status], "content": content} for status in {*_ALWAYS, *statuses}}
