"""Work off the event loop: one thread and a bounded queue for quick answers, and one for slow ones."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

from model_behavior.serving.refusals import overloaded

_T = TypeVar("_T")
_MEMORY = 0.9  # of the running mean of durations


@final
class Lane:
    """A thread that does one thing after the other.

    Args:
        name: of the thread, and in metrics.
        queue: how many may wait.
        wait_seconds: that one may be expected to wait; who would wait longer is refused.
    """

    def __init__(self, name: str, queue: int, wait_seconds: float = math.inf) -> None:
        self.name = name
        self.wait_seconds = wait_seconds
        self.waiting = 0
        self._queue = queue
        self._seconds = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def count(self) -> float:
        """How many are waiting or being done."""
        return float(self.waiting)

    @property
    def wait(self) -> float:
        """Seconds that the next one can expect to wait."""
        return self.waiting * self._seconds

    @property
    def full(self) -> bool:
        """Whether the next one would be refused."""
        return self.waiting > self._queue or self.wait > self.wait_seconds

    def admit(self) -> None:
        """Asks for a place without taking it.

        Raises:
            RefusalError: 503, too many wait already.
        """
        if self.full:
            raise overloaded(max(1, math.ceil(self.wait)))

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`, when its turn has come.

        Raises:
            RefusalError: 503, too many wait already.
        """
        self.admit()
        self.waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._timed, work)
        future.add_done_callback(self._leave)
        return await future

    def close(self) -> None:
        """Ends the thread when what is running is done; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _timed(self, work: Callable[[], _T]) -> _T:
        started = time.monotonic()
        try:
            return work()
        finally:
            self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * (time.monotonic() - started)

    def _leave(self, _: asyncio.Future[_T]) -> None:
        self.waiting -= 1
