"""The training loop of stage 1: fixed epochs, fresh triplets in each, the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model_behavior.data_models.behavior_encoder_types import TripletKind, Triplets
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import IntArray
from model_behavior.errors import CollapseError
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.batches import draw_batches
from model_behavior.models.behavior.behavior_features import compose
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.objectives import Objective, TripletBatch, triplet_margin_loss
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.models.behavior.projection import Prepared, ProjectionHead
from model_behavior.preprocessing.entry_file import Arrays, CacheEntry, inside
from model_behavior.preprocessing.triplets import TripletSampler

_IDENTIFICATION_K = 8
_IDENTIFICATION_DRAWS = 10
_COLLAPSED_DISTANCE = 1e-3
_STUCK_SHARE = 0.98  # of the margin, which is the loss when every pair is the same point
_EMBED_BATCH = 2048


@dataclass(frozen=True)
class OptimisationConfig:
    """AdamW with a linear warm-up and a cosine decay to 0.

    Attributes:
        learning_rate: at its peak.
        weight_decay: of AdamW.
        warmup: share of all steps before the peak.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1


@dataclass(frozen=True, eq=False)
class TrainingExamples:
    """What the loop reads.

    Attributes:
        prepared: features of every pair, one block per text encoder.
        identity: the identity part of every pair, [n_pairs, identity_dim].
        identity_weight: its length in the embedding.
        model: model index of every pair, [n_pairs].
        train_pairs: pairs of training votes.
        validation_pairs: pairs of validation votes.
        sampler: draws training triplets.
        validation_triplets: fixed.
    """

    prepared: Sequence[Prepared]
    identity: FloatArray
    identity_weight: float
    model: IntArray
    train_pairs: npt.NDArray[np.int64]
    validation_pairs: npt.NDArray[np.int64]
    sampler: TripletSampler
    validation_triplets: Triplets


@dataclass(frozen=True)
class Schedule:
    """How long and by which seed."""

    epochs: int
    batch_size: int
    seed: int
    optimisation: OptimisationConfig


class Trainer:
    """Trains a head in place, alone or as one process of a `ProcessGroup`.

    Every epoch draws from a generator of its own, seeded by (seed, epoch), so that a run that goes on from a
    checkpoint gives what an uninterrupted one gives.
    """

    def __init__(
        self,
        head: ProjectionHead,
        objective: Objective,
        examples: TrainingExamples,
        schedule: Schedule,
        group: ProcessGroup | None = None,
    ) -> None:
        self.history: list[EpochLog] = []
        self._network = nn.ModuleDict({"head": head, "objective": objective})
        self._head, self._objective = head, objective
        self._examples, self._schedule = examples, schedule
        self._group = group if group is not None else ProcessGroup()
        self._best: dict[str, torch.Tensor] = {}
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(),
            lr=schedule.optimisation.learning_rate,
            weight_decay=schedule.optimisation.weight_decay,
            fused=True,  # one pass over the weights instead of a dozen
        )

    def run(self, on_step: Callable[[int, int], None], on_epoch: Callable[[EpochLog], None]) -> None:
        """Trains the epochs that are left, then restores the best one.

        Raises:
            CollapseError: all pairs are mapped to one point, or the loss is not a number.
        """
        for epoch in range(len(self.history) + 1, self._schedule.epochs + 1):
            log = self._run_epoch(epoch, on_step)
            self._stop_if_collapsed(log)
            if all(log.triplet_accuracy > earlier.triplet_accuracy for earlier in self.history):
                self._best = {name: value.clone() for name, value in self._network.state_dict().items()}
            self.history.append(log)
            on_epoch(log)
        self._network.load_state_dict(self._best)

    def state(self) -> CacheEntry:
        """Everything that the next epoch depends on."""
        arrays: Arrays = {f"now.{name}": value.numpy() for name, value in self._network.state_dict().items()}
        arrays |= {f"best.{name}": value.numpy() for name, value in self._best.items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            arrays |= {f"adam.{index}.{name}": np.asarray(value) for name, value in moments.items()}
        return CacheEntry(arrays, {"history": [asdict(log) for log in self.history]})

    def restore(self, state: CacheEntry) -> None:
        """Goes back to a `state`."""
        self.history = [EpochLog(**log) for log in state.metadata["history"]]
        self._network.load_state_dict(_tensors(state.arrays, "now."))
        self._best = _tensors(state.arrays, "best.")
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _tensors(state.arrays, "adam.").items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        groups: list[dict[str, Any]] = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _run_epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> EpochLog:
        started = time.perf_counter()
        rng = np.random.default_rng([self._schedule.seed, epoch])
        triplets = self._examples.sampler.sample(rng)
        prompt = self._examples.sampler.prompt[triplets.anchor]
        batches = draw_batches(prompt, self._schedule.batch_size, self._objective.config.mining, rng)
        sums: dict[str, float] = {}
        self._network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            for step, rows in enumerate(batches):
                self._set_learning_rate((epoch - 1 + step / len(batches)) / self._schedule.epochs)
                for name, value in self._take_step(triplets, rows).items():
                    sums[name] = sums.get(name, 0.0) + value * len(rows)
                on_step(step + 1, len(batches))
        means = {name: value / max(len(triplets), 1) for name, value in sums.items()}
        return self._validate(epoch, means, triplets, started)

    def _take_step(self, triplets: Triplets, rows: npt.NDArray[np.int64]) -> Mapping[str, float]:
        sides = np.stack([triplets.anchor[rows], triplets.positive[rows], triplets.negative[rows]])
        pairs, position = np.unique(sides, return_inverse=True)
        anchor, positive, negative = torch.from_numpy(position.reshape(sides.shape))
        examples, kind = self._examples, triplets.kind[rows]
        batch = TripletBatch(
            raw=self._embed([block[pairs] for block in examples.prepared]),
            anchor=anchor,
            positive=positive,
            negative=negative,
            decided=torch.from_numpy(kind <= TripletKind.PERFORMANCE),
            tied=torch.from_numpy(kind == TripletKind.TIE),
            model=torch.from_numpy(examples.model[pairs].astype(np.int64)),
            prompt=torch.from_numpy(examples.sampler.prompt[pairs]),
            text=torch.from_numpy(examples.sampler.text[pairs]),
        )
        loss, terms = self._objective(batch)
        self._optimizer.zero_grad()
        loss.backward()
        self._group.sum_gradients(self._head.parameters())
        self._group.mean_gradients(self._objective.parameters())
        self._optimizer.step()
        return {"total": float(loss.detach()), **terms}

    def _embed(self, rows: Sequence[Prepared]) -> torch.Tensor:
        """Raw embeddings of all rows, of which this process has computed its own."""
        if self._group.size == 1:
            raw: torch.Tensor = self._head(rows)
            return raw
        n_rows = rows[0].shape[0]
        return self._group.gather_rows(self._head(rows, self._group.own(n_rows)), n_rows)

    def _set_learning_rate(self, progress: float) -> None:
        config = self._schedule.optimisation
        if progress < config.warmup:
            factor = (progress + 1e-3) / (config.warmup + 1e-3)
        else:
            factor = (1 + math.cos(math.pi * (progress - config.warmup) / (1 - config.warmup))) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * factor

    def _validate(self, epoch: int, means: Mapping[str, float], triplets: Triplets, started: float) -> EpochLog:
        examples, config = self._examples, self._objective.config
        n_pairs = len(examples.model)
        own = self._head.embed([block[self._group.own(n_pairs)] for block in examples.prepared], _EMBED_BATCH)
        trained = self._group.gather_rows(torch.from_numpy(own), n_pairs).numpy()
        embeddings = compose(trained, examples.identity, examples.identity_weight)
        fixed = examples.validation_triplets
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
            epoch=epoch,
            train_loss=means["total"],
            train_terms={name: value for name, value in means.items() if name != "total"},
            validation_loss=float(loss),
            triplet_accuracy=float(counted.mean()),
            accuracy_by_kind=by_kind,
            identification=self._identify(embeddings),
            mean_distance=metrics.mean_pairwise_distance(trained[examples.validation_pairs]),
            n_triplets=len(triplets),
            skipped=triplets.skipped,
            seconds=time.perf_counter() - started,
        )

    def _identify(self, embeddings: FloatArray) -> float | None:
        examples = self._examples
        train, validation = examples.train_pairs, examples.validation_pairs
        known = metrics.centroids(embeddings[train], examples.model[train], int(examples.model.max()) + 1)
        rng = np.random.default_rng(self._schedule.seed)
        rows, truth = metrics.draw_groups(examples.model[validation], _IDENTIFICATION_K, _IDENTIFICATION_DRAWS, rng)
        if not len(truth):
            return None
        means = embeddings[validation][rows].mean(axis=1)
        return float(metrics.identification_hits(means, truth, known).mean())

    def _stop_if_collapsed(self, log: EpochLog) -> None:
        losses = (log.train_loss, log.validation_loss, log.mean_distance)
        if not all(map(math.isfinite, losses)):
            raise CollapseError(
                f"epoch {log.epoch}: the training diverged (losses {losses[0]}, {losses[1]}). Lower the learning rate "
                f"(now {self._schedule.optimisation.learning_rate})."
            )
        margin = self._objective.config.margin
        if log.mean_distance < _COLLAPSED_DISTANCE and log.validation_loss >= _STUCK_SHARE * margin:
            raise CollapseError(
                f"epoch {log.epoch}: the encoder has collapsed: the mean distance of validation pairs is "
                f"{log.mean_distance:.2g} and the loss is stuck at the margin ({log.validation_loss:.3f} of {margin}). "
                "Lower the learning rate, or the compactness weight, or raise the proxy weight."
            )


def _tensors(arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in inside(arrays, prefix).items()}
