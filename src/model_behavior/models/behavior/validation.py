"""Training and validation votes of an encoder, the metrics of an epoch, and the stop at collapse."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from model_behavior.arrays import Float32Array, Int32Array, Int64Array
from model_behavior.data.split import pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, TripletKind, Triplets
from model_behavior.data_models.training_log import EpochLog
from model_behavior.errors import CollapseError
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.objectives import ObjectiveConfig, triplet_margin_loss
from model_behavior.preprocessing.balanced_triplets import BalancedTriplets, draw_balanced
from model_behavior.preprocessing.entry_file import digest_of
from model_behavior.preprocessing.triplets import TripletSampler

_IDENTIFICATION_K = 8
_IDENTIFICATION_DRAWS = 10
_COLLAPSED_DISTANCE = 1e-3
_STUCK_SHARE = 0.98  # of the margin, which is the loss when every pair is the same point


@dataclass(frozen=True, eq=False)
class EncoderVotes:
    """Training votes to learn from, and validation votes to choose by.

    Attributes:
        prepared: votes, filtered and split.
        sampler: source of triplets of the training votes.
        seed: seed of weights, triplets and batches.
    """

    prepared: PreprocessedBehaviorEncoderData
    sampler: TripletSampler
    seed: int

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is drawn from the votes."""
        triplets = json.dumps(asdict(self.sampler.config), sort_keys=True)
        return digest_of(self.prepared.fingerprint, triplets, str(self.seed))

    def texts(self, pairs: Int64Array) -> tuple[list[str], list[str]]:
        """Prompts and responses of pairs, [n] each."""
        table = self.prepared.data.pairs
        return table.prompts.take(table.prompt_index[pairs]).to_pylist(), table.responses.take(pairs).to_pylist()

    def validation(self, most_pairs: int) -> tuple[ValidationSide, Int64Array]:
        """Some validation triplets with the pairs that they need, and as many pairs of either side for identification.

        Args:
            most_pairs: largest number of pairs of each side of the split.

        Returns:
            The triplets over a table of these pairs alone, and the pairs, ascending.
        """
        data, split = self.prepared.data, self.prepared.split
        rng = np.random.default_rng(self.seed)
        fixed = self.prepared.validation_triplets
        chosen = np.sort(rng.permutation(len(fixed))[: max(1, most_pairs // 3)])
        sides = [side[chosen].astype(np.int64) for side in (fixed.anchor, fixed.positive, fixed.negative)]
        needed = np.unique(np.concatenate(sides))
        held = rng.permutation(np.setdiff1d(pairs_of(data, split.validation), needed))
        held = np.concatenate([needed, held[: max(0, most_pairs - len(needed))]])
        known = rng.permutation(np.setdiff1d(pairs_of(data, split.train), held))[:most_pairs]
        pairs = np.sort(np.concatenate([held, known]))
        anchor, positive, negative = (np.searchsorted(pairs, side).astype(np.int32) for side in sides)
        triplets = Triplets(anchor, positive, negative, fixed.vote[chosen], fixed.kind[chosen], fixed.skipped)
        places = np.searchsorted(pairs, np.sort(known)), np.searchsorted(pairs, np.sort(held))
        votes = split.validation[np.isin(data.pair_a[split.validation], pairs)]
        votes = votes[np.isin(data.pair_b[votes], pairs)]
        sides_of_votes = np.searchsorted(pairs, data.pair_a[votes]), np.searchsorted(pairs, data.pair_b[votes])
        model = data.pairs.model_index[pairs]
        balanced = draw_balanced(model, self.sampler.prompt[pairs], sides_of_votes, self.seed)
        return ValidationSide(model, *places, triplets, balanced, self.seed), pairs


@dataclass(frozen=True, eq=False)
class TrainedEpoch:
    """An epoch before validation.

    Attributes:
        number: number of the epoch, from 1.
        means: mean of each of the objective's terms, and of the loss under "total".
        n_triplets: number of triplets trained on.
        skipped: number of triplets that could not be formed, by reason.
        started: start of the epoch, by `time.perf_counter`.
    """

    number: int
    means: Mapping[str, float]
    n_triplets: int
    skipped: Mapping[str, int]
    started: float


@dataclass(frozen=True, eq=False)
class ValidationSide:
    """Validation votes, and the pairs on which models are to be recognised.

    Attributes:
        model: model index of every pair, [n_pairs].
        train_pairs: pairs of training votes.
        validation_pairs: pairs of validation votes.
        triplets: triplets of validation votes, the same in every epoch.
        balanced: balanced triplets of the same votes.
        seed: seed of the draws for identification.
    """

    model: Int32Array
    train_pairs: Int64Array
    validation_pairs: Int64Array
    triplets: Triplets
    balanced: BalancedTriplets
    seed: int

    def measure(
        self, epoch: TrainedEpoch, embeddings: Float32Array, trained: Float32Array, config: ObjectiveConfig
    ) -> EpochLog:
        """The log of an epoch.

        Args:
            epoch: epoch that has been trained.
            embeddings: unit vectors of all pairs, [n_pairs, dim].
            trained: trained part of the embeddings, unit vectors, [n_pairs, trained_dim].
            config: objective whose triplet loss is computed.
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
            balanced_accuracy=self._balance(embeddings),
        )

    def _balance(self, embeddings: Float32Array) -> float | None:
        return float(metrics.balanced_scores(embeddings, self.balanced).mean()) if len(self.balanced) else None

    def _identify(self, embeddings: Float32Array) -> float | None:
        train, validation = self.train_pairs, self.validation_pairs
        known = metrics.centroids(embeddings[train], self.model[train], int(self.model.max()) + 1)
        rng = np.random.default_rng(self.seed)
        rows, truth = metrics.draw_groups(self.model[validation], _IDENTIFICATION_K, _IDENTIFICATION_DRAWS, rng)
        if not len(truth):
            return None
        means = embeddings[validation][rows].mean(axis=1)
        return float(metrics.identification_hits(means, truth, known).mean())


def stop_if_collapsed(log: EpochLog, margin: float, learning_rate: float) -> None:
    """Stops a training that has collapsed or diverged.

    Raises:
        CollapseError: the encoder maps all pairs to one point, or the loss is not a number.
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
