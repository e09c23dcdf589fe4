"""`model-behavior rank` and `predict`; `route_commands` has `route`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from model_behavior.cli.console import Progress, counted, print_load_report, print_notes, print_result, stderr
from model_behavior.cli.options import (
    Address,
    ArtifactFolder,
    BackendChoice,
    CacheFolder,
    Columns,
    ConfigFile,
    EngineName,
    Json,
    Outcomes,
    ScaleOption,
    Sharding,
    ShardRows,
    TableFile,
    VoteSources,
    describe_job,
    digits_of,
    open_scored,
    ray_workers,
    reading_options,
)
from model_behavior.data.vote_counting import ProcessWorkers, Workers, count_votes
from model_behavior.data_models.scoring_types import RankedModel, ScaleName
from model_behavior.files import check_table_file
from model_behavior.models.scoring.vote_ranking import rank_votes
from model_behavior.names import nearest_models
from model_behavior.sharding.runs import DEFAULT_SHARD_ROWS
from model_behavior.sharding.worker import ShardReport

_SHOWN_NAMES = 10
_SCALES: Mapping[ScaleName, str] = {
    "elo": "Elo, where 400 points are odds of 10 to 1",
    "log-odds": "log-odds, where 1 is odds of 2.7 to 1",
}


def rank(
    folder: ArtifactFolder,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt to rank on; by default the ranking is over all prompts.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Category of prompts to rank on, one that the published ratings have.")
    ] = None,
    scale: ScaleOption = "elo",
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    json: Json = False,
) -> None:
    """Rank all models, best first, with 95 % intervals; models without votes are rated from their responses."""
    loaded = open_scored(folder, cache, backend)
    ranked = loaded.rank(prompt, category=category, scale=scale)
    print_notes(loaded.trained_scorer.notes)
    known = set(loaded.trained_scorer.voted_models)
    print_result([asdict(row) for row in ranked], json, _describe_ranking(ranked, known, scale))


def rate(
    votes: VoteSources,
    columns: Columns = None,
    outcome: Outcomes = None,
    scale: ScaleOption = "elo",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that count files. [default: one for each core]")
    ] = None,
    engine: EngineName = "local",
    address: Address = None,
    json: Json = False,
) -> None:
    """Rate models by votes alone, with 95 % intervals clustered by prompt; texts of responses are not needed.

    Files are counted one by one, in several processes or on a Ray cluster, and the counts are added up. Of Parquet
    files only the columns of models, outcome and prompt are read.
    """
    counting: Workers = ray_workers(engine, address) or ProcessWorkers(workers or os.cpu_count() or 1)
    progress = Progress()
    counts, report = count_votes(
        *votes,
        reading=reading_options(columns, outcome),
        progress=lambda done, total: progress.show("counting votes", done, total),
        workers=counting,
    )
    print_load_report(report)
    ranked = rank_votes(counts, scale)
    print_result([asdict(row) for row in ranked], json, _describe_ranking(ranked, set(counts.models), scale))


def _describe_ranking(rows: Sequence[RankedModel], known: Collection[str], scale: ScaleName) -> str:
    width, digits = max(len(row.model) + 3 * bool(row.beyond) for row in rows) + 2, digits_of(scale)
    lines = [f"{'rank':>4}  {'group':>5}  {'model':<{width}} {'rating':>7}  {'95 % interval':<16} {'votes':>7}"]
    several = len({row.component for row in rows}) > 1
    component, place = rows[0].component, 0
    for row in rows:
        if several and (not place or row.component != component):
            component, place = row.component, 0
            lines.append(_describe_component(row.component))
        place += 1
        name = row.model if row.model in known else f"{row.model} {'**' if row.beyond else '*'}"
        span = f"{row.low:.{digits}f} to {row.high:.{digits}f}"
        rating = f"{row.rating:>7.{digits}f}"
        lines.append(f"{place:>4}  {row.group or '':>5}  {name:<{width}} {rating}  {span:<16} {row.votes:>7,}")
    lines.append(f"scale: {_SCALES[scale]}; no two models of a group can be told apart (95 %)")
    if several:
        lines.append("no chain of votes connects the islands, so that ratings of different islands cannot be compared")
    if any(row.model not in known for row in rows):
        lines.append(
            "* no votes: rated from its responses; `onboard` shows how many more responses would narrow the interval"
        )
    if any(row.beyond for row in rows):
        lines.append("** beyond the known field: answers better, or worse, than those of every known model")
    return "\n".join(lines)


def _describe_component(component: int | None) -> str:
    if component is None:
        return "read from their responses; the intervals include how the islands' levels may differ:"
    return f"island {component}:"


def predict(
    folder: ArtifactFolder,
    votes: Annotated[
        str,
        typer.Argument(
            metavar="VOTES", help="File with prompt, model_a and model_b, folder of shards, or hf://owner/name."
        ),
    ],
    output: TableFile,
    engine: EngineName = "local",
    address: Address = None,
    shard_rows: ShardRows = DEFAULT_SHARD_ROWS,
    columns: Columns = None,
    outcome: Outcomes = None,
    strict: Annotated[bool, typer.Option("--strict", help="Treat a model that DIR does not know as an error.")] = False,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Predict votes. Keeps all columns and the order of rows; adds p_model_a, p_model_b, p_tie and p_both_bad.

    A row with a model that DIR does not know has no prediction; such names are counted.
    """
    check_table_file(output)
    reading = reading_options(columns, outcome)
    sharding = Sharding(engine, address, shard_rows)
    job = describe_job("predict", folder, cache, backend, reading=reading, strict=strict)
    loaded = open_scored(folder, cache, backend)
    progress = Progress()
    run = sharding.plan(job, loaded)
    report = run.over_file(votes, output, lambda done: progress.show("predicting", done, None))
    n_rows, n_used = report.rows, report.used
    if n_used < n_rows:
        stderr().print(f"{counted(n_rows - n_used, 'row')} without a prompt or a known model: no prediction")
    for line in _describe_unknown(report, loaded.trained_scorer.models):
        stderr().print(line, markup=False)
    if report.apart:
        stderr().print(
            f"{counted(report.apart, 'row')} with models that no chain of votes connects: probabilities there are near "
            "the prior, averaged over how the groups' levels may differ"
        )
    value = {
        "output": str(output),
        "rows": n_rows,
        "predicted": n_used,
        "apart": report.apart,
        "unknown_models": {name: asdict(found) for name, found in report.unknown.items()},
    }
    print_result(value, json, f"{output}: {n_used:,} of {n_rows:,} rows predicted")


def _describe_unknown(report: ShardReport, known: Sequence[str]) -> list[str]:
    names = sorted(report.unknown, key=lambda name: (-report.unknown[name].rows, name))
    lines = [
        f"  unknown model {name!r}: {counted(report.unknown[name].rows, 'row')}, first {report.unknown[name].first}; "
        f"nearest known names: {', '.join(nearest_models(known, name, 3))}"
        for name in names[:_SHOWN_NAMES]
    ]
    return (
        [*lines, f"  and {counted(len(names) - _SHOWN_NAMES, 'other unknown name')}"]
        if len(names) > _SHOWN_NAMES
        else lines
    )
