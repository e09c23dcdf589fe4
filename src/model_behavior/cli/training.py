"""A training as the command line runs it: reads votes, trains, can be interrupted, writes the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from model_behavior.artifact import Artifact, check_output, locked
from model_behavior.cli.console import ConsoleMonitor, Progress, print_load_report, stderr
from model_behavior.data.loading import load_votes
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import TrainingData
from model_behavior.models.behavior.checkpoint import tuning_checkpoint
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.process_group import ProcessGroup, open_process_group
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.pipeline import TrainingConfig, fit_encoder, make_encoder
from model_behavior.preprocessing.cache import ContentCache


def check_trained_output(output: Path, overwrite: bool) -> None:
    """Says before any work whether the folder can be written."""
    check_output(output, overwrite, ", or add --overwrite")


def read_votes(sources: Sequence[str]) -> TrainingData:
    """The votes, with progress and a report on stderr."""
    progress = Progress()
    data, report = load_votes(*sources, progress=lambda done, total: progress.show("reading votes", done, total))
    progress.close()
    print_load_report(report)
    return data


@dataclass(frozen=True)
class TrainingRun:
    """Where a training goes.

    Attributes:
        output: the folder.
        resume: go on with an interrupted training.
        overwrite: replace an artifact that is there.
        cache: of features.
    """

    output: Path
    resume: bool
    overwrite: bool
    cache: ContentCache

    @property
    def checkpoint(self) -> Path:
        """The file that an interrupted training goes on from."""
        output = self.output.resolve()
        return output.with_name(f".{output.name}.checkpoint")

    def train(
        self, sources: Sequence[str], config: TrainingConfig, backend: Backend = "auto"
    ) -> tuple[Artifact, PreprocessedBehaviorEncoderData]:
        """Stage 1, and the votes as it was trained on them.

        Under `torchrun` only the first process comes back; the others end here when the training has.
        """
        with open_process_group() as group:
            if group.is_first:
                return self._train(make_encoder(config, None, backend), sources, config, group)
            encoder = make_encoder(
                config, Runtime(self.cache, checkpoint=self.checkpoint, resume=self.resume, group=group), backend
            )
            encoder.train(load_votes(*sources)[0], config.split, config.epochs, config.batch_size)
        raise typer.Exit

    def _train(
        self, encoder: ModelBehaviorEncoder, sources: Sequence[str], config: TrainingConfig, group: ProcessGroup
    ) -> tuple[Artifact, PreprocessedBehaviorEncoderData]:
        monitor = ConsoleMonitor()
        encoder.runtime = Runtime(self.cache, monitor, self.checkpoint, self.resume, group)
        votes = read_votes(sources)
        try:
            prepared = encoder.prepare(votes, config.split)
            trained = fit_encoder(encoder, prepared, config)
        except KeyboardInterrupt:
            monitor.close()
            if self.checkpoint.exists() or tuning_checkpoint(self.checkpoint).exists():
                stderr().print("To go on after the last finished epoch, run the same command with --resume.")
            raise
        monitor.close()
        return trained, prepared

    def finish(self, trained: Artifact) -> None:
        """Writes the folder; the checkpoints are not needed any more."""
        with locked(self.output):
            trained.save(self.output)
        for path in (self.checkpoint, tuning_checkpoint(self.checkpoint)):
            path.unlink(missing_ok=True)


def describe_encoder(trained: Artifact, output: Path, seconds: float) -> tuple[dict[str, Any], str]:
    """What stage 1 came to, as JSON and as text."""
    history = trained.encoder.history
    best = max(history, key=lambda log: log.triplet_accuracy)
    value = {
        "output": str(output),
        "models": len(trained.models),
        "best_epoch": best.epoch,
        "triplet_accuracy": best.triplet_accuracy,
        "identification_at_8": best.identification,
        "seconds": round(seconds, 1),
        "history": [log.to_json() for log in history],
    }
    identification = "-" if best.identification is None else f"{best.identification:.3f}"
    text = (
        f"{output}: encoder with {len(trained.models)} models in {seconds:.0f} s; epoch {best.epoch} kept, "
        f"validation triplet accuracy {best.triplet_accuracy:.3f}, identification at 8 {identification}"
    )
    return value, text


def describe_scorer(scorer: DenseNetworkModel) -> tuple[dict[str, Any], str]:
    """What stage 2 came to, as JSON and as text."""
    history = scorer.history
    best = min(history, key=lambda log: log.validation_loss)
    value = {
        "voted_models": len(scorer.voted_models),
        "enrolled_models": len(scorer.models) - len(scorer.voted_models),
        "validation_loss": best.validation_loss,
        "ratings_alone_loss": history[0].validation_loss,
        "accuracy": best.accuracy,
        "temperature": scorer.temperature.value,
        "history": [log.to_json() for log in history],
    }
    text = (
        f"scorer of {len(scorer.voted_models)} voted and {value['enrolled_models']} enrolled models; cross-validated "
        f"log loss {best.validation_loss:.4f} (ratings alone {history[0].validation_loss:.4f}), accuracy of "
        f"decided votes {best.accuracy:.3f}, temperature {scorer.temperature.value:.3f}"
    )
    return value, text
