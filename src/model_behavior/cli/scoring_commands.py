"""`model-behavior train`, `train-scorer`, `predict` and `rank`."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from model_behavior import pipeline
from model_behavior.cli.console import Progress, print_result, stderr
from model_behavior.cli.options import (
    Address,
    ArtifactFolder,
    CacheFolder,
    Change,
    ConfigFile,
    EngineName,
    HoldOut,
    Json,
    MinComparisons,
    NewFolder,
    Overwrite,
    Resume,
    Seed,
    Sharding,
    ShardRows,
    TextEncoders,
    ValidationFraction,
    VoteSources,
    check_target,
    open_artifact,
    open_cache,
)
from model_behavior.cli.training import (
    TrainingRun,
    check_trained_output,
    describe_encoder,
    describe_scorer,
    read_votes,
)
from model_behavior.data.filters import FilterConfig
from model_behavior.data_models.scoring_types import RankedModel
from model_behavior.data_models.votes import ValidationSplit
from model_behavior.files import check_output_file
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.text.registry import DEFAULT_ENCODERS, TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.pipeline import TrainingConfig, fit_scorer
from model_behavior.preprocessing.behavior_embedding_preprocessor import PreprocessingConfig
from model_behavior.sharding.runs import DEFAULT_SHARD_ROWS
from model_behavior.sharding.worker import ShardJob

_FILTERS = FilterConfig()
_SPLIT = ValidationSplit()
_PLAN = TrainingConfig()
_SCORER = DenseNetworkConfig()

ScorerEpochs = Annotated[int, typer.Option(min=1, help="Passes of stage 2 over the training votes.")]
ModelSource = Annotated[
    Literal["behavior", "id"],
    typer.Option(help="What stage 2 knows of a model: its embedding, or a vector learned for its name."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("train", epilog="Example: `model-behavior train votes.parquet --output arena --seed 1`")(train)
    app.command("train-scorer", epilog="Example: `model-behavior train-scorer arena votes.parquet`")(train_scorer)
    app.command("predict", epilog="Example: `model-behavior predict arena pairs.parquet --output predictions.parquet`")(
        predict
    )
    app.command(
        "rank",
        epilog='Examples: `model-behavior rank arena` · `model-behavior rank arena --prompt "Is 7 prime?" --json`',
    )(rank)


def train(
    votes: VoteSources,
    output: NewFolder,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of stage 1 over the training votes.")] = _PLAN.epochs,
    scorer_epochs: ScorerEpochs = _SCORER.schedule.epochs,
    seed: Seed = 0,
    encoder: TextEncoders = None,
    validation_fraction: ValidationFraction = _SPLIT.fraction,
    hold_out: HoldOut = None,
    min_comparisons: MinComparisons = _FILTERS.min_comparisons,
    resume: Resume = False,
    overwrite: Overwrite = False,
    cache: CacheFolder = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Both stages: train the encoder, embed the models, train the scorer (`train-encoder` has more options)."""
    started = time.monotonic()
    check_trained_output(output, overwrite)
    settings = EncoderConfig(
        preprocessing=PreprocessingConfig(FilterConfig(min_comparisons=min_comparisons)), seed=seed
    )
    split = ValidationSplit(validation_fraction, seed, held_out_models=tuple(hold_out or ()))
    training = TrainingConfig(
        TextConfig(tuple(encoder or DEFAULT_ENCODERS)),
        settings,
        split,
        epochs,
        scorer=_scorer_config("behavior", scorer_epochs, seed),
    )
    run = TrainingRun(output, resume, overwrite, open_cache(cache))
    trained, prepared = run.train(votes, training)
    scored = fit_scorer(trained, prepared, training.scorer)
    run.finish(scored)
    value, text = describe_encoder(scored, output, time.monotonic() - started)
    scorer_value, scorer_text = describe_scorer(scored.trained_scorer)
    print_result({**value, "scorer": scorer_value}, json, f"{text}\n{scorer_text}")


def train_scorer(
    folder: ArtifactFolder,
    votes: VoteSources,
    epochs: ScorerEpochs = _SCORER.schedule.epochs,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    model_source: ModelSource = _SCORER.model_source,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write instead of changing DIR; it must not exist.")
    ] = None,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Stage 2: train the scorer over the frozen embeddings in DIR, on the votes that its encoder was trained on."""
    target = check_target(folder, output)
    change = Change(folder, target, lambda: open_artifact(folder, cache))  # a folder that cannot be used is said first
    data = read_votes(votes)
    scored = change.apply(
        lambda loaded: pipeline.train_scorer(loaded, data, _scorer_config(model_source, epochs, seed))
    )
    value, text = describe_scorer(scored.trained_scorer)
    print_result({"output": str(target), **value}, json, f"{target}: {text}")


def predict(
    folder: ArtifactFolder,
    votes: Annotated[str, typer.Argument(help="File with prompt, model_a and model_b, folder, or hf://owner/name.")],
    output: Annotated[Path, typer.Option(help="Parquet file to write.")],
    engine: EngineName = "local",
    address: Address = None,
    shard_rows: ShardRows = DEFAULT_SHARD_ROWS,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Predict votes: keeps all columns, adds p_model_a, p_model_b, p_tie and p_both_bad; rows in order."""
    check_output_file(output)
    sharding = Sharding(engine, address, shard_rows)
    loaded = open_artifact(folder, cache)
    _ = loaded.trained_scorer  # that there is none is said before any work
    progress = Progress()
    run = sharding.plan("predict", folder, loaded, ShardJob.batch_size, cache)
    report = run.over_file(votes, output, lambda done: progress.show("predicting", done, None))
    progress.close()
    n_rows, n_used = report.rows, report.used
    if n_used < n_rows:
        stderr().print(f"{n_rows - n_used:,} rows without a prompt or a model have no prediction")
    value = {"output": str(output), "rows": n_rows, "predicted": n_used}
    print_result(value, json, f"{output}: {n_used:,} of {n_rows:,} rows predicted")


def rank(
    folder: ArtifactFolder,
    prompt: Annotated[str | None, typer.Option(help="Rank on this prompt rather than over all.")] = None,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Rank all models, best first, with 95 % intervals; models without votes are rated by what they answer."""
    ranked = open_artifact(folder, cache).rank(prompt)
    print_result([asdict(row) for row in ranked], json, _describe_ranking(ranked))


def _scorer_config(model_source: Literal["behavior", "id"], epochs: int, seed: int) -> DenseNetworkConfig:
    return replace(_SCORER, model_source=model_source, schedule=replace(_SCORER.schedule, epochs=epochs, seed=seed))


def _describe_ranking(rows: list[RankedModel]) -> str:
    width = max(len(row.model) for row in rows) + 2
    lines = [f"{'rank':>4}  {'model':<{width}} {'rating':>7}  {'95 % interval':<16} {'votes':>7}"]
    for place, row in enumerate(rows, 1):
        name = row.model if row.votes else f"{row.model} *"
        span = f"{row.low:.2f} to {row.high:.2f}"
        lines.append(f"{place:>4}  {name:<{width}} {row.rating:>7.2f}  {span:<16} {row.votes:>7,}")
    if any(not row.votes for row in rows):
        lines.append(
            "* never voted on: rated by what it answers; `onboard` says how many more responses narrow the interval"
        )
    return "\n".join(lines)
