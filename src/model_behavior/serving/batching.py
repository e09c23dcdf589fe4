"""Questions that wait together are answered together, since one more costs little."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar, final

from model_behavior.serving.lanes import Lane
from model_behavior.serving.refusals import overloaded

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")
_MAX_BATCH = 32


@final
class Batcher(Generic[_Question, _Answer]):
    """Takes all that waits, 32 at most, whenever the lane is free; nobody waits for others to come.

    Args:
        lane: does the work.
        queue: how many may wait.
        work: an answer or an exception for each question, in order.
    """

    def __init__(
        self, lane: Lane, queue: int, work: Callable[[Sequence[_Question]], Sequence[_Answer | Exception]]
    ) -> None:
        self._lane = lane
        self._queue = queue
        self._work = work
        self._waiting: deque[tuple[_Question, asyncio.Future[_Answer]]] = deque()
        self._draining: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether the next one would be refused."""
        return len(self._waiting) >= self._queue

    def count(self) -> float:
        """How many wait."""
        return float(len(self._waiting))

    async def ask(self, question: _Question) -> _Answer:
        """The answer.

        Raises:
            RefusalError: 503, too many wait already.
        """
        if self.full:
            raise overloaded(1)
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        while self._waiting:
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
