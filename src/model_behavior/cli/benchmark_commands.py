"""`model-behavior benchmark`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from model_behavior.cli.console import ConsoleMonitor, print_load_report, print_result
from model_behavior.cli.options import CacheFolder, Json, open_cache
from model_behavior.data.loading import load_votes
from model_behavior.evaluation.stage1_benchmark import BenchmarkPlan, run_benchmark, write_report
from model_behavior.files import check_output_file, written_aside
from model_behavior.models.behavior.monitor import Runtime

_PLAN = BenchmarkPlan()

app = typer.Typer(no_args_is_help=True, help="Measure on votes, beside baselines, and write a report.")


@app.callback()
def group() -> None:
    """Keeps `stage1` a name of its own, though it is alone so far."""


@app.command("stage1", epilog="Example: `model-behavior benchmark stage1 votes.parquet --output stage1.md`")
def benchmark_stage1(
    votes: Annotated[list[str], typer.Argument(help="Vote files or hf://owner/name, each measured by itself.")],
    output: Annotated[Path, typer.Option(help="Markdown file to write.")],
    seeds: Annotated[int, typer.Option(min=1, help="Splits and trainings.")] = _PLAN.seeds,
    epochs: Annotated[int, typer.Option(min=1, help="Of every training.")] = _PLAN.epochs,
    validation_fraction: Annotated[float, typer.Option(help="Share of prompts.")] = _PLAN.validation_fraction,
    semantic: Annotated[bool, typer.Option(help="Run what needs a transformer, too.")] = _PLAN.semantic,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Stage 1 beside its baselines: triplet accuracy, identification, collapse."""
    check_output_file(output)
    plan = BenchmarkPlan(validation_fraction, seeds, epochs, _PLAN.batch_size, semantic)
    results = []
    for source in votes:
        data, report = load_votes(source)
        print_load_report(report)
        results.append(run_benchmark(Path(source).stem, data, plan, Runtime(open_cache(cache), ConsoleMonitor())))
    options = {
        "--seeds": seeds != _PLAN.seeds and seeds,
        "--epochs": epochs != _PLAN.epochs and epochs,
        "--validation-fraction": validation_fraction != _PLAN.validation_fraction and validation_fraction,
        "--no-semantic": not semantic and "",
    }
    words = [Path(source).name for source in votes] + ["--output", output.name]
    words += [f"{name} {value}".strip() for name, value in options.items() if value is not False]
    command = "model-behavior benchmark stage1 " + " ".join(words)
    with written_aside(output) as aside:
        aside.write_text(write_report(results, plan, command), "utf-8")
    value = {"output": str(output), "results": [asdict(result) for result in results]}
    print_result(value, json, f"{output}: {len(results)} vote files, {seeds} seeds")
