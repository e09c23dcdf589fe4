"""OpenAI-compatible chat completions, sent to the best model that answers."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final
from urllib.parse import quote

import httpx

from model_behavior.data.split import hash_text, normalise_prompt
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.conversations import MOVING_GAIN, Conversation, Conversations
from model_behavior.serving.metrics import Metrics
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.relay import CALLERS_FAULT, Call, UpstreamError, call_upstream
from model_behavior.serving.service import Service
from model_behavior.serving.shared_table import SharedTable
from model_behavior.serving.snapshot import NotPossibleError, UnknownModelError
from model_behavior.serving.upstreams import Health, Upstreams
from model_behavior.serving.views import Route

MODEL_HEADER, ATTEMPTS_HEADER = "X-Model-Behavior-Model", "X-Model-Behavior-Attempts"
RESPONSE_HEADER, CONVERSATION_HEADER = "X-Model-Behavior-Response", "X-Model-Behavior-Conversation"
RESPONSE_PREFIX = "mb-"
MAX_UPSTREAM_CONNECTIONS = 256
_HEADERS = {
    MODEL_HEADER: "model",
    ATTEMPTS_HEADER: "attempts",
    RESPONSE_HEADER: "response_id",
    "X-Model-Behavior-Win-Rate": "win_rate",
    "X-Model-Behavior-Win-Rate-Low": "low",
    "X-Model-Behavior-Win-Rate-High": "high",
    "X-Model-Behavior-Cost": "cost",
    "X-Model-Behavior-Reason": "reason",
    "X-Model-Behavior-Runner-Up": "runner_up",
}
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_WAITS = frozenset({429, 503})
_log = logging.getLogger("model_behavior.serving")


@dataclass(frozen=True, eq=False)
class Plan:
    """The models to ask, best first, and why.

    Attributes:
        models: names of upstreams, at least one.
        reason: reason for the first one.
        route: route that was found; None for a model that was asked for by name.
        conversation: conversation that the answer belongs to.
    """

    models: tuple[str, ...]
    reason: str
    route: Route | None
    conversation: Conversation


@dataclass(frozen=True, eq=False)
class ChatAnswer:
    """An upstream's answer.

    Attributes:
        status: HTTP status.
        headers: headers that say which model has answered, and why; ASCII.
        body: whole body, or its chunks; iterate to the end, or close.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


@final
class ChatRouter:
    """Chooses upstreams by conversation and asks them in order until one answers.

    Args:
        service: service that routes.
        upstreams: configured upstreams.
        metrics: counter of every call.
        shared: table of conversations, where several processes serve.

    Attributes:
        conversations: models of the latest conversations.
    """

    def __init__(
        self, service: Service, upstreams: Upstreams, metrics: Metrics, shared: SharedTable | None = None
    ) -> None:
        self.conversations = Conversations(shared=shared, names=lambda: tuple(upstreams.models))
        self._service = service
        self._upstreams = upstreams
        self._metrics = metrics
        self._health = Health()
        limits = httpx.Limits(max_connections=MAX_UPSTREAM_CONNECTIONS, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(limits=limits, follow_redirects=False)

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()

    def choose(self, model: str, conversation: Conversation) -> Plan:
        """The models to ask: for an alias its candidates with a cost, for a model's own name that model.

        Raises:
            RefusalError: 404, there is no such model or alias.
            UnknownModelError: no candidate is in the catalog.
            NotPossibleError: no candidate has a cost where other models have one.
        """
        if model in self._upstreams.models:
            return Plan((model,), "asked for by name", None, conversation)
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
        *earlier, prompt = conversation.turns
        found = self._service.route(RouteQuery(prompt, tuple(earlier), priced, None, alias.threshold, alias.floor))
        ranked = self._health.order([found.model, *(each.model for each in found.alternatives)])
        return self._stay(conversation, found, ranked)

    def _stay(self, conversation: Conversation, found: Route, ranked: list[str]) -> Plan:
        """The plan for a conversation: with the model that it has, unless there is a reason to move."""
        kept = self.conversations.find(conversation)
        moved, reason = "", found.reason
        if kept is not None and kept not in ranked:
            moved = f"moved: {kept} is no candidate any more; "
        elif kept is not None and self._health.rests(kept):
            moved = f"moved: {kept} has failed lately; "
        elif kept is not None and kept != found.model and (gain := _gain(found, kept)) >= MOVING_GAIN:
            moved = f"moved: on the whole conversation {found.model} is ahead of {kept} by {gain:.2f} win rate; "
        elif kept is not None:
            ranked = [kept, *(name for name in ranked if name != kept)]
            reason = "stays within its conversation"
        elif ranked[0] != found.model:
            moved = f"{found.model} has failed lately; "
        return Plan(tuple(ranked), moved + reason, found, conversation)

    async def complete(self, body: dict[str, Any], plan: Plan) -> ChatAnswer:
        """The answer of the first of the planned models that answers.

        Args:
            body: request in OpenAI's format.
            plan: models to ask.

        Raises:
            RefusalError: 422, the body cannot be written as JSON; 502 where no upstream answered, or the status of 4xx
                or 503 that one of them answered with.
        """
        encode_body(body)
        failures: list[tuple[str, UpstreamError]] = []
        for attempt, name in enumerate(plan.models, 1):
            upstream = self._upstreams.models[name]
            explanation = self._explain(plan, name, attempt)
            content = encode_body({**body, "model": upstream.model})
            call = Call(content, bool(body.get("stream")), explanation, partial(self._ended, name))
            started = time.monotonic()
            try:
                relayed = await call_upstream(self._client, upstream, call)
            except UpstreamError as error:
                _log.warning("upstream %s: %s, after %.1f s", _ascii(name), error, time.monotonic() - started)
                self._ended(name, False)
                failures.append((name, error))
                continue
            refused = relayed.status in CALLERS_FAULT
            _log.info("upstream %s: answered %d in %.1f s", _ascii(name), relayed.status, time.monotonic() - started)
            self._metrics.called_upstream(name, "refused" if refused else "ok")
            self._health.answered(name)
            self.conversations.keep(plan.conversation, name)
            headers = {**_headers_of(explanation), "Content-Type": relayed.media_type}
            return ChatAnswer(relayed.status, headers, relayed.body)
        raise _refusal_of(failures)

    def _explain(self, plan: Plan, name: str, attempt: int) -> dict[str, Any]:
        explained = {} if plan.route is None else self._service.explain(plan.route, name)
        reason = plan.reason if attempt == 1 else f"after {attempt - 1} failed; {plan.reason}"
        return {
            "response_id": make_response_id(name, plan.conversation.turns[-1]),
            "model": name,
            **explained,
            "reason": reason,
            "attempts": attempt,
        }

    def _ended(self, name: str, whole: bool) -> None:
        """Notes a call that has failed, at once or within its stream."""
        if not whole:
            self._metrics.called_upstream(name, "failed")
            self._health.failed(name)


def make_response_id(model: str, prompt: str) -> str:
    """A new id of a response of this model to this prompt, as hashes, so that feedback needs no memory of answers."""
    return f"{RESPONSE_PREFIX}{hash_text(model):016x}{hash_text(normalise_prompt(prompt)):016x}{secrets.token_hex(8)}"


def encode_body(body: Mapping[str, Any]) -> bytes:
    """A request as JSON that any upstream can read.

    Raises:
        RefusalError: 422, it holds what JSON or UTF-8 cannot: NaN, infinity, half a surrogate pair; or is too deep.
    """
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # an error of encoding is a ValueError
        raise RefusalError(
            422,
            "invalid_request",
            "the request holds a number that is not finite, half a surrogate pair, or is nested too deeply",
        ) from error


def _gain(found: Route, kept: str) -> float:
    """Win rate by which the chosen model is ahead of the kept one, costs counted as the route counts them."""
    other = next(each for each in found.alternatives if each.model == kept)
    return found.win_rate - other.win_rate - found.threshold * (found.cost - other.cost)


def _refusal_of(failures: list[tuple[str, UpstreamError]]) -> RefusalError:
    """The refusal after all upstreams have failed: with the status that helps the client most."""
    told = [error for _, error in failures if error.status is not None and (error.status < 500 or error.status == 503)]
    told = [error for error in told if error.status is not None and error.status >= 400]
    chosen = next((error for error in told if error.status in _WAITS), told[0] if told else None)
    status = 502 if chosen is None or chosen.status is None else chosen.status
    headers = {ATTEMPTS_HEADER: str(len(failures))}
    if chosen is not None and chosen.retry_after and chosen.retry_after.isascii() and chosen.retry_after.isprintable():
        headers["Retry-After"] = chosen.retry_after
    tried = "; ".join(f"{name} {error}" for name, error in failures)
    return RefusalError(status, "upstream_failed", f"no upstream answered: {tried}", headers)


def _headers_of(explanation: Mapping[str, Any]) -> dict[str, str]:
    values = {header: explanation.get(field) for header, field in _HEADERS.items()}
    return {header: _ascii(value) for header, value in values.items() if value is not None}


def _ascii(value: object) -> str:
    """A value for a header or the log: printable ASCII, the rest percent-encoded as UTF-8."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return quote(text, safe=_PRINTABLE, errors="replace")
