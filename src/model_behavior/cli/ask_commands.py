"""`model-behavior rank` and `predict`; `route_commands` has `route`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from model_behavior.cli.console import Progress, print_result, stderr
from model_behavior.cli.options import (
    Address,
    ArtifactFolder,
    CacheFolder,
    ConfigFile,
    EngineName,
    Json,
    Sharding,
    ShardRows,
    TableFile,
    describe_job,
    open_scored,
)
from model_behavior.data_models.scoring_types import RankedModel
from model_behavior.files import check_output_file
from model_behavior.sharding.runs import DEFAULT_SHARD_ROWS


def rank(
    folder: ArtifactFolder,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt to rank on; by default the ranking is over all prompts.")
    ] = None,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Rank all models, best first, with 95 % intervals; models without votes are rated from their responses."""
    ranked = open_scored(folder, cache).rank(prompt)
    print_result([asdict(row) for row in ranked], json, _describe_ranking(ranked))


def _describe_ranking(rows: Sequence[RankedModel]) -> str:
    width = max(len(row.model) for row in rows) + 2
    lines = [f"{'rank':>4}  {'model':<{width}} {'rating':>7}  {'95 % interval':<16} {'votes':>7}"]
    for place, row in enumerate(rows, 1):
        name = row.model if row.votes else f"{row.model} *"
        span = f"{row.low:.2f} to {row.high:.2f}"
        lines.append(f"{place:>4}  {name:<{width}} {row.rating:>7.2f}  {span:<16} {row.votes:>7,}")
    if any(not row.votes for row in rows):
        lines.append(
            "* no votes: rated from its responses; `onboard` shows how many more responses would narrow the interval"
        )
    return "\n".join(lines)


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
    cache: CacheFolder = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Predict votes. Keeps all columns and the order of rows; adds p_model_a, p_model_b, p_tie and p_both_bad."""
    check_output_file(output)
    sharding = Sharding(engine, address, shard_rows)
    loaded = open_scored(folder, cache)
    progress = Progress()
    run = sharding.plan(describe_job("predict", folder, cache), loaded)
    report = run.over_file(votes, output, lambda done: progress.show("predicting", done, None))
    n_rows, n_used = report.rows, report.used
    if n_used < n_rows:
        stderr().print(f"{n_rows - n_used:,} rows without a prompt or a model have no prediction")
    value = {"output": str(output), "rows": n_rows, "predicted": n_used}
    print_result(value, json, f"{output}: {n_used:,} of {n_rows:,} rows predicted")
