"""Sends each request of a LiteLLM Router to the model that a model-behavior service expects to answer it best.

Deployments of one group name the models that the service knows, in `model_info`. Before each attempt the service is
asked which of those that LiteLLM holds healthy should answer the prompt; LiteLLM does the rest: keys, retries,
cooldowns, fallbacks, and the balance between several deployments of that model. A silent service changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final
from weakref import WeakKeyDictionary

import httpx
from litellm.integrations.custom_logger import CustomLogger

MODEL_INFO = "model_behavior"
"""Key of a deployment's `model_info` that holds the model's name in the catalog of the service."""

Deployment = dict[str, Any]
_log = logging.getLogger("model_behavior_litellm")
_TRIED = "model_behavior_tried"
_BUSY = frozenset({429, 503})


@dataclass(frozen=True)
class RoutingConfig:
    """How the service is asked.

    Attributes:
        api_key: of the service, where it wants one; the scope `read` is enough.
        timeout_seconds: that a request may wait for the service.
        pause_seconds: that a service which has failed is not asked again, unless it says how long.
        threshold: win rate that a unit of cost must add, None for what the service does by itself.
        floor: instead: the cheapest model with this win rate against the best one.
    """

    api_key: str = field(default="", repr=False)
    timeout_seconds: float = 0.5
    pause_seconds: float = 5.0
    threshold: float | None = None
    floor: float | None = None


@final
class ModelBehaviorRouting(CustomLogger):
    """A callback: `litellm.callbacks.append(ModelBehaviorRouting("http://127.0.0.1:8000"))`.

    Groups whose deployments name fewer than two models are left alone, and so are requests without a text. It works for
    asynchronous calls, the only ones for which LiteLLM asks its callbacks; the proxy makes no others.

    Args:
        address: of the service, up to and without `/v1`.
        config: how it is asked.
        clock: seconds.
    """

    def __init__(
        self, address: str, config: RoutingConfig | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._address = address.rstrip("/")
        self._config = config if config is not None else RoutingConfig()
        self._clock = clock
        self._silent_until = float("-inf")
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Deployment],
        messages: list[dict[str, Any]] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: object = None,
    ) -> list[Deployment]:
        """The deployments of the chosen model; all of them where nothing was chosen.

        A model that has failed in an earlier attempt at the same request is chosen last.
        """
        asked = request_kwargs if request_kwargs is not None else {}
        left_out = set(asked.get("_excluded_deployment_ids") or ())
        usable = [each for each in healthy_deployments if each.get("model_info", {}).get("id") not in left_out]
        names = {each: None for each in map(_name_of, usable) if each is not None}
        tried = _tried_in(asked)
        candidates = [name for name in names if name not in tried] or list(names)
        prompt = read_prompt(messages)
        if len(names) < 2 or not prompt:
            return healthy_deployments
        chosen = candidates[0] if len(candidates) == 1 else await self._choose(prompt, candidates)
        if chosen is None:
            return healthy_deployments
        tried.append(chosen)
        return [each for each in usable if _name_of(each) == chosen]

    async def _choose(self, prompt: str, models: Sequence[str]) -> str | None:
        if self._clock() < self._silent_until:
            return None
        config = self._config
        body = {"prompt": prompt, "models": models, "threshold": config.threshold, "floor": config.floor}
        headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        try:
            async with asyncio.timeout(config.timeout_seconds):
                answer = await self._client().post(f"{self._address}/v1/route", json=body, headers=headers)
        except (httpx.TransportError, TimeoutError) as error:
            self._pause(f"does not answer ({type(error).__name__})", config.pause_seconds)
            return None
        if answer.status_code in _BUSY or answer.status_code >= 500:
            self._pause(f"answers {answer.status_code}", _seconds_of(answer, config.pause_seconds))
            return None
        return self._read(answer, models)

    def _read(self, answer: httpx.Response, models: Sequence[str]) -> str | None:
        try:
            chosen = answer.json()["model"]
        except (ValueError, KeyError, TypeError):
            chosen = None
        if answer.status_code == httpx.codes.OK and chosen in models:
            return str(chosen)
        _log.warning("not routed: %s answers %d to a choice among %s", self._address, answer.status_code, list(models))
        return None

    def _pause(self, what: str, seconds: float) -> None:
        self._silent_until = self._clock() + seconds
        _log.warning("not routed for %g seconds: %s %s", seconds, self._address, what)

    def _client(self) -> httpx.AsyncClient:
        """Connections belong to the event loop that opened them."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient()
        return self._clients[loop]


def read_prompt(messages: Sequence[Mapping[str, Any]] | None) -> str:
    """The text of the last message of the user, which the service goes by, too; of the last one where there is none."""
    asked = [message for message in messages or () if message.get("role") == "user"] or list(messages or ())
    content = asked[-1].get("content") if asked else None
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content or () if isinstance(part, Mapping) and part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def _name_of(deployment: Deployment) -> str | None:
    name = deployment.get("model_info", {}).get(MODEL_INFO)
    return name if isinstance(name, str) else None


def _tried_in(request_kwargs: dict[str, Any]) -> list[str]:
    """The models that were chosen for this request before; kept in its metadata, which all its attempts share."""
    metadata = request_kwargs.get("litellm_metadata") or request_kwargs.get("metadata")
    tried: list[str] = metadata.setdefault(_TRIED, []) if isinstance(metadata, dict) else []
    return tried


def _seconds_of(answer: httpx.Response, otherwise: float) -> float:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else otherwise
