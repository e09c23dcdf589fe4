"""Load test of the service, of one worker or several: new prompts at a steady rate, at full speed, and in a burst.

Closed loop: a number of clients, each of which asks again when it is answered, gives the throughput. Open loop:
requests leave at fixed times whether or not earlier ones are answered, and latency counts from the time at which a
request was due, so that a service that stalls cannot hide it (coordinated omission, Tene 2013). The HTTP client is our
own (`LoadClient`), since it must not use more of the processor than the service that it asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final
from urllib.parse import urlsplit

import numpy as np

from model_behavior.errors import ModelBehaviorError

_OK = 200
_STOP_SECONDS = 30
_IDLE_SECONDS = 20.0  # of a connection; the service closes one after 30
_PUBLISHED_SECONDS = 1.5  # after which every worker has told the others what it has used
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
    """What one number of worker processes does under all loads.

    Attributes:
        workers: number of worker processes.
        figures: the loads; the second one is at full speed.
        memory_before, memory_after: memory of all processes of the service, bytes, what they share counted once; 0
            where the system does not tell.
        cpu_per_request: CPU time of the service for one request, milliseconds.
        client_per_request: CPU time of the client for one request, milliseconds.
    """

    workers: int
    figures: tuple[LoadFigures, ...]
    memory_before: int
    memory_after: int
    cpu_per_request: float
    client_per_request: float

    @property
    def full(self) -> LoadFigures:
        """The load at full speed."""
        return self.figures[1]


def measure_service(
    folder: Path, workers: Sequence[int], plan: LoadPlan, progress: Callable[[str, int, int], None]
) -> list[LoadReport]:
    """Serves an artifact with each number of worker processes in turn, under all loads.

    Args:
        folder: artifact to serve.
        workers: numbers of worker processes.
        plan: requests to send.
        progress: function called with (load, requests answered, requests in all).

    Raises:
        ModelBehaviorError: the service does not start.
    """
    reports = []
    for number in workers:
        command = [sys.executable, "-m", "model_behavior", "serve", str(folder), "--port", "0"]
        command += ["--workers", str(number), "--requests-per-second", "1e6"]  # all come from one address
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                address = _address_of(process)
                reports.append(asyncio.run(run_load(address, process.pid, number, plan, progress)))
            finally:
                process.terminate()
                process.wait(_STOP_SECONDS)
    return reports


async def run_load(
    address: str, process: int, workers: int, plan: LoadPlan, progress: Callable[[str, int, int], None]
) -> LoadReport:
    """Runs all loads, one after the other.

    Args:
        address: address of a running service, without keys.
        process: process of the service, or the parent of its workers.
        workers: number of its worker processes.
        plan: requests to send.
        progress: function called with (load, requests answered, requests in all).
    """
    client, prompts = LoadClient(address), make_prompts(plan)
    await _ask_closed(client, prompts, _Recorder("warm-up", 50 * workers, progress), workers)
    memory, cpu, own = _memory_of(process), await _read_cpu(client), time.process_time()
    steady = _Recorder(f"{plan.rate:g} requests a second", round(plan.rate * plan.seconds), progress)
    await _ask_open(client, prompts, steady, plan.rate)
    full = _Recorder(f"full speed, {plan.clients} clients", plan.requests, progress)
    await _ask_closed(client, prompts, full, plan.clients)
    rate = plan.burst * plan.rate
    burst = _Recorder(f"burst of {rate:g} requests a second", round(rate * plan.seconds / 10), progress)
    await _ask_open(client, prompts, burst, rate)
    again = _Recorder("afterwards, one client", 200, progress)
    await _ask_closed(client, prompts, again, 1)
    own = time.process_time() - own
    figures = tuple(each.summarise() for each in (steady, full, burst, again))
    used = await _read_cpu(client) - cpu
    await client.close()
    n_sent, n_answered = (sum(each.requests for each in figures), sum(each.statuses.get(_OK, 0) for each in figures))
    return LoadReport(
        workers, figures, memory, _memory_of(process), 1000 * used / max(n_answered, 1), 1000 * own / n_sent
    )


def make_prompts(plan: LoadPlan) -> Iterator[str]:
    """Prompts of random words, none twice."""
    rng, words = np.random.default_rng(plan.seed), _TEXT.split()
    number = 0
    while True:
        yield " ".join([*rng.choice(words, plan.words - 1), str(number)])
        number += 1


def write_load_report(reports: Sequence[LoadReport], plan: LoadPlan, n_models: int, command: str) -> str:
    """Writes the report in Markdown: the method, and the tables.

    Args:
        reports: figures of each number of worker processes.
        plan: requests that were sent.
        n_models: number of models of the artifact.
        command: command that repeats the measurement.
    """
    first = reports[0]
    throughput = "\n".join(_summary(each, first) for each in reports)
    rows = "\n".join(_row(each.workers, figures) for each in reports for figures in each.figures)
    refused = "\n".join(f"- {each.workers} {_plural(each.workers)}: {_refusals(each)}" for each in reports)
    return f"""# The service under load

Measured by

```sh
{command}
```

`POST /v1/route` of a service over {n_models} models, {os.cpu_count()} CPU cores shared by the service and the client.
Every prompt has {plan.words} words and is new to the service. At full speed every client asks again when it is
answered; at a fixed rate requests leave when they are due, and latency counts from that time.

## Throughput by number of worker processes

At full speed, {plan.clients} clients. CPU time is that of one request. The service's CPU time and memory are those of
all its processes; what they share counts once. The ratio cannot be above the number of cores, less what the client
takes of them.

| workers | answered, a second | ratio to {first.workers} | p50, ms | p95, ms | p99, ms | service, CPU ms | client, \
CPU ms | memory before, MiB | memory after, MiB |
|---|---|---|---|---|---|---|---|---|---|
{throughput}

## Every load

| workers | load | requests | answered, a second | p50, ms | p95, ms | p99, ms | slowest, ms | sent late, ms | \
answers by status |
|---|---|---|---|---|---|---|---|---|---|
{rows}

Percentiles are of successful answers. "Sent late" is the 95th percentile of the client's own lateness: where it is near
a latency, the client was too slow for the load. A status of 0 is a connection that failed.

{refused}
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
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()

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
            self._idle.pop()[2].close()

    async def _send(self, request: bytes) -> LoadAnswer:
        writer = None
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await self._connect()
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
            self._idle.append((time.monotonic(), reader, writer))
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle and time.monotonic() - self._idle[0][0] > _IDLE_SECONDS:
            self._idle.popleft()[2].close()
        if self._idle:
            return self._idle.pop()[1:]
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


async def _read_cpu(client: LoadClient) -> float:
    """CPU time of the service so far, seconds; 0 where the system does not tell."""
    await asyncio.sleep(_PUBLISHED_SECONDS)
    lines = (await client.get("/metrics")).body.decode().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total ")), 0.0)


def _memory_of(process: int) -> int:
    """Memory of a process and those below it, bytes: a page that n of them map counts a nth for each (Linux's Pss)."""
    folder = Path(f"/proc/{process}")
    try:
        lines = (folder / "smaps_rollup").read_text("ascii").splitlines()
        below = (folder / "task" / str(process) / "children").read_text("ascii").split()
    except OSError:  # another system, or the process has ended
        return 0
    own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 1024 * own + sum(_memory_of(int(each)) for each in below)


def _address_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    line = process.stderr.readline()
    if not line.startswith("http"):
        raise ModelBehaviorError(f"the service did not start: {line}{process.stderr.read()}")
    return line.split(": ")[0]


def _summary(report: LoadReport, first: LoadReport) -> str:
    full, per_request = report.full, (report.cpu_per_request, report.client_per_request)
    ratio = full.per_second / max(first.full.per_second, 1e-9)
    latencies = " | ".join(f"{each:.1f}" for each in (full.p50, full.p95, full.p99))
    memory = " | ".join(f"{each / 2**20:,.0f}" for each in (report.memory_before, report.memory_after))
    cpu = " | ".join(f"{each:.2f}" for each in per_request)
    return f"| {report.workers} | {full.per_second:,.0f} | {ratio:.2f} | {latencies} | {cpu} | {memory} |"


def _row(workers: int, figures: LoadFigures) -> str:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in figures.statuses.items())
    latencies = " | ".join(
        f"{each:.1f}" for each in (figures.p50, figures.p95, figures.p99, figures.slowest, figures.sent_late)
    )
    counts = f"{figures.requests:,} | {figures.per_second:.0f}"
    return f"| {workers} | {figures.name} | {counts} | {latencies} | {statuses} |"


def _plural(workers: int) -> str:
    return "worker" if workers == 1 else "workers"


def _refusals(report: LoadReport) -> str:
    refused = sum(count for each in report.figures for status, count in each.statuses.items() if status != 200)
    if not refused:
        return "no request was refused"
    if all(each.retry_after for each in report.figures):
        return f"all {refused:,} refusals had a Retry-After"
    return f"of {refused:,} refusals some had no Retry-After"


def _length_of(head: bytes) -> int:
    return int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
