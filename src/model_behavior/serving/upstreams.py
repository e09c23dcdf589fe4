"""OpenAI-compatible services that answer chat completions, and their health."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from model_behavior.errors import UsageError

AUTO = "auto"
_ALLOWED = (
    "Allowed: tables [models.NAME] with base_url, and optionally model, api_key_env, cost and timeout_seconds; tables "
    "[aliases.NAME] with optionally models, threshold and floor"
)


@dataclass(frozen=True)
class Upstream:
    """A service that answers for one model.

    Attributes:
        name: name of the model in the catalog.
        base_url: URL up to and including `/v1`.
        model: name of the model at the upstream; `name` by default.
        api_key: key sent as a bearer token; "" for none.
        cost: cost of a request; None to use the cost table.
        timeout_seconds: longest wait for the first byte, and between bytes.
    """

    name: str
    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    cost: float | None = None
    timeout_seconds: float = 120.0


@dataclass(frozen=True)
class Alias:
    """A name that clients give as `model`, with its routing settings; None for those of `auto`."""

    name: str
    models: tuple[str, ...] | None = None
    threshold: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Upstreams:
    """All upstreams by model, and all aliases by name, including `auto`."""

    models: Mapping[str, Upstream] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, Alias] = field(default_factory=lambda: MappingProxyType({AUTO: Alias(AUTO)}))

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names that chat completions accept as `model`."""
        return (*self.aliases, *self.models) if self.models else ()

    @property
    def costs(self) -> dict[str, float]:
        """Costs configured with the upstreams, by model."""
        return {name: each.cost for name, each in self.models.items() if each.cost is not None}


def load_upstreams(path: Path, environment: Mapping[str, str] | None = None) -> Upstreams:
    """The upstreams in a TOML file.

    Args:
        path: TOML file. It names the environment variables that hold API keys, and never holds a key itself.
        environment: environment variables; those of the process by default.

    Raises:
        UsageError: the file cannot be read or is invalid, or a variable is not set.
    """
    values = os.environ if environment is None else environment
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        _check_names(tables, {"models", "aliases"})
        models = {name: _read_upstream(name, table, values) for name, table in tables.get("models", {}).items()}
        aliases = {name: _read_alias(name, table) for name, table in tables.get("aliases", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {error}. {_ALLOWED}") from error
    if not models:
        raise UsageError(f"{path}: no model in it. {_ALLOWED}")
    for alias in aliases.values():
        missing = [name for name in alias.models or () if name not in models]
        if missing or alias.name in models:
            raise UsageError(f"{path}: alias {alias.name!r} is a model, or names unknown models: {', '.join(missing)}")
    return Upstreams(models, {AUTO: Alias(AUTO), **aliases})


def _read_upstream(name: str, table: dict[str, Any], environment: Mapping[str, str]) -> Upstream:
    _check_names(table, {"base_url", "model", "api_key_env", "cost", "timeout_seconds"})
    base_url = str(table["base_url"]).rstrip("/")
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(f"base_url {base_url!r} of {name} is not an http(s) URL")
    variable = table.get("api_key_env")
    if variable is not None and not environment.get(variable):
        raise ValueError(f"the environment variable {variable} with the API key of {name} is not set")
    if variable is not None and not (environment[variable].isascii() and environment[variable].isprintable()):
        raise ValueError(f"the environment variable {variable} with the API key of {name} is not printable ASCII")
    cost = table.get("cost")
    if cost is not None and not float(cost) >= 0:
        raise ValueError(f"cost {cost!r} of {name} is not a number of 0 or more")
    return Upstream(
        name=name,
        base_url=base_url,
        model=str(table.get("model", name)),
        api_key="" if variable is None else environment[variable],
        cost=None if cost is None else float(cost),
        timeout_seconds=float(table.get("timeout_seconds", Upstream.timeout_seconds)),
    )


def _read_alias(name: str, table: dict[str, Any]) -> Alias:
    _check_names(table, {"models", "threshold", "floor"})
    models = table.get("models")
    if "threshold" in table and "floor" in table:
        raise ValueError(f"alias {name} has a threshold and a floor")
    return Alias(name, None if models is None else tuple(models), table.get("threshold"), table.get("floor"))


def _check_names(table: dict[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}")


@final
class Health:
    """Keeps track of upstreams that have failed recently, so that they are asked last."""

    def __init__(self, rest_seconds: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest_seconds
        self._clock = clock
        self._until: dict[str, float] = {}

    def failed(self, name: str) -> None:
        """Records a failure, after which the upstream is asked last for a while."""
        self._until[name] = self._clock() + self._rest

    def answered(self, name: str) -> None:
        """Records an answer, which ends the wait after a failure."""
        self._until.pop(name, None)

    def rests(self, name: str) -> bool:
        """True for an upstream that has failed recently."""
        return self._until.get(name, 0.0) > self._clock()

    def order(self, names: list[str]) -> list[str]:
        """The same names, with those that have failed recently at the end."""
        return sorted(names, key=self.rests)
