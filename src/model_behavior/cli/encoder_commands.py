"""`model-behavior train-encoder` and `encode`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from model_behavior.cli.console import Progress, print_result
from model_behavior.cli.options import (
    Address,
    ArtifactFolder,
    BackendChoice,
    BatchSize,
    CacheFolder,
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
    open_artifact,
    open_cache,
)
from model_behavior.cli.training import TrainingRun, check_trained_output, describe_encoder
from model_behavior.data.filters import FilterConfig
from model_behavior.data_models.votes import ValidationSplit
from model_behavior.files import check_output_file
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.execution import Precision
from model_behavior.models.behavior.text.fine_tuning import FineTuningConfig
from model_behavior.models.behavior.text.registry import DEFAULT_ENCODERS, TextConfig
from model_behavior.models.behavior.text.transformer import ReadingConfig
from model_behavior.models.behavior.training import OptimisationConfig
from model_behavior.pipeline import TrainingConfig
from model_behavior.preprocessing.behavior_embedding_preprocessor import PreprocessingConfig
from model_behavior.preprocessing.triplets import TripletConfig
from model_behavior.sharding.runs import DEFAULT_SHARD_ROWS

_OBJECTIVES = ObjectiveConfig()
_READING = ReadingConfig()
_TUNING = FineTuningConfig()
_TRIPLETS = TripletConfig()
_FILTERS = FilterConfig()
_SPLIT = ValidationSplit()
_PLAN = TrainingConfig()


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        "train-encoder",
        epilog="Examples: `model-behavior train-encoder votes.parquet --output encoder` · "
        "`model-behavior train-encoder shards/ more.csv.gz --output encoder --hold-out gpt-4 --seed 1` · "
        "`model-behavior train-encoder votes.parquet --output encoder --encoder style --encoder lexical "
        "--encoder finetuned --tuning lora`",
    )(train_encoder)
    app.command("encode", epilog="Example: `model-behavior encode encoder responses.parquet --output vectors.parquet`")(
        encode
    )


def train_encoder(
    votes: VoteSources,
    output: NewFolder,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training votes.")] = _PLAN.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Triplets per step.")] = _PLAN.batch_size,
    seed: Seed = 0,
    encoder: TextEncoders = None,
    semantic_model: Annotated[
        str, typer.Option(help="Transformer of semantic and finetuned: a local folder or a hub id.")
    ] = _READING.model,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Read by semantic and finetuned.")] = _READING.prompt_tokens,
    response_tokens: Annotated[
        int, typer.Option(min=2, help="Read by semantic and finetuned.")
    ] = _READING.response_tokens,
    pooling: Annotated[
        Literal["mean", "cls", "max"], typer.Option(help="Of semantic and finetuned.")
    ] = _READING.pooling,
    precision: Annotated[
        Precision, typer.Option(help="Of semantic and finetuned: bf16 where the processor has it, or f32 everywhere.")
    ] = _READING.precision,
    backend: BackendChoice = "auto",
    tuning: Annotated[
        Literal["full", "last-layers", "lora"], typer.Option(help="What is tuned of the encoder finetuned.")
    ] = _TUNING.mode,
    tuned_layers: Annotated[int, typer.Option(min=1, help="So many in mode last-layers.")] = _TUNING.last_layers,
    lora_rank: Annotated[int, typer.Option(min=1, help="In mode lora.")] = _TUNING.lora_rank,
    tuning_steps: Annotated[int, typer.Option(min=1, help="Of fine-tuning.")] = _TUNING.steps,
    tuning_rounds: Annotated[
        int, typer.Option(min=1, help="Validations of fine-tuning; the best round is kept.")
    ] = _TUNING.rounds,
    tuning_batch_size: Annotated[int, typer.Option(min=1, help="Triplets per step.")] = _TUNING.batch_size,
    tuning_micro_batch: Annotated[
        int, typer.Option(min=1, help="Pairs in memory at once; more per step cost time instead.")
    ] = _TUNING.micro_batch,
    tuning_learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Peak. [default: 1e-4 full, 2e-4 last-layers, 1e-3 lora]")
    ] = None,
    validation_fraction: ValidationFraction = _SPLIT.fraction,
    split_by: Annotated[Literal["prompt", "random"], typer.Option(help="What is drawn for validation.")] = _SPLIT.by,
    hold_out: HoldOut = None,
    min_comparisons: MinComparisons = _FILTERS.min_comparisons,
    mask_self_naming: Annotated[bool, typer.Option(help="Mask responses that name their maker.")] = True,
    identity: Annotated[float, typer.Option(min=0, help="Weight of identity positives.")] = _TRIPLETS.identity,
    performance: Annotated[float, typer.Option(min=0, help="Weight of performance positives.")] = _TRIPLETS.performance,
    distance: Annotated[
        Literal["cosine", "euclidean"], typer.Option(help="Of the triplet loss.")
    ] = _OBJECTIVES.distance,
    margin: Annotated[float, typer.Option(min=0, help="Of the triplet loss.")] = _OBJECTIVES.margin,
    proxy_weight: Annotated[float, typer.Option(min=0, help="Weight of the model softmax.")] = _OBJECTIVES.proxy,
    contrastive_weight: Annotated[
        float, typer.Option(min=0, help="Weight of the supervised contrastive term.")
    ] = _OBJECTIVES.contrastive,
    temperature: Annotated[float, typer.Option(help="Of the contrastive term.")] = _OBJECTIVES.temperature,
    vote_weight: Annotated[float, typer.Option(min=0, help="Weight of the vote term.")] = _OBJECTIVES.vote,
    compactness_weight: Annotated[float, typer.Option(min=0, help="Weight of compactness.")] = _OBJECTIVES.compactness,
    kl_weight: Annotated[float, typer.Option(min=0, help="Weight of the KL regularisation.")] = _OBJECTIVES.kl,
    dim: Annotated[int, typer.Option(min=1, help="Size of the embedding.")] = ProjectionConfig().dim,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak, of AdamW.")] = OptimisationConfig().learning_rate,
    resume: Resume = False,
    overwrite: Overwrite = False,
    cache: CacheFolder = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Stage 1: train a ModelBehaviorEncoder on pairwise votes and embed the models that were voted on."""
    started = time.monotonic()
    check_trained_output(output, overwrite)
    settings = EncoderConfig(
        preprocessing=PreprocessingConfig(
            FilterConfig(min_comparisons=min_comparisons, mask_self_naming=mask_self_naming),
            TripletConfig(identity=identity, performance=performance),
        ),
        projection=replace(ProjectionConfig(), dim=dim),
        objectives=ObjectiveConfig(
            distance=distance,
            margin=margin,
            proxy=proxy_weight,
            vote=vote_weight,
            compactness=compactness_weight,
            kl=kl_weight,
            contrastive=contrastive_weight,
            temperature=temperature,
        ),
        optimisation=replace(OptimisationConfig(), learning_rate=learning_rate),
        seed=seed,
    )
    text = TextConfig(
        tuple(encoder or DEFAULT_ENCODERS),
        ReadingConfig(semantic_model, prompt_tokens, response_tokens, pooling, precision),
        replace(
            _TUNING,
            mode=tuning,
            last_layers=tuned_layers,
            lora_rank=lora_rank,
            steps=tuning_steps,
            rounds=tuning_rounds,
            batch_size=tuning_batch_size,
            micro_batch=tuning_micro_batch,
            learning_rate=tuning_learning_rate,
        ),
    )
    split = ValidationSplit(validation_fraction, seed, split_by, tuple(hold_out or ()))
    run = TrainingRun(output, resume, overwrite, open_cache(cache))
    trained, _ = run.train(votes, TrainingConfig(text, settings, split, epochs, batch_size), backend)
    run.finish(trained)
    value, said = describe_encoder(trained, output, time.monotonic() - started)
    print_result(value, json, said)


def encode(
    folder: ArtifactFolder,
    pairs: Annotated[str, typer.Argument(help="File with prompt and response columns, folder, or hf://owner/name.")],
    output: Annotated[Path, typer.Option(help="Parquet file to write.")],
    batch_size: BatchSize = 512,
    backend: BackendChoice = "auto",
    engine: EngineName = "local",
    address: Address = None,
    shard_rows: ShardRows = DEFAULT_SHARD_ROWS,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Embed (prompt, response) pairs: keeps all columns, adds `embedding`; rows in order."""
    check_output_file(output)
    sharding = Sharding(engine, address, shard_rows)
    loaded = open_artifact(folder, cache, backend)
    progress = Progress()
    run = sharding.plan("encode", folder, loaded, batch_size, cache)
    report = run.over_file(pairs, output, lambda done: progress.show("encoding", done, None))
    progress.close()
    value = {"output": str(output), "rows": report.rows, "dim": loaded.encoder.dim}
    print_result(value, json, f"{output}: {report.rows:,} rows, {loaded.encoder.dim} dimensions")
