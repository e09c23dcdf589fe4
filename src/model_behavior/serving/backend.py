"""State shared by the routes of the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, final

from model_behavior.errors import ModelBehaviorError
from model_behavior.serving import views
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.chat import ChatRouter
from model_behavior.serving.lanes import Batcher, Lane
from model_behavior.serving.metrics import Metrics
from model_behavior.serving.problems import refusal_of
from model_behavior.serving.service import Service
from model_behavior.serving.settings import ServeSettings

_T = TypeVar("_T")
_CLOSE_SECONDS = 2.0


@final
@dataclass(frozen=True, eq=False)
class Backend:
    """State shared by the routes.

    Attributes:
        service: service that answers questions.
        settings: settings of the process.
        metrics: metrics for Prometheus.
        quick: lane for answers of some milliseconds.
        slow: lane for uploads, encoding, identification and drift, one at a time.
        feedback: lane for votes and thumbs, which wait for the disk.
        routes: batcher of routing queries.
        chat: router of chat completions.
    """

    service: Service
    settings: ServeSettings
    metrics: Metrics
    quick: Lane
    slow: Lane
    feedback: Lane
    routes: Batcher[RouteQuery, views.Route]
    chat: ChatRouter

    async def ask(self, lane: Lane, work: Callable[[], _T]) -> _T:
        """Runs the work in a lane; errors of the library become refusals.

        Raises:
            RefusalError: see `refusal_of`.
        """
        try:
            return await lane.run(work)
        except ModelBehaviorError as error:
            raise refusal_of(error) from error

    async def close(self) -> None:
        """Ends threads and connections."""
        await self.chat.close()
        self.service.uploads.close()  # which also ends what the slow lane may wait for
        await asyncio.to_thread(self.quick.close, _CLOSE_SECONDS)
        await asyncio.to_thread(self.slow.close, _CLOSE_SECONDS)
        await asyncio.to_thread(self.feedback.close, _CLOSE_SECONDS)


def build_backend(service: Service, settings: ServeSettings) -> Backend:
    """The parts around a service."""
    metrics = Metrics(settings.metrics)
    limits = settings.limits
    quick = Lane("quick", limits.queue, limits.wait_seconds, limits.quick_seconds)
    slow = Lane("slow", limits.slow_queue, work_seconds=limits.slow_seconds)
    routes = Batcher(quick, limits.queue, service.route_together)
    feedback = Lane("feedback", limits.queue)
    metrics.watch("quick", quick.count)
    metrics.watch("slow", slow.count)
    metrics.watch("feedback", feedback.count)
    metrics.watch("routes", routes.count)
    metrics.watch_models(lambda: float(len(service.snapshot.rows)))
    return Backend(
        service,
        settings,
        metrics,
        quick,
        slow,
        feedback,
        routes,
        ChatRouter(service, settings.upstreams, metrics, settings.shared),
    )
