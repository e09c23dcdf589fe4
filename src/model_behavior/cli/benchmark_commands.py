"""`model-behavior benchmark`: each command measures votes or the service, and writes a report in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from model_behavior.artifact import Artifact
from model_behavior.benchmarks.catalog_size import measure_catalogs, write_catalog_report
from model_behavior.benchmarks.drift import DriftPlan, run_drift_benchmark, write_drift_report
from model_behavior.benchmarks.rating_cells import RatedMaterial, RatedResult, run_rated_benchmark
from model_behavior.benchmarks.robustness import measure_languages
from model_behavior.benchmarks.scale import ScalePlan, measure_sizes, write_scale_report
from model_behavior.benchmarks.speed.report import SpeedPlan, run_speed_benchmark, write_speed_report
from model_behavior.benchmarks.stage1 import BenchmarkPlan, choose_variants, run_benchmark
from model_behavior.benchmarks.stage1_report import write_stage1_report
from model_behavior.benchmarks.stage2 import run_stage2_benchmark
from model_behavior.benchmarks.stage2_plan import Stage2Plan
from model_behavior.benchmarks.stage2_report import write_stage2_report
from model_behavior.benchmarks.values import plain_values
from model_behavior.cli.console import ConsoleMonitor, Progress, print_load_report, print_result
from model_behavior.cli.options import (
    ArtifactFolder,
    CacheFolder,
    Json,
    MemoryLimit,
    Seed,
    open_artifact,
    open_cache,
)
from model_behavior.data.loading import load_responses, load_votes
from model_behavior.data.ratings import load_ratings
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.files import check_output_file, written_aside
from model_behavior.memory import parse_memory, spare_memory
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.pipeline import gather_material

_PLAN = BenchmarkPlan()
_PLAN2 = Stage2Plan()
_SPEED = SpeedPlan()
_DRIFT = DriftPlan()
_LANGUAGE_EPOCHS = 2
_SIZES = "10000,100000,1000000"
_CATALOGS = "100,1000,10000"
_WORKERS = "1"
_Result = TypeVar("_Result")

Votes: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="VOTES", help="Vote files or hf://owner/name, each benchmarked separately.")
]
Output: TypeAlias = Annotated[Path, typer.Option(help="Markdown file to write; plots are saved beside it.")]
Seeds: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Number of seeds, from 0; each has its own split and training.")
]
Epochs: TypeAlias = Annotated[int, typer.Option(min=1, help="Epochs of every training of stage 1.")]
Fraction: TypeAlias = Annotated[float, typer.Option(help="Share of prompts kept for validation.")]
HeldOut: TypeAlias = Annotated[float, typer.Option(help="Share of LLMs to hold out, in whole families.")]


def benchmark_stage1(
    votes: Votes,
    output: Output,
    seeds: Seeds = _PLAN.seeds,
    epochs: Epochs = _PLAN.epochs,
    validation_fraction: Fraction = _PLAN.validation_fraction,
    held_out_share: HeldOut = _PLAN.held_out_share,
    semantic: Annotated[
        bool,
        typer.Option(help="Include the methods that need a transformer; variants that are named are trained anyway."),
    ] = _PLAN.semantic,
    variant: Annotated[
        list[str] | None, typer.Option(help="Variant to train, by its name in the report; all by default; repeatable.")
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(
            help="Published ratings; with --responses, votes drawn from them are one more file.", metavar="CSV"
        ),
    ] = None,
    responses: Annotated[str | None, typer.Option(help="Responses of the rated models.")] = None,
    robustness: Annotated[bool, typer.Option(help="Identify changed and mixed responses, too.")] = _PLAN.robustness,
    languages: Annotated[
        bool, typer.Option(help="Identify the synthetic arena's LLMs in other languages, too.")
    ] = _PLAN.languages,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Benchmark stage 1 against baselines: triplet accuracy, identification, collapse, new LLMs."""
    check_output_file(output)
    plan = replace(
        BenchmarkPlan(validation_fraction, seeds, epochs, _PLAN.batch_size, semantic, held_out_share),
        variant=tuple(variant or ()),
        robustness=robustness,
        languages=languages,
    )
    choose_variants(plan)
    drawn = _draw_from_ratings(ratings, responses)
    results = _measure(votes, cache, lambda name, data, runtime: run_benchmark(name, data, plan, runtime))
    command = _describe("stage1", votes, output, plan, _PLAN)
    if ratings is not None and responses is not None and drawn is not None:
        runtime = Runtime(open_cache(cache), ConsoleMonitor())
        results.append(run_benchmark(Path(responses).stem, drawn, plan, runtime))
        command += f" --ratings {ratings.name} --responses {Path(responses).name}"
    said = measure_languages(_LANGUAGE_EPOCHS, Runtime(open_cache(cache))) if languages else {}
    _write_report(output, *write_stage1_report(results, plan, command, said))
    _print(output, results, seeds, json)


def benchmark_stage2(
    output: Output,
    votes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VOTES]", help="Vote files or hf://owner/name, each benchmarked separately."),
    ] = None,
    ratings: Annotated[
        str | None, typer.Option(metavar="FILE", help="Published ratings, to measure ratings of new LLMs by, too.")
    ] = None,
    responses: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Responses of the rated LLMs; repeatable.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option(metavar="VOTES", help="Votes to learn from beside the ratings; repeatable.")
    ] = None,
    seeds: Seeds = _PLAN2.seeds,
    epochs: Epochs = _PLAN2.epochs,
    validation_fraction: Fraction = _PLAN2.validation_fraction,
    held_out_share: HeldOut = _PLAN2.held_out_share,
    draws: Annotated[
        int, typer.Option(min=1, help="Number of enrolments of the new LLMs per sample size.")
    ] = _PLAN2.draws,
    predictions: Annotated[
        bool, typer.Option(help="Measure predicted votes, too; without, only the ratings of new LLMs.")
    ] = _PLAN2.predictions,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Benchmark stage 2 against baselines: predicted votes, and ratings of new LLMs from their responses."""
    check_output_file(output)
    _check_rated(votes, ratings, responses, beside)
    plan = Stage2Plan(validation_fraction, held_out_share, seeds, epochs, _PLAN2.batch_size, draws, predictions)
    results = _measure(votes or [], cache, lambda name, data, runtime: run_stage2_benchmark(name, data, plan, runtime))
    rated = [] if ratings is None else _measure_rated(ratings, responses or [], beside or [], plan, cache)
    given = [
        f"--{option} {Path(each).name}"
        for option, files in (("ratings", [ratings] if ratings else []), ("responses", responses), ("beside", beside))
        for each in files or []
    ]
    command = " ".join([_describe("stage2", votes or [], output, plan, _PLAN2), *given])
    _write_report(output, *write_stage2_report(results, plan, command, rated))
    value = {"output": str(output), "results": plain_values(results), "rated": plain_values(rated)}
    print_result(value, json, f"{output}: {len(results)} vote files, {len(rated)} files of ratings, {seeds} seeds")


def _check_rated(
    votes: Sequence[str] | None, ratings: str | None, responses: Sequence[str] | None, beside: Sequence[str] | None
) -> None:
    if not votes and ratings is None:
        raise UsageError("nothing to measure. Fix: give votes, or --ratings and --responses, or both")
    if (ratings is None) != (not responses) or (beside and ratings is None):
        raise UsageError("--ratings, --responses and --beside belong together. Fix: give --ratings and --responses")


def _measure_rated(
    ratings: str, responses: Sequence[str], beside: Sequence[str], plan: Stage2Plan, cache: Path | None
) -> list[RatedResult]:
    """The ratings alone, and with the votes beside them where there are any."""
    table = load_ratings(ratings)
    pairs, report = load_responses(*responses)
    print_load_report(report)
    name, runtime = Path(ratings).stem, Runtime(open_cache(cache), ConsoleMonitor())
    results = [run_rated_benchmark(name, RatedMaterial(table, pairs), plan, runtime)]
    if beside:
        votes, report = load_votes(*beside)
        print_load_report(report)
        name = f"{name} beside {', '.join(Path(each).stem for each in beside)}"
        results.append(run_rated_benchmark(name, RatedMaterial(table, pairs, votes), plan, runtime))
    return results


def benchmark_speed(
    votes: Votes,
    output: Output,
    texts: Annotated[int, typer.Option(min=1, help="Number of responses that the transformer encodes.")] = _SPEED.texts,
    rows: Annotated[int, typer.Option(min=1, help="Number of votes that stage 1 is run on.")] = _SPEED.rows,
    turns: Annotated[int, typer.Option(min=1, help="Number of repetitions of every measurement.")] = _SPEED.turns,
    epochs: Epochs = _SPEED.epochs,
    models: Annotated[int, typer.Option(min=1, help="Number of models in the enlarged catalog.")] = _SPEED.models,
    semantic: Annotated[bool, typer.Option(help="Include stage 1 with the transformer.")] = _SPEED.semantic,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Benchmark the speed of every stage against sentence-transformers, one text at a time, and a lower bound."""
    check_output_file(output)
    plan = SpeedPlan(texts, rows, turns, epochs, models, semantic)
    results = []
    for source in votes:
        runtime = Runtime(open_cache(cache), ConsoleMonitor())
        results.append(run_speed_benchmark(Path(source).stem, source, plan, runtime))
    _write_report(output, *write_speed_report(results, plan, _describe("speed", votes, output, plan, _SPEED)))
    value = {"output": str(output), "results": plain_values(results)}
    print_result(value, json, f"{output}: {len(results)} vote files, {turns} turns")


def _draw_from_ratings(ratings: Path | None, responses: str | None) -> TrainingData | None:
    """Votes between the responses of rated models, drawn from their ratings; None where none are given."""
    if ratings is None and responses is None:
        return None
    pairs = None if responses is None else load_responses(responses)[0]
    return gather_material(None, None if ratings is None else load_ratings(ratings), pairs, 0).data


def _measure(
    votes: Sequence[str], cache: Path | None, measure: Callable[[str, TrainingData, Runtime], _Result]
) -> list[_Result]:
    results = []
    for source in votes:
        data, report = load_votes(source)
        print_load_report(report)
        results.append(measure(Path(source).stem, data, Runtime(open_cache(cache), ConsoleMonitor())))
    return results


def _describe(stage: str, votes: Sequence[str], output: Path, plan: Any, usual: Any) -> str:
    """The command that repeats the run, with the options that differ from their defaults."""
    words = ["model-behavior benchmark", stage, *(Path(source).name for source in votes), "--output", output.name]
    for name, value in vars(plan).items():
        if value != getattr(usual, name):
            option = name.replace("_", "-")
            if isinstance(value, tuple):
                words += [f'--{option} "{each}"' for each in value]
                continue
            words.append(f"--{'' if value else 'no-'}{option}" if isinstance(value, bool) else f"--{option} {value}")
    return " ".join(words)


def _write_report(output: Path, text: str, pictures: Mapping[str, str]) -> None:
    """Writes the Markdown, and each picture beside it by its name."""
    for path, content in {output: text, **{output.with_name(name): each for name, each in pictures.items()}}.items():
        with written_aside(path) as aside:
            aside.write_text(content, "utf-8")


def _print(output: Path, results: Sequence[object], seeds: int, as_json: bool) -> None:
    value = {"output": str(output), "results": plain_values(results)}
    print_result(value, as_json, f"{output}: {len(results)} vote files, {seeds} seeds")


def benchmark_drift(
    folder: ArtifactFolder,
    responses: Annotated[
        str, typer.Argument(metavar="RESPONSES", help="Responses of several models to the same prompts.")
    ],
    output: Annotated[Path, typer.Option(help="Markdown file to write.")],
    swaps: Annotated[int, typer.Option(min=1, help="Most pairs of models of each kind of swap.")] = _DRIFT.swaps,
    draws: Annotated[int, typer.Option(min=1, help="Draws of prompts for each pair of models.")] = _DRIFT.draws,
    permutations: Annotated[int, typer.Option(min=19, help="Permutations of every test.")] = _DRIFT.permutations,
    seed: Seed = _DRIFT.seed,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Benchmark drift: power against swaps of models, false alarms under changes of the harness, other tests."""
    check_output_file(output)
    plan = DriftPlan(swaps, draws, permutations, seed)
    loaded = open_artifact(folder, cache, "auto")
    pairs, report = load_responses(responses)
    print_load_report(report)
    cells = run_drift_benchmark(loaded, pairs, plan, Progress().show)
    command = _describe("drift", [folder.name, responses], output, plan, _DRIFT)
    _write_report(output, *write_drift_report(cells, Path(responses).name, len(pairs.models), command))
    value = {"output": str(output), "results": plain_values(cells)}
    print_result(value, json, f"{output}: {sum(cell.trials for cell in cells):,} trials")


def benchmark_scale(
    votes: Annotated[str, typer.Argument(metavar="VOTES", help="Real votes, from which the larger files are made.")],
    output: Output,
    sizes: Annotated[str, typer.Option(help="Numbers of votes, separated by commas.")] = _SIZES,
    train: Annotated[
        bool, typer.Option("--train", help="Train both stages, and give the cost of each and the quality.")
    ] = False,
    epoch_triplets: Annotated[
        int, typer.Option(min=1, help="Largest number of triplets of an epoch, with --train.")
    ] = ScalePlan().epoch_triplets,
    memory: MemoryLimit = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Benchmark CPU time and memory from file to triplets or trained artifact, at growing numbers of votes."""
    check_output_file(output)
    wanted = _parse_sizes(sizes, "--sizes", _SIZES)
    data, report = load_votes(votes)
    print_load_report(report)
    progress = Progress()
    plan = ScalePlan(train, parse_memory(memory) if memory else spare_memory(), epoch_triplets, seed)
    results = measure_sizes(data, wanted, plan, lambda done, total: progress.show("sizes", done, total))
    source = report.sources[0].source.rsplit("/", 1)[-1]
    tail = f" --sizes {sizes}" if sizes != _SIZES else ""
    tail += " --train" if train else ""
    tail += f" --epoch-triplets {epoch_triplets}" if epoch_triplets != ScalePlan().epoch_triplets else ""
    tail += f" --memory {memory}" if memory else ""
    tail += f" --seed {seed}" if seed else ""
    command = f"model-behavior benchmark scale {source} --output {output.name}{tail}"
    _write_report(output, *write_scale_report(results, source, command))
    last = results[-1]
    text = f"{output}: {last.votes:,} votes in {last.seconds:.0f} s of CPU and {last.peak_bytes / 2**20:,.0f} MiB"
    print_result({"output": str(output), "results": plain_values(results)}, json, text)


def benchmark_catalog(
    folder: ArtifactFolder,
    responses: Annotated[Path, typer.Argument(metavar="RESPONSES", help="Responses of the model that is added.")],
    output: Annotated[Path, typer.Option(help="Markdown file to write.")],
    models: Annotated[
        str, typer.Option(help="Numbers of models, separated by commas; 10,000 need 7 GB of temporary space.")
    ] = _CATALOGS,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Benchmark thousands of models, made of those of an artifact: adding one more, and serving them."""
    check_output_file(output)
    wanted, progress = _parse_sizes(models, "--models", _CATALOGS), Progress()
    loaded = Artifact.load(folder)
    costs = measure_catalogs(loaded, responses, wanted, seed, lambda done, total: progress.show("sizes", done, total))
    tail = f" --models {models}" if models != _CATALOGS else ""
    command = f"model-behavior benchmark catalog {folder.name} {responses.name} --output {output.name}{tail}"
    _write_report(output, write_catalog_report(costs, folder.name, command), {})
    last = costs[-1].change
    text = f"{output}: one model beside {last.models:,} in {sum(last.seconds):.2f} s of CPU"
    print_result({"output": str(output), "results": plain_values(costs)}, json, text)


def _parse_sizes(text: str, option: str, example: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise UsageError(f"{option} {text!r}: different whole numbers of 1 or more are needed, such as {example}")
    return sizes


def benchmark_service(
    folder: ArtifactFolder,
    output: Annotated[Path, typer.Option(help="Markdown file to write.")],
    workers: Annotated[
        str, typer.Option(help="Numbers of worker processes, each measured in turn, separated by commas.")
    ] = _WORKERS,
    requests: Annotated[int, typer.Option(min=1, help="Number of requests at full speed.")] = 50_000,
    clients: Annotated[int, typer.Option(min=1, help="Number of clients at full speed.")] = 16,
    rate: Annotated[float, typer.Option(min=1, help="Requests per second at the steady rate.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="Duration of the steady rate, in seconds.")] = 30.0,
    json: Json = False,
) -> None:
    """Benchmark the service under load: throughput, latency, a burst of ten times the rate, memory."""
    try:
        from model_behavior.benchmarks.load import LoadPlan, measure_service, write_load_report
    except ImportError as error:
        raise MissingExtraError("benchmark service", "serve") from error
    check_output_file(output)
    numbers = _parse_sizes(workers, "--workers", "1,2,4")
    plan = LoadPlan(requests=requests, clients=clients, rate=rate, seconds=seconds)
    n_models = len(Artifact.load(folder).models)
    reports = measure_service(folder, numbers, plan, Progress().show)
    options = {"workers": workers, "requests": requests, "clients": clients, "rate": f"{rate:g}"}
    words = " ".join(f"--{name} {value}" for name, value in {**options, "seconds": f"{seconds:g}"}.items())
    again = f"model-behavior benchmark service {folder.name} --output {output.name} {words}"
    _write_report(output, write_load_report(reports, plan, n_models, again), {})
    lines = [
        f"{each.workers} workers, {load.name}: {load.per_second:.0f}/s, p50 {load.p50:.1f} ms, p95 {load.p95:.1f} ms, "
        f"{load.statuses}"
        for each in reports
        for load in each.figures
    ]
    value = {"output": str(output), "command": again, "results": [asdict(each) for each in reports]}
    print_result(value, json, "\n".join(lines))
