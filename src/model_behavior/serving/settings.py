"""Settings of the service, and the two checks that they set: tokens of a request, and requests of a client.

Where a value comes from (flag, environment, file, default) is the business of the command line.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

from model_behavior.errors import UsageError
from model_behavior.models.behavior.text.tokens import tokenize
from model_behavior.serving.keys import KeyRing
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.upstreams import Upstreams

_MAX_CLIENTS = 4096  # whose buckets are remembered


@dataclass(frozen=True)
class Limits:
    """What one request, one client and all together may use.

    Attributes:
        body_bytes: largest JSON body.
        upload_bytes: largest uploaded file.
        upload_rows: most rows of an uploaded file.
        batch: most texts or votes of a request.
        tokens: most words and punctuation marks of all texts of a request.
        requests_per_second: requests of one client in the long run; twice as many at once. A client is a key, or an
            address.
        queue: requests for quick answers that may wait.
        wait_seconds: longest expected wait of a request for a quick answer; beyond it the answer is 503 at once.
        slow_queue: requests for slow answers (uploads, encoding, identification, drift) that may wait.
        connections: most connections open at once.
    """

    body_bytes: int = 1 << 20
    upload_bytes: int = 16 << 20
    upload_rows: int = 20_000
    batch: int = 256
    tokens: int = 32_768
    requests_per_second: float = 500.0
    queue: int = 64
    wait_seconds: float = 0.5
    slow_queue: int = 8
    connections: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UsageError(f"limit {name.replace('_', '-')} {value}: must be above 0")


@dataclass(frozen=True)
class ServeSettings:
    """How the service runs.

    Attributes:
        host: address to listen on; without keys, of this machine only.
        port: 0 for any free one.
        keys: accepted API keys.
        limits: what clients may use.
        upstreams: where chat completions go.
        shutdown_seconds: time for requests under way to end when the service is stopped.
        refresh_seconds: time between looks at whether another process has changed the folder.

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


def check_tokens(texts: Sequence[str], limit: int) -> None:
    """Refuses texts that are too long together.

    Raises:
        RefusalError: 413.
    """
    if sum(map(len, texts)) <= limit:  # a token has one character at least
        return
    n_tokens = len(tokenize(texts).text)
    if n_tokens > limit:
        raise RefusalError(413, "invalid_request", f"{n_tokens:,} tokens in one request. Allowed: {limit:,}")


@final
class RateLimiter:
    """Token buckets, one per client; of the many clients that an attacker may pose as, the latest are remembered."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._rate = per_second
        self._burst = max(2 * per_second, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, client: str) -> None:
        """Takes one request from a client's bucket.

        Raises:
            RefusalError: 429, it is empty.
        """
        now = self._clock()
        left, since = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        self._buckets[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = max(1, math.ceil((1 - left) / self._rate))
            raise RefusalError(
                429, "rate_limited", f"more than {self._rate:g} requests a second", {"Retry-After": str(wait)}
            )
