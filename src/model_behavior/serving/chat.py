"""OpenAI-compatible chat completions, sent to the best model that answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, final

import httpx

from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.metrics import Metrics
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.schemas import ChatRequest
from model_behavior.serving.service import Service
from model_behavior.serving.snapshot import NotPossibleError, UnknownModelError
from model_behavior.serving.upstreams import Health, Upstream, Upstreams

MODEL_HEADER, ATTEMPTS_HEADER = "X-Model-Behavior-Model", "X-Model-Behavior-Attempts"
_MAX_ANSWER = 64 << 20
_CALLERS_FAULT = frozenset({400, 413, 422})  # another model would refuse it as well
_STREAM = "text/event-stream"
_BROKEN = b'data: {"error": {"type": "upstream_failed", "message": "the upstream broke off", "code": null}}\n\n'


@dataclass(frozen=True, eq=False)
class ChatAnswer:
    """An upstream's answer, passed on as it arrives.

    Attributes:
        status: HTTP status.
        media_type: media type of the body.
        model: name of the chosen model.
        attempts: number of upstreams that were asked.
        body: chunks of the body; iterate to the end, or close.
    """

    status: int
    media_type: str
    model: str
    attempts: int
    body: AsyncIterator[bytes]


@final
class ChatRouter:
    """Chooses upstreams by prompt and asks them in order until one answers.

    Args:
        service: service that routes.
        upstreams: configured upstreams.
        metrics: counter of every call.
    """

    def __init__(self, service: Service, upstreams: Upstreams, metrics: Metrics) -> None:
        self._service = service
        self._upstreams = upstreams
        self._metrics = metrics
        self._health = Health()
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(limits=limits, follow_redirects=False)

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()

    def choose(self, model: str, prompt: str) -> list[str]:
        """The models to ask, best first: for an alias its candidates with a cost, for a model's own name that model.

        Raises:
            RefusalError: 404, there is no such model or alias.
            UnknownModelError: no candidate is in the catalog.
            NotPossibleError: no candidate has a cost where other models have one.
        """
        if model in self._upstreams.models:
            return [model]
        alias = self._upstreams.aliases.get(model) if self._upstreams.models else None
        if alias is None:
            accepted = ", ".join(self._upstreams.accepted) or "none: start the service with --upstreams"
            raise RefusalError(404, "invalid_request", f"no upstream for model {model[:200]!r}. Allowed: {accepted}")
        candidates = alias.models if alias.models is not None else tuple(self._upstreams.models)
        snapshot = self._service.snapshot
        if not any(name in snapshot.rows for name in candidates):
            raise UnknownModelError(f"none of {', '.join(candidates)} is in the catalog. Fix: enrol them")
        priced = tuple(name for name in candidates if name in snapshot.prices)
        if not priced:
            raise NotPossibleError(f"none of {', '.join(candidates)} has a cost, and others have. Fix: add their costs")
        query = RouteQuery(prompt, priced, None, alias.threshold, alias.floor)
        found = self._service.route(query)
        return self._health.order([found.model, *(each.model for each in found.alternatives)])

    async def complete(self, body: dict[str, Any], models: list[str]) -> ChatAnswer:
        """The answer of the first of these models that answers.

        Args:
            body: request in OpenAI's format.
            models: names of upstreams, at least one.

        Raises:
            RefusalError: 502, no upstream answered.
        """
        for attempt, name in enumerate(models, 1):
            upstream = self._upstreams.models[name]
            response = await self._call(upstream, body)
            if response is None:
                continue
            refused = response.status_code in _CALLERS_FAULT
            self._metrics.called_upstream(name, "refused" if refused else "ok")
            self._health.answered(name)
            media_type = response.headers.get("content-type", "application/json")
            passed_on = _pass_on(response, media_type.startswith(_STREAM))
            return ChatAnswer(response.status_code, media_type, name, attempt, passed_on)
        tried = ", ".join(models)
        raise RefusalError(
            502, "upstream_failed", f"no upstream answered (tried {tried})", {ATTEMPTS_HEADER: str(len(models))}
        )

    async def _call(self, upstream: Upstream, body: dict[str, Any]) -> httpx.Response | None:
        """The response with its body still to be read; None where the upstream failed."""
        headers = {"Authorization": f"Bearer {upstream.api_key}"} if upstream.api_key else {}
        request = self._client.build_request(
            "POST",
            f"{upstream.base_url}/chat/completions",
            json={**body, "model": upstream.model},
            headers=headers,
            timeout=httpx.Timeout(upstream.timeout_seconds, connect=10.0),
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL):
            response = None
        if response is not None and (response.status_code < 300 or response.status_code in _CALLERS_FAULT):
            return response
        if response is not None:
            await response.aclose()
        self._metrics.called_upstream(upstream.name, "failed")
        self._health.failed(upstream.name)
        return None


async def _pass_on(response: httpx.Response, streams: bool) -> AsyncIterator[bytes]:
    """The body as it arrives; the connection is released even where the client leaves early."""
    passed = 0
    try:
        async for chunk in response.aiter_bytes():
            passed += len(chunk)
            if passed > _MAX_ANSWER:
                break
            yield chunk
    except httpx.TransportError:
        if not streams:
            raise
        yield _BROKEN
    finally:
        await response.aclose()


def read_prompt(request: ChatRequest) -> str:
    """The prompt to route by: the text of the user's last message, or of all messages where there is none."""
    asked = [message for message in request.messages if message.role == "user"] or request.messages
    content = asked[-1].content
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content or () if part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def texts_of(request: ChatRequest) -> list[str]:
    """All texts that count towards the limit of tokens."""
    return [
        message.content if isinstance(message.content, str) else json.dumps(message.content, ensure_ascii=False)
        for message in request.messages
        if message.content is not None
    ]
