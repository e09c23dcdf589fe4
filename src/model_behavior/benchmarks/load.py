"""Load test of a running service: new prompts at a steady rate, at full speed, and in a burst.

Closed loop: a number of clients, each of which asks again when it is answered, gives the throughput. Open loop:
requests leave at fixed times whether or not earlier ones are answered, and latency counts from the time at which a
request was due, so that a service that stalls cannot hide it (coordinated omission, Tene 2013). The HTTP client is our
own (`LoadClient`), since it must not use more of the processor than the service that it asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import final
from urllib.parse import urlsplit

import numpy as np

_OK = 200
_TEXT = (
    "explain the difference between a list and tuple in python with an example then write short poem about rivers "
    "mountains rain integrals of sine over this domain why do cats purr when people sleep how many moons has jupiter "
    "translate sentence into french name three capital cities prove that there are infinitely primes summarise text "
    "what would happen if gravity were twice as strong give me recipe for bread without yeast please"
)


@dataclass(frozen=True)
class LoadPlan:
    """Settings of the load test.

    Attributes:
        words: number of words of a prompt.
        clients: number of clients at full speed.
        requests: number of requests at full speed.
        rate: requests a second at the steady rate.
        seconds: duration of the steady rate.
        burst: rate of the burst as a multiple of the steady rate; it lasts a tenth of `seconds`.
        seed: seed of the prompts.
    """

    words: int = 30
    clients: int = 16
    requests: int = 50_000
    rate: float = 50.0
    seconds: float = 30.0
    burst: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class LoadFigures:
    """Figures of one load.

    Attributes:
        name: name of the load.
        requests: number of requests sent.
        statuses: answers by HTTP status, 0 for a connection that failed.
        per_second: successful answers a second.
        p50, p95, p99: latency of successful answers, milliseconds.
        slowest: latency of the slowest answer, milliseconds.
        sent_late: 95th percentile of the delay between due time and sending, milliseconds; if it is not far below the
            latency, the client was too slow, not the service.
        retry_after: True if every refusal had a Retry-After header.
    """

    name: str
    requests: int
    statuses: dict[int, int]
    per_second: float
    p50: float
    p95: float
    p99: float
    slowest: float
    sent_late: float
    retry_after: bool


@dataclass(frozen=True)
class LoadReport:
    """All loads, the memory of the service before and after, bytes, and its CPU time for one request, milliseconds."""

    figures: tuple[LoadFigures, ...]
    memory_before: int
    memory_after: int
    cpu_per_request: float


async def run_load(address: str, plan: LoadPlan, progress: Callable[[str, int, int], None]) -> LoadReport:
    """Runs all loads, one after the other.

    Args:
        address: address of a running service, without keys.
        plan: requests to send.
        progress: function called with (load, requests answered, requests in all).
    """
    client, prompts = LoadClient(address), make_prompts(plan)
    await _ask_closed(client, prompts, _Recorder("warm-up", 50, progress), 1)
    memory, cpu = await _read_process(client)
    steady = _Recorder(f"{plan.rate:g} requests a second", round(plan.rate * plan.seconds), progress)
    await _ask_open(client, prompts, steady, plan.rate)
    full = _Recorder(f"full speed, {plan.clients} clients", plan.requests, progress)
    await _ask_closed(client, prompts, full, plan.clients)
    rate = plan.burst * plan.rate
    burst = _Recorder(f"burst of {rate:g} requests a second", round(rate * plan.seconds / 10), progress)
    await _ask_open(client, prompts, burst, rate)
    again = _Recorder("afterwards, one client", 200, progress)
    await _ask_closed(client, prompts, again, 1)
    figures = tuple(each.summarise() for each in (steady, full, burst, again))
    memory_after, cpu_after = await _read_process(client)
    await client.close()
    answered = sum(each.statuses.get(_OK, 0) for each in figures)
    return LoadReport(figures, memory, memory_after, 1000 * (cpu_after - cpu) / max(answered, 1))


def make_prompts(plan: LoadPlan) -> Iterator[str]:
    """Prompts of random words, none twice."""
    rng, words = np.random.default_rng(plan.seed), _TEXT.split()
    number = 0
    while True:
        yield " ".join([*rng.choice(words, plan.words - 1), str(number)])
        number += 1


def write_load_report(report: LoadReport, plan: LoadPlan, n_models: int, command: str) -> str:
    """Writes the report in Markdown: the method, and a table.

    Args:
        report: figures.
        plan: requests that were sent.
        n_models: number of models of the artifact.
        command: command that repeats the measurement.
    """
    rows = "\n".join(_row(each) for each in report.figures)
    total = sum(each.requests for each in report.figures)
    before, after = (each / 2**20 for each in (report.memory_before, report.memory_after))
    return f"""# The service under load

Measured by

```sh
{command}
```

`POST /v1/route` of a service over {n_models} models, {os.cpu_count()} CPU cores shared by the service and the client.
Every prompt has {plan.words} words and is new to the service. At full speed every client asks again when it is
answered; at a fixed rate requests leave when they are due, and latency counts from that time.

| load | requests | answered, a second | p50, ms | p95, ms | p99, ms | slowest, ms | sent late, ms | answers by status |
|---|---|---|---|---|---|---|---|---|
{rows}

Percentiles are of successful answers. "Sent late" is the 95th percentile of the client's own lateness: where it is near
a latency, the client was too slow for the load. A status of 0 is a connection that failed.
The service used {report.cpu_per_request:.1f} ms of CPU time a request.
Resident memory of the service: {before:.0f} MiB before and {after:.0f} MiB after
{total:,} requests. {_refusals(report)}
"""


@dataclass(frozen=True)
class LoadAnswer:
    """What a load test looks at; a status of 0 is a connection that failed."""

    status: int
    retry_after: bool
    body: bytes


FAILED = LoadAnswer(0, False, b"")


@final
class LoadClient:
    """HTTP/1.1 over as many kept connections as there are requests at once.

    Args:
        address: base address, such as `http://127.0.0.1:8000/`.
        timeout_seconds: longest time of a request.
    """

    def __init__(self, address: str, timeout_seconds: float = 60.0) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout_seconds
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def get(self, path: str) -> LoadAnswer:
        """Asks without a body."""
        return await self._send(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def post(self, path: str, value: object) -> LoadAnswer:
        """Sends JSON."""
        body = json.dumps(value).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        return await self._send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def close(self) -> None:
        """Closes all connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _send(self, request: bytes) -> LoadAnswer:
        writer = None
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = self._idle.pop() if self._idle else await self._connect()
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                answer = LoadAnswer(
                    int(head.split(b" ", 2)[1]), b"\r\nretry-after:" in head, await reader.readexactly(_length_of(head))
                )
        except (OSError, EOFError, TimeoutError, ValueError, IndexError, asyncio.LimitOverrunError):
            if writer is not None:
                writer.close()
            return FAILED
        if b"\r\nconnection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port)


@final
class _Recorder:
    """Collects answers."""

    def __init__(self, name: str, n: int, progress: Callable[[str, int, int], None]) -> None:
        self.name, self.n = name, n
        self._progress = progress
        self._statuses: Counter[int] = Counter()
        self._good: list[float] = []
        self._late: list[float] = []
        self._slowest = 0.0
        self._retry_after = True
        self._first, self._last = float("inf"), 0.0

    async def ask(self, client: LoadClient, prompt: str, due: float) -> None:
        self._late.append(time.perf_counter() - due)
        answer = await client.post("/v1/route", {"prompt": prompt})
        now = time.perf_counter()
        seconds = now - due
        self._first, self._last = min(self._first, due), max(self._last, now)
        self._statuses[answer.status] += 1
        self._slowest = max(self._slowest, seconds)
        if answer.status == _OK:
            self._good.append(seconds)
        elif not answer.retry_after:
            self._retry_after = False
        self._progress(self.name, self._statuses.total(), self.n)

    def summarise(self) -> LoadFigures:
        quantiles = np.quantile(self._good, [0.5, 0.95, 0.99]) * 1000 if self._good else np.full(3, np.nan)
        p50, p95, p99 = map(float, quantiles)
        return LoadFigures(
            name=self.name,
            requests=self._statuses.total(),
            statuses=dict(sorted(self._statuses.items())),
            per_second=len(self._good) / max(self._last - self._first, 1e-9),
            p50=p50,
            p95=p95,
            p99=p99,
            slowest=1000 * self._slowest,
            sent_late=1000 * float(np.quantile(self._late, 0.95)) if self._late else np.nan,
            retry_after=self._retry_after,
        )


async def _ask_closed(client: LoadClient, prompts: Iterator[str], recorder: _Recorder, clients: int) -> None:
    left = iter(range(recorder.n))

    async def one() -> None:
        for _ in left:
            await recorder.ask(client, next(prompts), time.perf_counter())

    await asyncio.gather(*(one() for _ in range(clients)))


async def _ask_open(client: LoadClient, prompts: Iterator[str], recorder: _Recorder, rate: float) -> None:
    started = time.perf_counter()
    asked: list[Awaitable[None]] = []
    for number in range(recorder.n):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(recorder.ask(client, next(prompts), due)))
    await asyncio.gather(*asked)


async def _read_process(client: LoadClient) -> tuple[int, float]:
    """Resident memory of the service, bytes, and its CPU time, seconds; 0 where the system does not tell."""
    lines = (await client.get("/metrics")).body.decode().splitlines()
    figures = dict(line.split(" ", 1) for line in lines if line.startswith("process_"))
    memory, cpu = (float(figures.get(f"process_{name}", 0)) for name in ("resident_memory_bytes", "cpu_seconds_total"))
    return int(memory), cpu


def _row(figures: LoadFigures) -> str:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in figures.statuses.items())
    latencies = " | ".join(
        f"{each:.1f}" for each in (figures.p50, figures.p95, figures.p99, figures.slowest, figures.sent_late)
    )
    return f"| {figures.name} | {figures.requests:,} | {figures.per_second:.0f} | {latencies} | {statuses} |"


def _refusals(report: LoadReport) -> str:
    refused = sum(count for each in report.figures for status, count in each.statuses.items() if status != 200)
    if not refused:
        return "No request was refused."
    if all(each.retry_after for each in report.figures):
        return f"All {refused:,} refusals had a Retry-After."
    return f"Of {refused:,} refusals some had no Retry-After."


def _length_of(head: bytes) -> int:
    return int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
