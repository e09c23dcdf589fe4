"""The figures of a load test as a page of documentation."""

from __future__ import annotations

import os

from model_behavior.serving.load_test import LoadFigures, LoadPlan, LoadReport


def write_load_report(report: LoadReport, plan: LoadPlan, n_models: int, command: str) -> str:
    """Markdown: how it was measured, and a table.

    Args:
        report: figures.
        plan: what was sent.
        n_models: of the artifact.
        command: that does the same again.
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
