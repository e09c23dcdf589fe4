"""How late the event loop is: a request that it reads now has waited about as long in its socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import final

_SECONDS = 0.05


@final
class Pulse:
    """Beats as long as it runs. A turn of the loop that takes long makes the beat late, and is seen while it lasts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = float("inf")
        self._before = 0.0

    @property
    def late(self) -> float:
        """Seconds that the present turn of the loop is over its time, or the one before it was; 0 before the start."""
        return max(self._before, self._clock() - self._due)

    def beat(self) -> None:
        """Begins a turn."""
        now = self._clock()
        self._before = max(0.0, now - self._due)
        self._due = now + _SECONDS

    async def run(self) -> None:
        """Beats until it is cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_SECONDS)
