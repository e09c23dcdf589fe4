"""Settings of the service, and two limits: tokens per request, and requests per client.

The command line decides where a value comes from (flag, environment, file, default).
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from model_behavior.errors import UsageError
from model_behavior.models.behavior.text.tokens import tokenize
from model_behavior.serving.keys import KeyRing
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.shared_table import SharedTable
from model_behavior.serving.upstreams import Upstreams

_MAX_CLIENTS = 4096  # clients whose buckets are kept


@dataclass(frozen=True)
class Limits:
    """Limits of one request, one client, and all together.

    Attributes:
        body_bytes: largest JSON body, in bytes.
        upload_bytes: largest uploaded file, in bytes.
        upload_rows: most rows of an uploaded file.
        batch: most texts or votes of a request.
        tokens: most tokens of all texts of a request: words and marks, but at least one for four bytes.
        requests_per_second: long-run rate of one client, with bursts of twice as many. A client is a key, or else an
            address.
        queue: most quick requests that may wait.
        wait_seconds: longest expected wait of a quick request, in seconds; beyond it the answer is 503.
        slow_queue: most slow requests (uploads, encoding, identification, drift) that may wait.
        connections: most open connections; those without a request under way make room for new ones.
        quick_seconds: longest time to a quick answer, in seconds; then it is 503.
        slow_seconds: longest time to the answer of a slow request.
        header_seconds: longest time for the head of a request to arrive.
        body_seconds: longest time for the body, plus a second for every 16 KiB that have arrived.
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
    quick_seconds: float = 10.0
    slow_seconds: float = 120.0
    header_seconds: float = 10.0
    body_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UsageError(f"limit {name.replace('_', '-')} {value}: must be above 0")


@dataclass(frozen=True)
class MetricFiles:
    """Where a worker keeps its metrics.

    Attributes:
        folder: folder of the metrics of all workers, also in the variable PROMETHEUS_MULTIPROC_DIR of the environment.
        place: number of this worker, which the one that replaces it takes over.
    """

    folder: Path
    place: int


@dataclass(frozen=True)
class ServeSettings:
    """Settings of the service.

    Attributes:
        host: address to listen on; without keys, only an address of this machine.
        port: port to listen on; 0 for any free one.
        keys: accepted API keys.
        limits: limits of requests and clients.
        upstreams: upstreams of chat completions.
        shutdown_seconds: time that running requests have to finish when the service stops.
        refresh_seconds: time between checks for changes of the folder by another process.
        shared: table that the worker processes of one service share; None where there is one process.
        metrics: files of this worker's metrics; None where there is one process.

    Raises:
        UsageError: other machines can reach the address and there are no keys, or the port is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: KeyRing = field(default_factory=KeyRing)
    limits: Limits = field(default_factory=Limits)
    upstreams: Upstreams = field(default_factory=Upstreams)
    shutdown_seconds: int = 10
    refresh_seconds: float = 5.0
    shared: SharedTable | None = None
    metrics: MetricFiles | None = None

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
    """True for an address that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_tokens(texts: Sequence[str], limit: int) -> None:
    """Refuses texts with too many tokens in all.

    Raises:
        RefusalError: 413, there are too many tokens.
    """
    if sum(map(len, texts)) <= limit:  # a token has one character at least
        return
    # Tokenizers cut words: one token is four bytes of English on average, and about one character of Chinese.
    n_tokens = max(len(tokenize(texts).text), sum(len(text.encode("utf-8", "replace")) for text in texts) // 4)
    if n_tokens > limit:
        raise RefusalError(413, "invalid_request", f"{n_tokens:,} tokens in one request. Allowed: {limit:,}")


@final
class RateLimiter:
    """Token buckets, one per client. Only the latest clients are kept, since an attacker may pose as many.

    Args:
        per_second: requests a second of one client.
        clock: seconds; the same in all processes that share buckets.
        shared: table of the buckets, where several processes serve.
    """

    def __init__(self, per_second: float, clock: Callable[[], float], shared: SharedTable | None = None) -> None:
        self._rate = per_second
        self._shared = shared
        self._burst = max(2 * per_second, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, client: str) -> None:
        """Takes one request from a client's bucket.

        Raises:
            RefusalError: 429, the bucket is empty.
        """
        now = self._clock()
        if self._shared is not None:
            with self._shared.place("client", client.encode()) as place:
                bucket = (self._burst, now) if place.stamp is None else (place.value, place.stamp)
                left = self._filled(bucket, now)
                place.value, place.stamp = _spent(left), now
        else:
            left = self._filled(self._buckets.pop(client, (self._burst, now)), now)
            self._buckets[client] = _spent(left), now
            if len(self._buckets) > _MAX_CLIENTS:
                self._buckets.popitem(last=False)
        if left < 1:
            wait = max(1, math.ceil((1 - left) / self._rate))
            raise RefusalError(
                429, "rate_limited", f"more than {self._rate:g} requests a second", {"Retry-After": str(wait)}
            )

    def _filled(self, bucket: tuple[float, float], now: float) -> float:
        left, since = bucket
        return min(self._burst, left + (now - since) * self._rate)


def _spent(left: float) -> float:
    return max(left - 1, 0.0) if left >= 1 else left
