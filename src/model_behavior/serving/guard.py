"""Middleware of every request: authentication, origin, rate and size limits, load; and headers of every answer.

The guard also refuses requests while the event loop is late. A pulse measures that: a request that is read now has
waited in its socket for about as long as the loop is late.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from typing import final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_behavior.serving.backend import Backend
from model_behavior.serving.keys import SCOPES
from model_behavior.serving.problems import RefusalError, internal_error, overloaded, problem_response
from model_behavior.serving.settings import RateLimiter, is_loopback

_PUBLIC = ("/", "/healthz", "/readyz", "/favicon.ico")
_STATIC = "/static/"
_UPLOADS = ("/v1/models", "/v1/drift")
_ROUTE = "/v1/route"
_ALIVE = "/healthz"  # is answered whatever the load, so that nobody restarts a service that is busy
_FEW = 16  # requests under way; so many are answered soon, however late it is
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
LEFT = 499  # as nginx logs it
_BEAT_SECONDS = 0.05
_log = logging.getLogger("model_behavior.serving")


@final
class Pulse:
    """Measures how late the event loop is. A long turn delays the beat, which shows while the turn lasts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = float("inf")
        self._before = 0.0

    @property
    def late(self) -> float:
        """Seconds by which the present turn of the loop, or the one before it, is late; 0 before the start."""
        return max(self._before, self._clock() - self._due)

    def beat(self) -> None:
        """Begins a turn."""
        now = self._clock()
        self._before = max(0.0, now - self._due)
        self._due = now + _BEAT_SECONDS

    async def run(self) -> None:
        """Beats until it is cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_SECONDS)


@final
class Guard:
    """ASGI middleware around the whole application.

    It reads no body before the caller is authenticated, and never more than the limit. It logs method, route, status
    and time, but no texts, query strings or messages of exceptions.
    """

    def __init__(self, app: ASGIApp, backend: Backend, pulse: Pulse) -> None:
        self._app = app
        self._settings = backend.settings
        self._metrics = backend.metrics
        self._routes = backend.routes
        self._pulse = pulse
        self._under_way = 0
        self._rates = RateLimiter(backend.settings.limits.requests_per_second, time.monotonic, backend.settings.shared)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        self._under_way += 1

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, self._bounded(scope, receive), send_safely)
        except ClientDisconnect:  # nobody is left to be answered
            status = status or LEFT
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the server would log what may hold texts
            refusal = _refusal_of(error)
            if status == 0:
                await problem_response(refusal)(scope, receive, send_safely)
        finally:
            self._under_way -= 1
        route = getattr(scope.get("route"), "path", "(none)")
        seconds = time.perf_counter() - started
        self._metrics.answered(route, _method(scope), status, seconds)
        _log.info("%s %s %d %.1f ms", _method(scope), route, status, 1000 * seconds)

    def _admit(self, scope: Scope) -> None:
        """Authenticates the caller and sets `scope["state"]["scopes"]`."""
        self._check_load(scope["path"])
        headers, address = Headers(scope=scope), str((scope.get("client") or ("",))[0])
        scopes: tuple[str, ...]
        if not self._settings.keys:
            _check_local(headers)
            scopes, client = SCOPES, address
        else:
            scheme, _, secret = headers.get("authorization", "").partition(" ")
            key = self._settings.keys.find(secret.strip()) if scheme.lower() == "bearer" else None
            scopes, client = ((), address) if key is None else (key.scopes, f"key {key.name}")
        self._rates.spend(client)
        path = scope["path"]
        if not scopes and path not in _PUBLIC and not path.startswith(_STATIC):
            raise RefusalError(
                401,
                "unauthorized",
                "an API key is needed. Fix: send Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        scope.setdefault("state", {})["scopes"] = scopes

    def _check_load(self, path: str) -> None:
        """Refuses requests under overload before any work is done, so that refusals stay quick."""
        if path == _ROUTE:
            self._routes.admit()
        elif path == _ALIVE:
            return
        if self._under_way > _FEW and self._pulse.late > self._settings.limits.wait_seconds:
            raise overloaded(1)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        limits = self._settings.limits
        limit = limits.upload_bytes if scope["path"] in _UPLOADS else limits.body_bytes
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:  # the one exception that FastAPI lets through while it reads a body
                raise HTTPException(413, str(_too_large(limit)))
            return message

        return receive_bounded


def _refusal_of(error: BaseException) -> RefusalError:
    """The refusal that a request ends with; what is a fault is logged, without its message."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, asyncio.CancelledError):  # the service ends, and its grace period is over
        return overloaded(5)
    _log.error("%s in\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return internal_error()


def require_scope(scope: Scope, needed: str) -> None:
    """Refuses a caller whose key lacks a scope.

    Raises:
        RefusalError: 403, the key lacks the scope.
    """
    if needed not in scope["state"]["scopes"]:
        raise RefusalError(403, "forbidden", f"this key does not have the scope {needed!r}")


def _check_local(headers: Headers) -> None:
    """Refuses requests of other sites' pages, which reach a service without keys through the user's browser.

    They could rebind a name to this machine (so Host is checked), or post without reading the answer (so is Origin).
    """
    host = headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if not is_loopback(name):
        raise RefusalError(403, "forbidden", "without API keys the service answers to localhost and 127.0.0.1 only")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise RefusalError(403, "forbidden", "without API keys the service does not answer to pages of other sites")


def _too_large(limit: int) -> RefusalError:
    return RefusalError(413, "invalid_request", f"the body is too large. Allowed: {limit:,} bytes")


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
