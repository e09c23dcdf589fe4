"""Requests that are refused, and which errors of the library become which refusal."""

from __future__ import annotations

from collections.abc import Mapping

from model_behavior.errors import DataError, ModelBehaviorError, UsageError
from model_behavior.serving.snapshot import ChangedMeanwhileError, NotPossibleError, UnknownModelError


class RefusalError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        kind: for programs, see docs/serving.md.
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
