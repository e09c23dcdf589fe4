"""`model-behavior train`, `train-encoder`, `train-scorer` and `update`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from model_behavior import pipeline
from model_behavior.artifact import Artifact
from model_behavior.cli.configuration import check_moved, read_settings, read_toml, to_toml, with_settings
from model_behavior.cli.console import counted, print_notes, print_result, stderr
from model_behavior.cli.options import (
    RUNNING,
    Address,
    ArtifactFolder,
    BackendChoice,
    CacheFolder,
    Change,
    Columns,
    ConfigFile,
    EngineName,
    Json,
    MemoryLimit,
    OtherFolder,
    Outcomes,
    Questions,
    Seed,
    VoteSources,
    names_of_options,
    open_artifact,
    open_cache,
    ray_workers,
    read_votes,
    reading_options,
    set_defaults,
)
from model_behavior.cli.training_run import TrainingInputs, TrainingRun, describe_encoder, describe_scorer
from model_behavior.data.vote_log import LOG, VoteLog, ledger_of_log
from model_behavior.errors import UsageError
from model_behavior.pipeline import TrainingConfig, complete

_DEFAULT = TrainingConfig()
_STAGE_1 = ("epochs", "batch_size", "text", "encoder", "split", "enrolment")
_STAGE_2 = ("scorer",)
_SETTINGS: Mapping[str, str] = {
    "epochs": "epochs",
    "batch_size": "batch_size",
    "encoder": "text.encoders",
    "validation_fraction": "split.fraction",
    "hold_out": "split.held_out_models",
    "min_comparisons": "encoder.preprocessing.filters.min_comparisons",
    "scorer_epochs": "scorer.schedule.epochs",
    "model_source": "scorer.model_source",
}
"""Options, and the setting that each is; the seed is several."""
_SETTINGS_OF_FILE = f"{__name__}.settings"


def load_training_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes from a TOML file values of the command's options, and settings of `TrainingConfig` in its tables."""
    if path is None:
        return None
    values = read_toml(path)
    options = names_of_options(context)
    flat = {name: value for name, value in values.items() if name in options and not isinstance(value, dict)}
    nested = {name: value for name, value in values.items() if name not in flat}
    try:
        check_moved({name: name for name in nested})
        settings = read_settings(nested, _DEFAULT, options)
        with_settings(_DEFAULT, settings)  # a value that its class refuses is a fault of the file
    except UsageError as error:
        raise UsageError(f"--config {path}: {error}") from error
    context.meta[_SETTINGS_OF_FILE] = settings
    set_defaults(context, path, flat)
    return path


def require_nothing(context: typer.Context, value: bool) -> bool:
    """Shows the configuration also where there are no votes and no folder to write."""
    if value:
        for parameter in context.command.params:
            parameter.required = False
    return value


_TRAINING, _VOTES = "Training", "Votes"

OptionalVotes: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[VOTES]...", help="Vote files, folders of shards, or hf://owner/name."),
]
RatingsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--ratings",
        help="Published ratings (Elo) in place of votes or beside them: CSV with model, rating, low, high and "
        "categories, or a leaderboard's JSON.",
    ),
]
RatedResponses: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--responses", help="Responses of the rated models: file, folder or hf://owner/name; repeatable."),
]

StartFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Trained artifact whose encoder to start from, so that few votes suffice; of the same configuration.",
        rich_help_panel=_TRAINING,
    ),
]
NewFolder: TypeAlias = Annotated[Path, typer.Option("--output", help="Folder to write.")]
TextEncoders: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="Text encoder: style, lexical, static, semantic, finetuned or likelihood; repeatable. "
        "[default: style, lexical]",
        rich_help_panel=_TRAINING,
    ),
]
Epochs: TypeAlias = Annotated[int, typer.Option(min=1, help="Epochs of stage 1.", rich_help_panel=_TRAINING)]
StepSize: TypeAlias = Annotated[
    int, typer.Option("--batch-size", min=1, help="Triplets per step of stage 1.", rich_help_panel=_TRAINING)
]
_SCORER_EPOCHS: Mapping[str, Any] = {
    "min": 1,
    "help": "Epochs of stage 2.",
    "rich_help_panel": _TRAINING,
}
ModelSource: TypeAlias = Annotated[
    Literal["behavior", "id"],
    typer.Option(
        help="Representation of models in stage 2: their embeddings, or a vector learned per name.",
        rich_help_panel=_TRAINING,
    ),
]
ValidationFraction: TypeAlias = Annotated[
    float, typer.Option(help="Share of prompts kept for validation.", rich_help_panel=_VOTES)
]
HoldOut: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Model to hold out of training; repeatable.", rich_help_panel=_VOTES)
]
MinComparisons: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Minimum number of votes per model; models with fewer are left out. "
        "[default: a quarter of the mean, at most 20]",
        rich_help_panel=_VOTES,
    ),
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Resume an interrupted training.", rich_help_panel=RUNNING)
]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite an existing artifact at --output.", rich_help_panel=RUNNING)
]
TrainingFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with values for these options and for the settings that --show-config prints.",
        is_eager=True,
        callback=load_training_config,
        rich_help_panel=RUNNING,
    ),
]
ShowConfig: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--show-config",
        help="Print all settings in effect as TOML for --config, and exit.",
        is_eager=True,
        callback=require_nothing,
        rich_help_panel=RUNNING,
    ),
]


def train(
    context: typer.Context,
    output: NewFolder,
    votes: OptionalVotes = None,
    ratings: RatingsFile = None,
    responses: RatedResponses = None,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    encoder: TextEncoders = None,
    start: StartFolder = None,
    epochs: Epochs = _DEFAULT.epochs,
    batch_size: StepSize = _DEFAULT.batch_size,
    scorer_epochs: Annotated[int, typer.Option(**_SCORER_EPOCHS)] = _DEFAULT.scorer.schedule.epochs,
    seed: Seed = 0,
    validation_fraction: ValidationFraction = _DEFAULT.split.fraction,
    hold_out: HoldOut = None,
    min_comparisons: MinComparisons = _DEFAULT.encoder.preprocessing.filters.min_comparisons,
    resume: Resume = False,
    overwrite: Overwrite = False,
    engine: EngineName = "local",
    address: Address = None,
    cache: CacheFolder = None,
    memory: MemoryLimit = None,
    backend: BackendChoice = "auto",
    config: TrainingFile = None,
    show_config: ShowConfig = False,
    json: Json = False,
) -> None:
    """Train both stages: the encoder, then the scorer on its model embeddings.

    Published ratings can take the place of votes, or stand beside them; they keep their scale and their intervals.
    """
    training = _configure(context)
    if show_config:
        _print_config(training, (*_STAGE_1, *_STAGE_2))
        return
    started = time.monotonic()
    reading = reading_options(columns, outcome, questions)
    workers = ray_workers(engine, address)
    run = TrainingRun(output, resume, overwrite, open_cache(cache, memory), backend, reading, start, workers)
    inputs = TrainingInputs(tuple(votes or ()), ratings, tuple(responses or ()), reading, training.split.seed)
    trained, prepared, material = run.train(inputs, training)
    scored = complete(trained, prepared, material, training)
    run.finish(scored)
    print_notes(scored.trained_scorer.notes)
    value, text = describe_encoder(scored, output, time.monotonic() - started)
    scorer_value, scorer_text = describe_scorer(scored.trained_scorer)
    print_result({**value, "scorer": scorer_value}, json, f"{text}\n{scorer_text}")


def train_encoder(
    context: typer.Context,
    votes: VoteSources,
    output: NewFolder,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    encoder: TextEncoders = None,
    start: StartFolder = None,
    epochs: Epochs = _DEFAULT.epochs,
    batch_size: StepSize = _DEFAULT.batch_size,
    seed: Seed = 0,
    validation_fraction: ValidationFraction = _DEFAULT.split.fraction,
    hold_out: HoldOut = None,
    min_comparisons: MinComparisons = _DEFAULT.encoder.preprocessing.filters.min_comparisons,
    resume: Resume = False,
    overwrite: Overwrite = False,
    engine: EngineName = "local",
    address: Address = None,
    cache: CacheFolder = None,
    memory: MemoryLimit = None,
    backend: BackendChoice = "auto",
    config: TrainingFile = None,
    show_config: ShowConfig = False,
    json: Json = False,
) -> None:
    """Train stage 1 on pairwise votes, and embed the models that were voted on."""
    training = _configure(context)
    if show_config:
        _print_config(training, _STAGE_1)
        return
    started = time.monotonic()
    reading = reading_options(columns, outcome, questions)
    workers = ray_workers(engine, address)
    run = TrainingRun(output, resume, overwrite, open_cache(cache, memory), backend, reading, start, workers)
    trained, _, _ = run.train(TrainingInputs(tuple(votes), None, (), reading, training.split.seed), training)
    run.finish(trained)
    value, text = describe_encoder(trained, output, time.monotonic() - started)
    print_result(value, json, text)


def train_scorer(
    context: typer.Context,
    folder: ArtifactFolder,
    votes: VoteSources,
    output: OtherFolder = None,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    scorer_epochs: Annotated[
        int, typer.Option("--epochs", "--scorer-epochs", envvar="MODEL_BEHAVIOR_TRAIN_SCORER_EPOCHS", **_SCORER_EPOCHS)
    ] = _DEFAULT.scorer.schedule.epochs,
    model_source: ModelSource = _DEFAULT.scorer.model_source,
    seed: Seed = 0,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: TrainingFile = None,
    show_config: ShowConfig = False,
    json: Json = False,
) -> None:
    """Train stage 2 on the frozen embeddings in DIR, with the votes that its encoder was trained on."""
    training = _configure(context)
    if show_config:
        _print_config(training, _STAGE_2)
        return
    reading = reading_options(columns, outcome, questions)
    change = Change(folder, output, lambda: open_artifact(folder, cache, backend))  # a useless folder is said first
    data = read_votes(votes, reading)
    scored = change.apply(lambda loaded: pipeline.train_scorer(loaded, data, training.scorer))
    print_notes(scored.trained_scorer.notes)
    value, text = describe_scorer(scored.trained_scorer)
    print_result({"output": str(change.target), **value}, json, f"{change.target}: {text}")


def update(
    folder: ArtifactFolder,
    votes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VOTES]", help="More votes: files, folders of shards, or hf://owner/name."),
    ] = None,
    output: OtherFolder = None,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Count new votes in the ratings of DIR: those that `serve` has received, and VOTES. No stage is trained again."""
    reading = reading_options(columns, outcome, questions)
    change = Change(folder, output, lambda: open_artifact(folder, cache, backend))
    given = read_votes(votes, reading) if votes else None
    log = VoteLog(folder / LOG)
    received = ledger_of_log(log.entries())
    if log.damaged:
        stderr().print(f"{log.path}: {log.damaged:,} lines cannot be read and are left out", markup=False)

    new = received

    def count(loaded: Artifact) -> Artifact:
        nonlocal new
        if given is not None:
            new = received.joined(pipeline.as_ledger(loaded, given))
        return pipeline.update_ratings(loaded, new)

    updated = change.apply(count)
    assert updated.votes is not None and change.before.votes is not None
    print_notes(updated.trained_scorer.notes)
    known_models = new.between(updated.models.names)
    added = len(updated.votes) - len(change.before.votes)
    value = {
        "output": str(change.target),
        "new_votes": added,
        "counted_before": len(known_models) - added,
        "models_unknown": len(new) - len(known_models),
        "votes": len(updated.votes),
    }
    text = (
        f"{change.target}: {counted(added, 'new vote')}, {value['counted_before']:,} counted before, "
        f"{value['models_unknown']:,} of models without an embedding left out; "
        f"{counted(len(updated.votes), 'vote')} in all"
    )
    print_result(value, json, text)


def _configure(context: typer.Context) -> TrainingConfig:
    """The choices of a training: flag > environment > table of the file > option in the file > default."""
    of_file = _with_options(_DEFAULT, context, "DEFAULT_MAP")
    of_file = with_settings(of_file, context.meta.get(_SETTINGS_OF_FILE, {}))
    return _with_options(of_file, context, "ENVIRONMENT", "COMMANDLINE")


def _with_options(config: TrainingConfig, context: typer.Context, *sources: str) -> TrainingConfig:
    """The configuration with the options that were given there."""
    given: dict[str, Any] = {}
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name in sources:
            given[name] = tuple(value) if isinstance(value, list) else value
    if "seed" in given:
        config = config.with_seed(given["seed"])
    return with_settings(config, {_SETTINGS[name]: value for name, value in given.items() if name in _SETTINGS})


def _print_config(config: TrainingConfig, tables: Sequence[str]) -> None:
    sys.stdout.write(to_toml(config, tables))
