"""`model-behavior benchmark service`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from model_behavior import artifact
from model_behavior.cli.console import Progress, print_result
from model_behavior.cli.options import ArtifactFolder, Json
from model_behavior.errors import MissingExtraError, ModelBehaviorError
from model_behavior.files import check_output_file, written_aside

_STOP_SECONDS = 30


def benchmark_service(
    folder: ArtifactFolder,
    output: Annotated[Path, typer.Option(help="Markdown file to write.")],
    requests: Annotated[int, typer.Option(min=1, help="At full speed.")] = 50_000,
    clients: Annotated[int, typer.Option(min=1, help="At full speed.")] = 16,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second at the steady rate.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="At the steady rate.")] = 30.0,
    json: Json = False,
) -> None:
    """The service under load: throughput, latency, a burst of ten times the rate, memory."""
    try:
        import asyncio

        from model_behavior.serving.load_report import write_load_report
        from model_behavior.serving.load_test import LoadPlan, run_load
    except ImportError as error:
        raise MissingExtraError("benchmark service", "serve") from error
    check_output_file(output)
    plan = LoadPlan(requests=requests, clients=clients, rate=rate, seconds=seconds)
    n_models = len(artifact.load(folder).models)
    progress = Progress()
    command = [sys.executable, "-m", "model_behavior", "serve", str(folder), "--port", "0"]
    command += ["--requests-per-second", "1e6"]  # all come from one address
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            report = asyncio.run(run_load(_address_of(process), plan, progress.show))
        finally:
            progress.close()
            process.terminate()
            process.wait(_STOP_SECONDS)
    options = {"requests": requests, "clients": clients, "rate": f"{rate:g}", "seconds": f"{seconds:g}"}
    words = " ".join(f"--{name} {value}" for name, value in options.items())
    again = f"model-behavior benchmark service {folder.name} --output {output.name} {words}"
    with written_aside(output) as aside:
        aside.write_text(write_load_report(report, plan, n_models, again), "utf-8")
    lines = [
        f"{each.name}: {each.per_second:.0f}/s, p50 {each.p50:.1f} ms, p95 {each.p95:.1f} ms, {each.statuses}"
        for each in report.figures
    ]
    print_result({"output": str(output), "command": again, **asdict(report)}, json, "\n".join(lines))


def _address_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    line = process.stderr.readline()
    if not line.startswith("http"):
        raise ModelBehaviorError(f"the service did not start: {line}{process.stderr.read()}")
    return line.split(": ")[0]
