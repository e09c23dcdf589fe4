"""`model-behavior evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from model_behavior.cli.console import ConsoleMonitor, Progress, print_load_report, print_result
from model_behavior.cli.evaluation_text import describe_evaluation
from model_behavior.cli.options import ArtifactFolder, BatchSize, CacheFolder, Json, open_artifact
from model_behavior.data.loading import load_votes
from model_behavior.evaluation.evaluate import EvaluationConfig, evaluate

_CONFIG = EvaluationConfig()


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate", epilog="Example: `model-behavior evaluate encoder votes.parquet --json`")(evaluate_artifact)


def evaluate_artifact(
    folder: ArtifactFolder,
    votes: Annotated[list[str], typer.Argument(help="Vote files, folders of shards, or hf://owner/name.")],
    seed: Annotated[int, typer.Option(help="Seed of triplets, draws and intervals.")] = _CONFIG.seed,
    semantic: Annotated[bool, typer.Option(help="Measure the MiniLM baseline, too.")] = _CONFIG.semantic,
    batch_size: BatchSize = _CONFIG.batch_size,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Measure a trained encoder on votes, beside baselines, on the prompts that it was not trained on."""
    loaded = open_artifact(folder, cache)
    progress = Progress()
    data, report = load_votes(*votes, progress=lambda done, total: progress.show("reading votes", done, total))
    progress.close()
    print_load_report(report)
    evaluation = evaluate(loaded, data, EvaluationConfig(seed, batch_size, semantic))
    monitor = loaded.encoder.runtime.monitor
    if isinstance(monitor, ConsoleMonitor):
        monitor.close()
    print_result(evaluation.to_json(), json, describe_evaluation(evaluation))
