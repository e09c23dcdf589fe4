"""How much a client may ask for."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from model_behavior.errors import UsageError
from model_behavior.models.behavior.tokens import tokenize
from model_behavior.serving.refusals import RefusalError

_MAX_CLIENTS = 4096


@dataclass(frozen=True)
class Limits:
    """What one request, one client and all together may use.

    Attributes:
        body_bytes: of a JSON body.
        upload_bytes: of an uploaded file.
        upload_rows: of an uploaded file.
        batch: texts or votes of a request.
        tokens: words and punctuation marks of all texts of a request.
        requests_per_second: of one client in the long run; twice as many at once. A client is a key, or an address.
        queue: requests for quick answers that may wait.
        wait_seconds: that a request for a quick answer may be expected to wait; longer, it is refused at once.
        slow_queue: requests for slow ones (uploads, encoding, identification, drift) that may wait.
        connections: open at once.
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
