"""Configuration of the service; where each value may come from, the command line says."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from model_behavior.errors import UsageError
from model_behavior.serving.keys import KeyRing
from model_behavior.serving.limits import Limits
from model_behavior.serving.upstreams import Upstreams


@dataclass(frozen=True)
class ServeSettings:
    """How the service runs.

    Attributes:
        host: address to listen on; without keys, of this machine only.
        port: 0 for any free one.
        keys: accepted API keys.
        limits: see there.
        upstreams: where chat completions go.
        shutdown_seconds: that requests under way have to end when the service is stopped.
        refresh_seconds: between looks at whether another process has changed the folder.

    Raises:
        UsageError: an address that others reach, without keys; or a port out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: KeyRing = field(default_factory=KeyRing)
    limits: Limits = field(default_factory=Limits)
    upstreams: Upstreams = field(default_factory=Upstreams)
    shutdown_seconds: int = 10
    refresh_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.keys and not is_loopback(self.host):
            raise UsageError(
                f"--host {self.host} can be reached from other machines, and no API key is set. "
                "Fix: model-behavior create-key KEYS.toml --name NAME --scope admin, then --keys KEYS.toml; "
                "or leave --host out to listen on this machine only"
            )
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port}. Allowed: 0 (any free one) to 65535")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
