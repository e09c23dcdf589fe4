"""The training loop of stage 1: fixed epochs, fresh triplets in each, the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from model_behavior.arrays import Arrays, Float32Array, Int64Array
from model_behavior.data_models.behavior_encoder_types import Triplets
from model_behavior.data_models.training_log import EpochLog
from model_behavior.errors import UsageError
from model_behavior.models.behavior.batches import draw_batches, embed_batch
from model_behavior.models.behavior.behavior_features import compose
from model_behavior.models.behavior.checkpoint import optimizer_to_arrays, restore_optimizer
from model_behavior.models.behavior.objectives import Objective
from model_behavior.models.behavior.projection import Prepared, ProjectionHead
from model_behavior.models.behavior.validation import TrainedEpoch, ValidationSide, stop_if_collapsed
from model_behavior.preprocessing.entry_file import CacheEntry, inside
from model_behavior.preprocessing.feature_cache import let_go
from model_behavior.preprocessing.triplets import TripletSampler

_EMBED_BATCH = 2048


@dataclass(frozen=True)
class OptimisationConfig:
    """AdamW with a linear warm-up and a cosine decay to 0.

    Attributes:
        learning_rate: learning rate at its peak.
        weight_decay: weight decay of AdamW.
        warmup: share of all steps before the peak.
        many_votes: training votes from which on batches and dropout are as configured; see `EncoderConfig.for_size`.
        epoch_triplets: largest number of triplets of an epoch; where votes give more, each epoch draws its own.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    many_votes: int = 2500
    epoch_triplets: int = 131_072

    def __post_init__(self) -> None:
        if self.many_votes < 1:
            raise UsageError(
                f"many_votes={self.many_votes}: at least 1 is needed, which leaves batches and dropout alone"
            )
        if self.epoch_triplets < 1:
            raise UsageError(f"epoch_triplets={self.epoch_triplets}: at least 1 is needed")


@dataclass(frozen=True, eq=False)
class TrainingExamples:
    """Input of the training loop.

    Attributes:
        prepared: features of every pair, one block per text encoder.
        identity: identity part of every pair, [n_pairs, identity_dim].
        identity_weight: length of the identity part in the embedding.
        sampler: source of training triplets.
        validation: votes that epochs are compared on.
        validated: pairs that `validation` is over, ascending; None for all.
    """

    prepared: Sequence[Prepared]
    identity: Float32Array
    identity_weight: float
    sampler: TripletSampler
    validation: ValidationSide
    validated: Int64Array | None = None


@dataclass(frozen=True)
class Schedule:
    """Length and seed of a training."""

    epochs: int
    batch_size: int
    seed: int
    optimisation: OptimisationConfig


class Trainer:
    """Trains a head in place.

    Every epoch draws from a generator of its own, seeded by (seed, epoch), so that a run resumed from a
    checkpoint gives the same result as an uninterrupted one.
    """

    def __init__(
        self, head: ProjectionHead, objective: Objective, examples: TrainingExamples, schedule: Schedule
    ) -> None:
        self.history: list[EpochLog] = []
        self._network = nn.ModuleDict({"head": head, "objective": objective})
        self._head, self._objective = head, objective
        self._examples, self._schedule = examples, schedule
        self._best: dict[str, torch.Tensor] = {}
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(),
            lr=schedule.optimisation.learning_rate,
            weight_decay=schedule.optimisation.weight_decay,
            fused=True,  # one pass over the weights instead of a dozen
        )

    def run(self, on_step: Callable[[int, int], None], on_epoch: Callable[[EpochLog], None]) -> None:
        """Trains the remaining epochs, then restores the best one.

        Raises:
            CollapseError: the encoder maps all pairs to one point, or the loss is not a number.
        """
        for epoch in range(len(self.history) + 1, self._schedule.epochs + 1):
            log = self._run_epoch(epoch, on_step)
            stop_if_collapsed(log, self._objective.config.margin, self._schedule.optimisation.learning_rate)
            if all(log.triplet_accuracy > earlier.triplet_accuracy for earlier in self.history):
                self._best = {name: value.clone() for name, value in self._network.state_dict().items()}
            self.history.append(log)
            on_epoch(log)
        self._network.load_state_dict(self._best)

    def state(self) -> CacheEntry:
        """Everything that the next epoch depends on."""
        arrays: Arrays = {f"now.{name}": value.numpy() for name, value in self._network.state_dict().items()}
        arrays |= {f"best.{name}": value.numpy() for name, value in self._best.items()}
        arrays |= {f"adam.{name}": value for name, value in optimizer_to_arrays(self._optimizer).items()}
        return CacheEntry(arrays, {"history": [asdict(log) for log in self.history]})

    def restore(self, state: CacheEntry) -> None:
        """Restores a `state`."""
        self.history = [EpochLog(**log) for log in state.metadata["history"]]
        self._network.load_state_dict(_tensors(state.arrays, "now."))
        self._best = _tensors(state.arrays, "best.")
        restore_optimizer(self._optimizer, inside(state.arrays, "adam."))

    def _run_epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> EpochLog:
        started = time.perf_counter()
        rng = np.random.default_rng([self._schedule.seed, epoch])
        triplets = self._examples.sampler.sample(rng)
        n_triplets = min(len(triplets), self._schedule.optimisation.epoch_triplets)
        batches = draw_batches(len(triplets), self._schedule.batch_size, rng, n_triplets)
        sums: dict[str, float] = {}
        self._network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            for step, rows in enumerate(batches):
                self._set_learning_rate((epoch - 1 + step / len(batches)) / self._schedule.epochs)
                for name, value in self._take_step(triplets, rows).items():
                    sums[name] = sums.get(name, 0.0) + value * len(rows)
                on_step(step + 1, len(batches))
        means = {name: value / max(n_triplets, 1) for name, value in sums.items()}
        examples, validated = self._examples, self._examples.validated
        trained = self._head.embed(examples.prepared, _EMBED_BATCH, validated)
        identity = examples.identity if validated is None else examples.identity[validated]
        embeddings = compose(trained, identity, examples.identity_weight)
        for block in examples.prepared:
            let_go(block)
        done = TrainedEpoch(epoch, means, n_triplets, triplets.skipped, started)
        return self._examples.validation.measure(done, embeddings, trained, self._objective.config)

    def _take_step(self, triplets: Triplets, rows: Int64Array) -> Mapping[str, float]:
        examples = self._examples

        def embed(pairs: Int64Array) -> torch.Tensor:
            raw: torch.Tensor = self._head([block[pairs] for block in examples.prepared])
            return raw

        batch = embed_batch(triplets, rows, examples.sampler, embed)
        loss, terms = self._objective(batch)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return {"total": float(loss.detach()), **terms}

    def _set_learning_rate(self, progress: float) -> None:
        config = self._schedule.optimisation
        if progress < config.warmup:
            factor = (progress + 1e-3) / (config.warmup + 1e-3)
        else:
            factor = (1 + math.cos(math.pi * (progress - config.warmup) / (1 - config.warmup))) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * factor


def _tensors(arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in inside(arrays, prefix).items()}
