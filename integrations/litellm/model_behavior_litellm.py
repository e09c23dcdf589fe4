"""Sends each request of a LiteLLM Router to the model that a model-behavior service expects to answer it best.

Deployments of one group are of models that the service knows, under LiteLLM's name or one in `model_info`. Before each
attempt the service is asked which of those that LiteLLM holds healthy should answer; LiteLLM does the rest: keys,
retries, cooldowns, fallbacks, and the balance between several deployments of that model. A silent service changes
nothing. Whatever keeps a request from being routed is logged, once a cause.

In the proxy's `config.yaml`, `callbacks: ["model_behavior_litellm.callback"]` is all; the environment variables
MODEL_BEHAVIOR_URL (http://127.0.0.1:8000 by default) and MODEL_BEHAVIOR_KEY say where the service is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_DATE = re.compile(r"[-@](?:20\d\d-?[01]\d-?[0-3]\d|[01]\d[0-3]\d|latest|preview)$")
_NAMES_SECONDS = 300.0
_FIXES = {
    401: "set MODEL_BEHAVIOR_KEY to a key of the service (model-behavior create-key)",
    403: "give the key the scope read; without keys, ask the service at 127.0.0.1",
    404: "check MODEL_BEHAVIOR_URL, and that the models are in the catalog",
    409: "train a scorer, or give the models costs (serve --costs)",
}


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
        self._known: frozenset[str] = frozenset()
        self._known_until = float("-inf")
        self._said: set[str] = set()
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
        turns = read_turns(messages)
        if len(usable) < 2 or not turns:
            return healthy_deployments
        by_deployment = await self._name(usable)
        names = {each: None for each in by_deployment if each is not None}
        tried = _tried_in(asked)
        candidates = [name for name in names if name not in tried] or list(names)
        if len(names) < 2:
            return healthy_deployments
        chosen = candidates[0] if len(candidates) == 1 else await self._choose(turns, candidates)
        if chosen is None:
            return healthy_deployments
        tried.append(chosen)
        return [each for each, name in zip(usable, by_deployment, strict=True) if name == chosen]

    async def _name(self, deployments: Sequence[Deployment]) -> list[str | None]:
        """The names of deployments in the catalog; None for those that it lacks."""
        given = [_name_of(each) for each in deployments]
        if all(name is not None for name in given):
            return given
        known = await self._catalog()
        found = [
            name if name is not None else match_name(known, str(each.get("litellm_params", {}).get("model", "")))
            for name, each in zip(given, deployments, strict=True)
        ]
        missing = [
            str(each["litellm_params"]["model"]) for name, each in zip(found, deployments, strict=True) if not name
        ]
        if known and missing:
            self._say(
                f"not routed to {', '.join(missing)}: the catalog of {self._address} has no model of that name, or "
                f"several. Fix: name it in the deployment, model_info: {{{MODEL_INFO}: NAME}}, or enrol it"
            )
        return found

    async def _catalog(self) -> frozenset[str]:
        """The names in the catalog, asked for every five minutes."""
        if self._clock() >= max(self._known_until, self._silent_until):
            answer = await self._ask("GET", "/v1/models", None)
            if answer is not None and answer.status_code == httpx.codes.OK:
                self._known = frozenset(str(each["name"]) for each in answer.json()["models"])
                self._known_until = self._clock() + _NAMES_SECONDS
            elif answer is not None:
                self._explain(answer)
        return self._known

    async def _choose(self, turns: Sequence[str], models: Sequence[str]) -> str | None:
        if self._clock() < self._silent_until:
            return None
        config = self._config
        messages = [{"role": "user", "content": turn} for turn in turns]
        body = {"messages": messages, "models": models, "threshold": config.threshold, "floor": config.floor}
        answer = await self._ask("POST", "/v1/route", body)
        return None if answer is None else self._read(answer, models)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response | None:
        """The answer of the service; None where it is silent or busy, which is logged."""
        config = self._config
        headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        try:
            async with asyncio.timeout(config.timeout_seconds):
                answer = await self._client().request(method, self._address + path, json=body, headers=headers)
        except (httpx.TransportError, TimeoutError) as error:
            fix = "Fix: model-behavior serve DIR, and MODEL_BEHAVIOR_URL"
            self._pause(f"does not answer ({type(error).__name__}). {fix}", config.pause_seconds)
            return None
        if answer.status_code in _BUSY or answer.status_code >= 500:
            self._pause(f"answers {answer.status_code}", _seconds_of(answer, config.pause_seconds))
            return None
        return answer

    def _read(self, answer: httpx.Response, models: Sequence[str]) -> str | None:
        try:
            chosen = answer.json()["model"]
        except (ValueError, KeyError, TypeError):
            chosen = None
        if answer.status_code == httpx.codes.OK and chosen in models:
            return str(chosen)
        self._explain(answer)
        return None

    def _explain(self, answer: httpx.Response) -> None:
        """Logs a refusal with its fix."""
        try:
            message = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = "no answer in the format of the service; is something else at this address?"
        fix = _FIXES.get(answer.status_code)
        self._say(
            f"not routed: {self._address} answers {answer.status_code}: {message}" + (f" Fix: {fix}" if fix else "")
        )

    def _say(self, line: str) -> None:
        if line not in self._said and len(self._said) < 1000:
            self._said.add(line)
            _log.warning("%s", line)

    def _pause(self, what: str, seconds: float) -> None:
        self._silent_until = self._clock() + seconds
        _log.warning("not routed for %g seconds: %s %s", seconds, self._address, what)

    def _client(self) -> httpx.AsyncClient:
        """Connections belong to the event loop that opened them."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient()
        return self._clients[loop]


def read_turns(messages: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The texts of the user's messages, which the service goes by, too; of all messages where the user has none."""
    asked = [message for message in messages or () if message.get("role") == "user"] or list(messages or ())
    return [text for text in map(_text_of, asked) if text.strip()]


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content or () if isinstance(part, Mapping) and part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def match_name(known: Iterable[str], asked: str) -> str | None:
    """The one name of the catalog that LiteLLM's name of a model means; None where there is none, or several.

    Compared are the parts after the provider, without case; then without a date at the end, so that "openai/gpt-4o" is
    "gpt-4o-2024-08-06".
    """
    wanted = asked.rpartition("/")[2].casefold()
    if not wanted:
        return None
    for fold in (str.casefold, lambda name: _DATE.sub("", name.casefold())):
        found = [name for name in known if fold(name.rpartition("/")[2]) == fold(wanted)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


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


callback = ModelBehaviorRouting(
    os.environ.get("MODEL_BEHAVIOR_URL", "http://127.0.0.1:8000"),
    RoutingConfig(api_key=os.environ.get("MODEL_BEHAVIOR_KEY", "")),
)
"""For the proxy's `callbacks`; set up by the environment."""
