"""A training as the command line runs it: what it reads, how it is interrupted and resumed, what it writes and says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import typer

from model_behavior import pipeline
from model_behavior.artifact import Artifact
from model_behavior.cli.console import ConsoleMonitor, Progress, counted, print_load_report, print_notes, stderr
from model_behavior.cli.options import (
    NewArtifact,
    read_votes,
)
from model_behavior.data.linking import open_sources
from model_behavior.data.loading import load_responses, load_votes
from model_behavior.data.prompt_categories import read_categories
from model_behavior.data.ratings import load_ratings
from model_behavior.data.reading import ReadingOptions
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import ArtifactError
from model_behavior.models.behavior.checkpoint import tuning_checkpoint
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.process_group import ProcessGroup, open_process_group
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.pipeline import Material, TrainingConfig, fit_encoder, gather_material, make_encoder
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.sharding.engines import RayWorkers


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
        workers: workers that encode the features; None for this process.
    """

    output: Path
    resume: bool
    overwrite: bool
    cache: ContentCache
    backend: Backend
    reading: ReadingOptions
    start: Path | None = None
    workers: RayWorkers | None = None

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

        Under `torchrun` only the first process comes back; the others end here when they have done their share.
        """
        with open_process_group() as group:
            if group.is_first:
                return self._train(inputs, config, replace(self._runtime(group), monitor=ConsoleMonitor()))
            encoder = make_encoder(config, self._runtime(group), self._open_start())
            prepared, _ = pipeline.prepare(encoder, inputs.read(quiet=True), config)
            encoder.assist_prepared(prepared, config.batch_size)
        raise typer.Exit

    def _open_start(self) -> Artifact | None:
        return None if self.start is None else Artifact.load(self.start, Runtime(self.cache))

    def _runtime(self, group: ProcessGroup) -> Runtime:
        return Runtime(
            self.cache,
            checkpoint=self.checkpoint,
            resume=self.resume,
            group=group,
            backend=self.backend,
            workers=self.workers,
        )

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
        f"{output}: encoder with {counted(len(trained.models), 'model')} in {seconds:.0f} s; epoch {best.epoch} kept, "
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
