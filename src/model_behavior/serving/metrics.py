"""Metrics for Prometheus. Labels come from a fixed set, so that clients cannot create series."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


@final
class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "model_behavior_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "model_behavior_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._upstream = Counter(
            "model_behavior_upstream_calls",
            "Calls of chat upstreams.",
            ("model", "outcome"),
            registry=self._registry,
        )
        self._waiting = Gauge("model_behavior_waiting", "Requests in a queue.", ("lane",), registry=self._registry)
        self._models = Gauge("model_behavior_models", "Models in the catalog.", registry=self._registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answered request; `route` is the pattern, not the path."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def called_upstream(self, model: str, outcome: str) -> None:
        """Counts a call of a configured upstream; `outcome` is "ok", "failed" or "refused"."""
        self._upstream.labels(model, outcome).inc()

    def watch(self, lane: str, waiting: Callable[[], float]) -> None:
        """Reads the length of a queue whenever metrics are rendered."""
        self._waiting.labels(lane).set_function(waiting)

    def watch_models(self, count: Callable[[], float]) -> None:
        """Reads the number of models whenever metrics are rendered."""
        self._models.set_function(count)

    def render(self) -> bytes:
        """Renders the metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
