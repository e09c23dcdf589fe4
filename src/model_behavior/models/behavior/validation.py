"""How good an encoder is between two epochs: figures on the validation side, and whether it has collapsed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model_behavior.data_models.behavior_encoder_types import TripletKind, Triplets
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import IntArray
from model_behavior.errors import CollapseError
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.objectives import ObjectiveConfig, triplet_margin_loss

_IDENTIFICATION_K = 8
_IDENTIFICATION_DRAWS = 10
_COLLAPSED_DISTANCE = 1e-3
_STUCK_SHARE = 0.98  # of the margin, which is the loss when every pair is the same point


@dataclass(frozen=True, eq=False)
class TrainedEpoch:
    """What is known of an epoch before validation.

    Attributes:
        number: from 1.
        means: of the objective's terms, and "total".
        n_triplets: that were trained on.
        skipped: that could not be formed, by reason.
        started: by `time.perf_counter`.
    """

    number: int
    means: Mapping[str, float]
    n_triplets: int
    skipped: Mapping[str, int]
    started: float


@dataclass(frozen=True, eq=False)
class ValidationSide:
    """What an encoder is validated on.

    Attributes:
        model: model index of every pair, [n_pairs].
        train_pairs: pairs of training votes.
        validation_pairs: pairs of validation votes.
        triplets: of validation votes, fixed.
        seed: of the draws for identification.
    """

    model: IntArray
    train_pairs: npt.NDArray[np.int64]
    validation_pairs: npt.NDArray[np.int64]
    triplets: Triplets
    seed: int

    def measure(
        self, epoch: TrainedEpoch, embeddings: FloatArray, trained: FloatArray, config: ObjectiveConfig
    ) -> EpochLog:
        """The log of an epoch.

        Args:
            epoch: what was trained.
            embeddings: unit vectors of all pairs, [n_pairs, dim].
            trained: their trained part, unit vectors, [n_pairs, trained_dim].
            config: the objective, for the loss.
        """
        fixed = self.triplets
        hits = metrics.triplet_hits(embeddings, fixed)
        unit = torch.from_numpy(trained)
        loss = triplet_margin_loss(
            unit[fixed.anchor], unit[fixed.positive], unit[fixed.negative], config.margin, config.distance
        )
        # By the protocol of `evaluation`, the figure is over decided votes; where there are none, over all triplets.
        decided = fixed.kind <= TripletKind.PERFORMANCE
        counted = hits[decided] if decided.any() else hits
        by_kind = {
            kind.name.lower(): float(hits[fixed.kind == kind].mean())
            for kind in TripletKind
            if (fixed.kind == kind).any()
        }
        return EpochLog(
            epoch=epoch.number,
            train_loss=epoch.means["total"],
            train_terms={name: value for name, value in epoch.means.items() if name != "total"},
            validation_loss=float(loss),
            triplet_accuracy=float(counted.mean()),
            accuracy_by_kind=by_kind,
            identification=self._identify(embeddings),
            mean_distance=metrics.mean_pairwise_distance(trained[self.validation_pairs]),
            n_triplets=epoch.n_triplets,
            skipped=epoch.skipped,
            seconds=time.perf_counter() - epoch.started,
        )

    def _identify(self, embeddings: FloatArray) -> float | None:
        train, validation = self.train_pairs, self.validation_pairs
        known = metrics.centroids(embeddings[train], self.model[train], int(self.model.max()) + 1)
        rng = np.random.default_rng(self.seed)
        rows, truth = metrics.draw_groups(self.model[validation], _IDENTIFICATION_K, _IDENTIFICATION_DRAWS, rng)
        if not len(truth):
            return None
        means = embeddings[validation][rows].mean(axis=1)
        return float(metrics.identification_hits(means, truth, known).mean())


def stop_if_collapsed(log: EpochLog, margin: float, learning_rate: float) -> None:
    """Ends a training that cannot come to anything.

    Raises:
        CollapseError: all pairs are mapped to one point, or the loss is not a number.
    """
    losses = (log.train_loss, log.validation_loss, log.mean_distance)
    if not all(map(math.isfinite, losses)):
        raise CollapseError(
            f"epoch {log.epoch}: the training diverged (losses {losses[0]}, {losses[1]}). Lower the learning rate "
            f"(now {learning_rate})."
        )
    if log.mean_distance < _COLLAPSED_DISTANCE and log.validation_loss >= _STUCK_SHARE * margin:
        raise CollapseError(
            f"epoch {log.epoch}: the encoder has collapsed: the mean distance of validation pairs is "
            f"{log.mean_distance:.2g} and the loss is stuck at the margin ({log.validation_loss:.3f} of {margin}). "
            "Lower the learning rate, or the compactness weight, or raise the proxy weight."
        )
