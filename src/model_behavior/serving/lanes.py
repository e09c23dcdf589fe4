"""Runs work off the event loop, in threads with bounded queues.

A `Lane` is one thread with a queue; the service has one for quick answers and one for slow ones. A `Batcher` answers
waiting questions together: routing uses one on the quick lane, since one more question in a batch costs little. A
request that would wait too long is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar, final

from model_behavior.serving.problems import RefusalError, overloaded

_T = TypeVar("_T")
_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")
_LANE_MEMORY = 0.9  # weight of the past in the running mean of durations
_BATCH_MEMORY = 0.5  # the same for batches, whose sizes change quickly
_MAX_BATCH = 32


@final
class Lane:
    """A thread that runs one piece of work after the other.

    Args:
        name: name of the thread, and of the lane in metrics.
        queue: most pieces of work that may wait.
        wait_seconds: longest expected wait; beyond it work is refused.
        work_seconds: longest time from asking to the answer; then the asker is told. The thread finishes the work.
    """

    def __init__(
        self, name: str, queue: int, wait_seconds: float = math.inf, work_seconds: float | None = None
    ) -> None:
        self.name = name
        self.wait_seconds = wait_seconds
        self._taken = 0  # written by the event loop alone, and what is finished by the thread alone
        self._finished = 0
        self._queue = queue
        self._seconds = 0.0
        self._work_seconds = work_seconds
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        # A daemon: what it still does when the service has to end is abandoned, as by a kill.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of pieces of work that wait or run."""
        return self._taken - self._finished

    def count(self) -> float:
        """Number of pieces of work that wait or run."""
        return float(self.waiting)

    @property
    def wait(self) -> float:
        """Expected wait of the next piece of work, in seconds."""
        return self.waiting * self._seconds

    @property
    def full(self) -> bool:
        """True where the next request would be refused."""
        return self.waiting > self._queue or self.wait > self.wait_seconds

    def admit(self) -> None:
        """Checks that there is a place, without taking it.

        Raises:
            RefusalError: 503, too many wait already.
        """
        if self.full:
            raise overloaded(max(1, math.ceil(self.wait)))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Runs `work` in its turn and returns its result.

        Raises:
            RefusalError: 503, too many wait already, or the work takes too long.
        """
        self.admit()
        self._taken += 1
        future: Future[_T] = Future()
        self._work.put((future, work))
        try:
            async with asyncio.timeout(self._work_seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if future.done() and not future.cancelled():
                raise  # the work's own
            raise RefusalError(
                503, "overloaded", f"no answer within {self._work_seconds:g} seconds", {"Retry-After": "30"}
            ) from None

    def close(self, seconds: float = 10.0) -> None:
        """Drops waiting work, and ends the thread after the running work, for which it waits so many seconds."""
        with contextlib.suppress(Empty):
            while item := self._work.get_nowait():
                item[0].cancel()
        self._work.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            started = time.monotonic()
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:  # noqa: BLE001  the asker is told
                    self._finish(started)
                    future.set_exception(error)
                else:
                    self._finish(started)
                    future.set_result(result)
            else:
                self._finished += 1
            del item, future, work  # they may hold texts

    def _finish(self, started: float) -> None:
        self._seconds = _LANE_MEMORY * self._seconds + (1 - _LANE_MEMORY) * (time.monotonic() - started)
        self._finished += 1


@final
class Batcher(Generic[_Question, _Answer]):
    """Answers all waiting questions, 32 at most, whenever the lane is free; it never waits for more to come.

    Args:
        lane: lane that does the work.
        queue: most questions that may wait.
        work: function that gives an answer or an exception for each question, in order.
    """

    def __init__(
        self, lane: Lane, queue: int, work: Callable[[Sequence[_Question]], Sequence[_Answer | Exception]]
    ) -> None:
        self._lane = lane
        self._queue = queue
        self._work = work
        self._waiting: deque[tuple[_Question, asyncio.Future[_Answer]]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._seconds = 0.0

    @property
    def wait(self) -> float:
        """Expected wait of the next question for the batches before its own, in seconds; 0 while the lane is free."""
        free = self._draining is None or self._draining.done()
        return 0.0 if free else self._seconds * (1 + len(self._waiting) // _MAX_BATCH)

    @property
    def full(self) -> bool:
        """True where the next request would be refused."""
        return len(self._waiting) >= self._queue or self.wait > self._lane.wait_seconds

    def count(self) -> float:
        """Number of waiting questions."""
        return float(len(self._waiting))

    def admit(self) -> None:
        """Checks that there is a place, without taking it.

        Raises:
            RefusalError: 503, too many wait already, or their expected wait is too long.
        """
        if self.full:
            raise overloaded(max(1, math.ceil(self.wait)))

    async def ask(self, question: _Question) -> _Answer:
        """The answer to a question.

        Raises:
            RefusalError: as `admit` does.
        """
        self.admit()
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            started = time.monotonic()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
            questions = [question for question, future in batch if not future.cancelled()]
            futures = [future for _, future in batch if not future.cancelled()]
            answers: Sequence[_Answer | Exception]
            try:
                answers = await self._lane.run(partial(self._work, questions))
            except Exception as error:  # noqa: BLE001  every asker is told
                answers = [error] * len(futures)
            for future, answer in zip(futures, answers, strict=True):
                if future.done():  # its client has left
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            self._seconds = _BATCH_MEMORY * self._seconds + (1 - _BATCH_MEMORY) * (time.monotonic() - started)
