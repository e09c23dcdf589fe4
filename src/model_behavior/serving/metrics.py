"""Metrics for Prometheus. Labels come from a fixed set, so that clients cannot create series.

Where several worker processes serve, each keeps its metrics in files of one folder, and whichever worker is asked adds
them all up. A worker that replaces another one goes on with its files, so that no counter falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MultiProcessValue

from model_behavior.serving.settings import MetricFiles

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_CPU = "process_cpu_seconds"
_PROCESS_GAUGES: dict[str, tuple[Literal["sum", "min"], str]] = {
    "process_virtual_memory_bytes": ("sum", "Virtual memory size in bytes, added up over the workers."),
    "process_resident_memory_bytes": (
        "sum",
        "Resident memory size in bytes, added up over the workers; what they share is counted for each.",
    ),
    "process_open_fds": ("sum", "Number of open file descriptors, added up over the workers."),
    "process_max_fds": ("min", "Maximum number of open file descriptors of a worker."),
    "process_start_time_seconds": ("min", "Start time of the oldest worker since unix epoch in seconds."),
}


@final
class Metrics:
    """The metrics of one service.

    Args:
        files: files that the workers of the service keep their metrics in; None where one process serves. With them, at
            most one instance a process.
    """

    def __init__(self, files: MetricFiles | None = None) -> None:
        self._registry = CollectorRegistry()
        own: CollectorRegistry | None = self._registry
        self._process: _WorkerProcess | None = None
        if files is None:
            ProcessCollector(registry=self._registry)
        else:
            own = None  # what is read are the files of all workers
            values.ValueClass = MultiProcessValue(lambda: files.place)  # type: ignore[no-untyped-call]
            MultiProcessCollector(self._registry, str(files.folder))  # type: ignore[no-untyped-call]
            self._process = _WorkerProcess()
        self._requests = Counter(
            "model_behavior_requests", "Requests answered.", ("route", "method", "status"), registry=own
        )
        self._seconds = Histogram(
            "model_behavior_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=own
        )
        self._upstream = Counter(
            "model_behavior_upstream_calls", "Calls of chat upstreams.", ("model", "outcome"), registry=own
        )
        self._waiting = Gauge(
            "model_behavior_waiting", "Requests in a queue.", ("lane",), registry=own, multiprocess_mode="sum"
        )
        self._models = Gauge("model_behavior_models", "Models in the catalog.", registry=own, multiprocess_mode="max")
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answered request; `route` is the pattern, not the path."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def called_upstream(self, model: str, outcome: str) -> None:
        """Counts a call of a configured upstream; `outcome` is "ok", "failed" or "refused"."""
        self._upstream.labels(model, outcome).inc()

    def watch(self, lane: str, waiting: Callable[[], float]) -> None:
        """Reads the length of a queue whenever metrics are published."""
        self._watched.append((self._waiting.labels(lane), waiting))

    def watch_models(self, count: Callable[[], float]) -> None:
        """Reads the number of models whenever metrics are published."""
        self._watched.append((self._models, count))

    def publish(self) -> None:
        """Reads what is watched, for whichever worker is asked next."""
        for gauge, read in self._watched:
            gauge.set(read())
        if self._process is not None:
            self._process.publish()

    def render(self) -> bytes:
        """Renders the metrics in the text format of Prometheus; those of other workers as they last published them."""
        self.publish()
        return generate_latest(self._registry)


@final
class _WorkerProcess:
    """Time, memory and files of this process, among those of the other workers."""

    def __init__(self) -> None:
        self._read = ProcessCollector(registry=None)
        self._seconds = 0.0
        self._cpu = Counter(_CPU, "Total user and system CPU time spent in seconds, by all workers.", registry=None)
        self._gauges = {
            name: Gauge(name, text, registry=None, multiprocess_mode=mode)
            for name, (mode, text) in _PROCESS_GAUGES.items()
        }

    def publish(self) -> None:
        for metric in self._read.collect():
            for sample in metric.samples:
                if metric.name in self._gauges:
                    self._gauges[metric.name].set(sample.value)
                elif metric.name == _CPU:
                    self._cpu.inc(max(sample.value - self._seconds, 0.0))
                    self._seconds = sample.value
