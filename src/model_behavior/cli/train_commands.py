"""`model-behavior train`, `train-encoder`, `train-scorer` and `update`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from model_behavior import pipeline
from model_behavior.artifact import Artifact
from model_behavior.cli.configuration import check_moved, read_settings, read_toml, to_toml, with_settings
from model_behavior.cli.console import (
    ConsoleMonitor,
    Progress,
    print_load_report,
    print_notes,
    print_result,
    stderr,
)
from model_behavior.cli.options import (
    RUNNING,
    ArtifactFolder,
    BackendChoice,
    CacheFolder,
    Change,
    Columns,
    ConfigFile,
    Json,
    MemoryLimit,
    NewArtifact,
    OtherFolder,
    Outcomes,
    Questions,
    Seed,
    VoteSources,
    names_of_options,
    open_artifact,
    open_cache,
    read_votes,
    reading_options,
    set_defaults,
)
from model_behavior.data.linking import open_sources
from model_behavior.data.loading import load_responses, load_votes
from model_behavior.data.prompt_categories import read_categories
from model_behavior.data.ratings import load_ratings
from model_behavior.data.reading import ReadingOptions
from model_behavior.data.vote_log import LOG, VoteLog, ledger_of_log
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.behavior.checkpoint import tuning_checkpoint
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.process_group import ProcessGroup, open_process_group
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.pipeline import Material, TrainingConfig, complete, fit_encoder, gather_material, make_encoder
from model_behavior.preprocessing.cache import ContentCache

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
        help="Text encoder: style, lexical, semantic, finetuned or likelihood; repeatable. [default: style, lexical]",
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
    run = TrainingRun(output, resume, overwrite, open_cache(cache, memory), backend, reading, start)
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
    run = TrainingRun(output, resume, overwrite, open_cache(cache, memory), backend, reading, start)
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
    counted = len(updated.votes) - len(change.before.votes)
    value = {
        "output": str(change.target),
        "new_votes": counted,
        "counted_before": len(known_models) - counted,
        "models_unknown": len(new) - len(known_models),
        "votes": len(updated.votes),
    }
    text = (
        f"{change.target}: {counted:,} new votes, {value['counted_before']:,} counted before, "
        f"{value['models_unknown']:,} of models without an embedding left out; {len(updated.votes):,} votes in all"
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


@dataclass(frozen=True)
class TrainingInputs:
    """Sources of a training.

    Attributes:
        votes: sources of votes; with ratings, sources of responses among them are taken for `responses`.
        ratings: file of published ratings; None without.
        responses: sources of the rated models' responses.
        reading: names of columns and outcomes in the files.
        seed: seed of votes that are drawn from ratings.
    """

    votes: tuple[str, ...]
    ratings: Path | None
    responses: tuple[str, ...]
    reading: ReadingOptions
    seed: int

    def read(self, quiet: bool = False) -> Material:
        """Votes, ratings and responses, with progress and a report on stderr.

        Args:
            quiet: no progress and no report: another process of the same training prints them.

        Raises:
            DataError, UsageError: as `gather_material` and the loaders.
        """
        votes, responses = self._divide()
        ratings = None if self.ratings is None else load_ratings(self.ratings)
        if ratings is not None and ratings.categories:
            ratings = replace(ratings, prompts=read_categories(responses))
        data = None
        if votes:
            data = load_votes(*votes, reading=self.reading)[0] if quiet else read_votes(votes, self.reading)
        pairs = self._read_responses(responses, quiet) if responses else None
        material = gather_material(data, ratings, pairs, self.seed)
        if not quiet:
            print_notes(material.notes)
        return material

    def _read_responses(self, sources: Sequence[str], quiet: bool) -> PairTable:
        progress = None if quiet else partial(Progress().show, "reading responses")
        pairs, report = load_responses(*sources, progress=progress, reading=self.reading)
        if not quiet:
            print_load_report(report)
        return pairs

    def _divide(self) -> tuple[list[str], list[str]]:
        """Sources of votes and of responses: an option takes one value, so that further ones come as votes."""
        if self.ratings is None:
            return list(self.votes), list(self.responses)
        votes = [
            source
            for source in self.votes
            if any(opened.format.family == "votes" for opened in open_sources((source,), "votes", self.reading))
        ]
        return votes, [*self.responses, *(source for source in self.votes if source not in votes)]


@dataclass(frozen=True)
class TrainingRun:
    """Output folder of a training, and how it runs.

    Attributes:
        output: folder to write, which is checked before any work.
        resume: resume an interrupted training.
        overwrite: overwrite an existing artifact.
        cache: cache of features.
        backend: library that runs transformers.
        reading: names of columns and outcomes in the vote files.
        start: folder of the artifact to start from; None to start afresh.
    """

    output: Path
    resume: bool
    overwrite: bool
    cache: ContentCache
    backend: Backend
    reading: ReadingOptions
    start: Path | None = None

    @cached_property
    def target(self) -> NewArtifact:
        """The folder as it was before the training."""
        return NewArtifact(self.output, self.overwrite, ", or add --overwrite")

    def __post_init__(self) -> None:
        _ = self.target

    @property
    def checkpoint(self) -> Path:
        """The file that an interrupted training goes on from."""
        output = self.output.resolve()
        return output.with_name(f".{output.name}.checkpoint")

    def train(
        self, inputs: TrainingInputs, config: TrainingConfig
    ) -> tuple[Artifact, PreprocessedBehaviorEncoderData, Material]:
        """Stage 1, the votes as it was trained on them, and all that was read.

        Under `torchrun` only the first process comes back; the others end here when the training has.
        """
        with open_process_group() as group:
            if group.is_first:
                return self._train(inputs, config, replace(self._runtime(group), monitor=ConsoleMonitor()))
            encoder = make_encoder(config, self._runtime(group), self._open_start())
            prepared, _ = pipeline.prepare(encoder, inputs.read(quiet=True), config)
            encoder.train_prepared(prepared, config.epochs, config.batch_size)
        raise typer.Exit

    def _open_start(self) -> Artifact | None:
        return None if self.start is None else Artifact.load(self.start, Runtime(self.cache))

    def _runtime(self, group: ProcessGroup) -> Runtime:
        return Runtime(self.cache, checkpoint=self.checkpoint, resume=self.resume, group=group, backend=self.backend)

    def _train(
        self, inputs: TrainingInputs, config: TrainingConfig, runtime: Runtime
    ) -> tuple[Artifact, PreprocessedBehaviorEncoderData, Material]:
        encoder = make_encoder(config, runtime, self._open_start())
        material = inputs.read()
        try:
            prepared, material = pipeline.prepare(encoder, material, config)
            return fit_encoder(encoder, prepared, config), prepared, material
        except KeyboardInterrupt:
            if self.checkpoint.exists() or tuning_checkpoint(self.checkpoint).exists():
                stderr().print("To continue after the last finished epoch, run the same command with --resume.")
            raise

    def finish(self, trained: Artifact) -> None:
        """Writes the folder; the checkpoints are not needed any more."""
        try:
            self.target.write(trained)
        except ArtifactError:  # written beside it
            self._forget_checkpoints()
            raise
        self._forget_checkpoints()

    def _forget_checkpoints(self) -> None:
        for path in (self.checkpoint, tuning_checkpoint(self.checkpoint)):
            path.unlink(missing_ok=True)


def describe_encoder(trained: Artifact, output: Path, seconds: float) -> tuple[dict[str, Any], str]:
    """Results of stage 1, as JSON and as text."""
    history = trained.encoder.history
    best = max(history, key=lambda log: log.triplet_accuracy)
    value = {
        "output": str(output),
        "models": len(trained.models),
        "best_epoch": best.epoch,
        "triplet_accuracy": best.triplet_accuracy,
        "balanced_accuracy": best.balanced_accuracy,
        "identification_at_8": best.identification,
        "seconds": round(seconds, 1),
        "history": [log.to_json() for log in history],
    }
    balanced, identification = (
        "-" if figure is None else f"{figure:.3f}" for figure in (best.balanced_accuracy, best.identification)
    )
    text = (
        f"{output}: encoder with {len(trained.models)} models in {seconds:.0f} s; epoch {best.epoch} kept, "
        f"validation triplet accuracy {best.triplet_accuracy:.3f} (balanced {balanced}), "
        f"identification at 8 {identification}"
    )
    return value, text


def describe_scorer(scorer: DenseNetworkModel) -> tuple[dict[str, Any], str]:
    """Results of stage 2, as JSON and as text."""
    history = scorer.history
    n_voted, n_enrolled = len(scorer.voted_models), len(scorer.models) - len(scorer.voted_models)
    value: dict[str, Any] = {
        "voted_models": n_voted,
        "published_ratings": 0 if scorer.published is None else len(scorer.published.table.models),
        "enrolled_models": n_enrolled,
        "validation_loss": None,
        "ratings_alone_loss": None,
        "accuracy": None,
        "temperature": scorer.temperature.value,
        "notes": list(scorer.notes),
        "history": [log.to_json() for log in history],
    }
    text = f"scorer of {n_voted} known and {n_enrolled} enrolled models"
    if scorer.published is not None:
        text += f"; {len(scorer.published.table.models)} have a published rating"
    if not history:
        return value, f"{text}; nothing is measured without votes on several prompts"
    best = min(history, key=lambda log: log.validation_loss)
    alone = history[0].validation_loss
    value |= {"validation_loss": best.validation_loss, "ratings_alone_loss": alone, "accuracy": best.accuracy}
    decided = (
        f", accuracy of decided votes {best.accuracy:.3f}" if math.isfinite(best.accuracy) else ", no vote decided"
    )
    text += f"; cross-validated log loss {best.validation_loss:.4f} (ratings alone {alone:.4f})"
    return value, f"{text}{decided}, temperature {scorer.temperature.value:.3f}"
