"""`model-behavior benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from model_behavior.cli.console import ConsoleMonitor, print_load_report, print_result
from model_behavior.cli.options import CacheFolder, Json, open_cache
from model_behavior.cli.service_benchmark import benchmark_service
from model_behavior.data.loading import load_votes
from model_behavior.data_models.votes import TrainingData
from model_behavior.evaluation.plain_values import plain_values
from model_behavior.evaluation.speed.benchmark import SpeedPlan, run_speed_benchmark
from model_behavior.evaluation.speed.report import write_speed_report
from model_behavior.evaluation.stage1_benchmark import BenchmarkPlan, choose_variants, run_benchmark
from model_behavior.evaluation.stage1_report import write_stage1_report
from model_behavior.evaluation.stage2_benchmark import Stage2Plan, run_stage2_benchmark
from model_behavior.evaluation.stage2_report import write_stage2_report
from model_behavior.files import check_output_file, written_aside
from model_behavior.models.behavior.monitor import Runtime

_PLAN = BenchmarkPlan()
_PLAN2 = Stage2Plan()
_SPEED = SpeedPlan()
_Result = TypeVar("_Result")

Votes: TypeAlias = Annotated[list[str], typer.Argument(help="Vote files or hf://owner/name, each measured by itself.")]
Output: TypeAlias = Annotated[Path, typer.Option(help="Markdown file to write; pictures go beside it.")]
Seeds: TypeAlias = Annotated[int, typer.Option(min=1, help="Splits and trainings.")]
Epochs: TypeAlias = Annotated[int, typer.Option(min=1, help="Of every training of stage 1.")]
Fraction: TypeAlias = Annotated[float, typer.Option(help="Share of prompts to measure on.")]
HeldOut: TypeAlias = Annotated[float, typer.Option(help="Share of LLMs held out, in whole families.")]

app = typer.Typer(no_args_is_help=True, help="Measure on votes, beside baselines, and write a report.")

app.command("service", epilog="Example: `model-behavior benchmark service arena --output service.md`")(
    benchmark_service
)


@app.command("stage1", epilog="Example: `model-behavior benchmark stage1 votes.parquet --output stage1.md`")
def benchmark_stage1(
    votes: Votes,
    output: Output,
    seeds: Seeds = _PLAN.seeds,
    epochs: Epochs = _PLAN.epochs,
    validation_fraction: Fraction = _PLAN.validation_fraction,
    held_out_share: HeldOut = _PLAN.held_out_share,
    semantic: Annotated[bool, typer.Option(help="Run what needs a transformer, too.")] = _PLAN.semantic,
    variant: Annotated[
        list[str] | None, typer.Option(help="Train this variant instead of all; repeatable. See the report's rows.")
    ] = None,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Stage 1 beside its baselines: triplet accuracy, identification, collapse, new LLMs."""
    check_output_file(output)
    plan = replace(
        BenchmarkPlan(validation_fraction, seeds, epochs, _PLAN.batch_size, semantic, held_out_share),
        variant=tuple(variant or ()),
    )
    choose_variants(plan)
    results = _measure(votes, cache, lambda name, data, runtime: run_benchmark(name, data, plan, runtime))
    command = _describe("stage1", votes, output, plan, _PLAN)
    write_report(output, *write_stage1_report(results, plan, command))
    _print(output, results, seeds, json)


@app.command("stage2", epilog="Example: `model-behavior benchmark stage2 votes.parquet --output stage2.md`")
def benchmark_stage2(
    votes: Votes,
    output: Output,
    seeds: Seeds = _PLAN2.seeds,
    epochs: Epochs = _PLAN2.epochs,
    validation_fraction: Fraction = _PLAN2.validation_fraction,
    held_out_share: HeldOut = _PLAN2.held_out_share,
    draws: Annotated[int, typer.Option(min=1, help="Enrolments of new LLMs per size.")] = _PLAN2.draws,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Stage 2 beside its baselines: accuracy, log loss and calibration on seen and new prompts and LLMs."""
    check_output_file(output)
    plan = Stage2Plan(validation_fraction, held_out_share, seeds, epochs, _PLAN2.batch_size, draws)
    results = _measure(votes, cache, lambda name, data, runtime: run_stage2_benchmark(name, data, plan, runtime))
    command = _describe("stage2", votes, output, plan, _PLAN2)
    write_report(output, *write_stage2_report(results, plan, command))
    _print(output, results, seeds, json)


@app.command("speed", epilog="Example: `model-behavior benchmark speed votes.parquet --output speed.md`")
def benchmark_speed(
    votes: Votes,
    output: Output,
    texts: Annotated[int, typer.Option(min=1, help="Responses that the transformer encodes.")] = _SPEED.texts,
    rows: Annotated[int, typer.Option(min=1, help="Votes that stage 1 is run on.")] = _SPEED.rows,
    turns: Annotated[int, typer.Option(min=1, help="Repetitions of every way.")] = _SPEED.turns,
    epochs: Epochs = _SPEED.epochs,
    models: Annotated[int, typer.Option(min=1, help="In the enlarged catalog.")] = _SPEED.models,
    semantic: Annotated[bool, typer.Option(help="Run stage 1 with the transformer, too.")] = _SPEED.semantic,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Every stage beside sentence-transformers, beside one text at a time, and beside the least that it must do."""
    check_output_file(output)
    plan = SpeedPlan(texts, rows, turns, epochs, models, semantic)
    results = []
    for source in votes:
        monitor = ConsoleMonitor()
        runtime = Runtime(open_cache(cache), monitor)
        results.append(run_speed_benchmark(Path(source).stem, source, plan, runtime))
        monitor.close()
    write_report(output, *write_speed_report(results, plan, _describe("speed", votes, output, plan, _SPEED)))
    value = {"output": str(output), "results": plain_values(results)}
    print_result(value, json, f"{output}: {len(results)} vote files, {turns} turns")


def _measure(
    votes: Sequence[str], cache: Path | None, measure: Callable[[str, TrainingData, Runtime], _Result]
) -> list[_Result]:
    results = []
    for source in votes:
        data, report = load_votes(source)
        print_load_report(report)
        monitor = ConsoleMonitor()
        results.append(measure(Path(source).stem, data, Runtime(open_cache(cache), monitor)))
        monitor.close()
    return results


def _describe(stage: str, votes: Sequence[str], output: Path, plan: Any, usual: Any) -> str:
    """The command that does the same again: options that differ from the usual ones are named."""
    words = ["model-behavior benchmark", stage, *(Path(source).name for source in votes), "--output", output.name]
    for name, value in vars(plan).items():
        if value != getattr(usual, name):
            option = name.replace("_", "-")
            if isinstance(value, tuple):
                words += [f'--{option} "{each}"' for each in value]
                continue
            words.append(f"--{'' if value else 'no-'}{option}" if isinstance(value, bool) else f"--{option} {value}")
    return " ".join(words)


def write_report(output: Path, text: str, pictures: Mapping[str, str]) -> None:
    """Writes the Markdown, and each picture beside it by its name."""
    for path, content in {output: text, **{output.with_name(name): each for name, each in pictures.items()}}.items():
        with written_aside(path) as aside:
            aside.write_text(content, "utf-8")


def _print(output: Path, results: Sequence[object], seeds: int, as_json: bool) -> None:
    value = {"output": str(output), "results": plain_values(results)}
    print_result(value, as_json, f"{output}: {len(results)} vote files, {seeds} seeds")
