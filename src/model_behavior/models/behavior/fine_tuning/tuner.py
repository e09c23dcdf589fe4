"""The loop that fine-tunes a transformer: a fixed number of steps in rounds, of which the best is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.checkpoint import checkpoint

from model_behavior.data_models.behavior_encoder_types import Triplets
from model_behavior.data_models.training_log import EpochLog
from model_behavior.models.behavior.batches import draw_batches, embed_batch
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.fine_tuning.config import FineTuningConfig
from model_behavior.models.behavior.fine_tuning.tuned_weights import (
    choose_tuned_weights,
    set_tuned_weights,
    tuned_weights,
    weights_to_arrays,
)
from model_behavior.models.behavior.fine_tuning.votes import EncoderVotes
from model_behavior.models.behavior.metrics import normalise
from model_behavior.models.behavior.objectives import Objective
from model_behavior.models.behavior.optimizer_state import optimizer_to_arrays, restore_optimizer
from model_behavior.models.behavior.pair_transformer import PairTransformer
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.models.behavior.token_batches import TokenArray, plan_batches
from model_behavior.models.behavior.validation import TrainedEpoch, stop_if_collapsed
from model_behavior.preprocessing.entry_file import Arrays, CacheEntry, inside

_LONGEST_GRADIENT = 1.0


@final
class FineTuner:
    """Tunes a transformer in place, on the objectives of stage 1 over its pooled vectors.

    Alone or as one process of a `ProcessGroup`: a batch's micro-batches are dealt out, and each draws dropout by a seed
    of its own, so that the vectors are the same whichever process computes them.

    Triplets of a prompt go into a batch together, so that several models' answers to it meet there and the prompt
    tells none of them from the others. Every round draws from a generator of its own, seeded by (seed, round), so that
    a run that goes on from a checkpoint gives what an uninterrupted one gives.

    Args:
        transformer: as it was loaded.
        votes: to learn from.
        config: settings.
        group: the processes that tune it together; this one alone by default.

    Attributes:
        history: one log per round.
    """

    def __init__(
        self,
        transformer: PairTransformer,
        votes: EncoderVotes,
        config: FineTuningConfig,
        group: ProcessGroup | None = None,
    ) -> None:
        self.history: list[EpochLog] = []
        self._transformer, self._votes, self._config = transformer, votes, config
        self._group = group if group is not None else ProcessGroup()
        self._best: Arrays = {}
        n_models = len(votes.prepared.data.pairs.models)
        with _seeded(votes.seed, transformer.device):
            choose_tuned_weights(transformer.network, config)
            self._objective = Objective(n_models, transformer.dim, config.objectives).to(transformer.device)
        self._tuned = tuned_weights(transformer.network)
        self._validation, self._measured = votes.validation(config.validation_pairs)
        self._optimizer = self._make_optimizer()

    def run(self, on_step: Callable[[int, int], None], on_round: Callable[[EpochLog], None]) -> Arrays:
        """Tunes the rounds that are left, and leaves the transformer with the weights of the best one.

        Returns:
            These weights: all that differ from the transformer's own.

        Raises:
            CollapseError: all pairs are mapped to one point, or the loss is not a number.
        """
        for number in range(len(self.history) + 1, self._config.rounds + 1):
            log = self._run_round(number, on_step)
            stop_if_collapsed(log, self._config.objectives.margin, self._config.peak)
            if all(log.triplet_accuracy > earlier.triplet_accuracy for earlier in self.history):
                self._best = weights_to_arrays(self._tuned)
            self.history.append(log)
            on_round(log)
        set_tuned_weights(self._transformer.network, self._best)
        self._transformer.eval()
        return self._best

    def state(self) -> CacheEntry:
        """Everything that the next round depends on."""
        parts = {
            "now": weights_to_arrays(self._tuned),
            "best": self._best,
            "objective": weights_to_arrays(dict(self._objective.named_parameters())),
            "adam": optimizer_to_arrays(self._optimizer),
        }
        arrays: Arrays = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        return CacheEntry(arrays, {"history": [asdict(log) for log in self.history]})

    def restore(self, state: CacheEntry) -> None:
        """Goes back to a `state`."""
        self.history = [EpochLog(**log) for log in state.metadata["history"]]
        self._best = inside(state.arrays, "best.")
        set_tuned_weights(self._transformer.network, inside(state.arrays, "now."))
        set_tuned_weights(self._objective, inside(state.arrays, "objective."))
        restore_optimizer(self._optimizer, inside(state.arrays, "adam."))

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config, weights = self._config, list(self._tuned.values())
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "peak": config.peak},
            {"params": [weight for weight in weights if weight.ndim < 2], "peak": config.peak, "weight_decay": 0.0},
            {"params": list(self._objective.parameters()), "peak": config.proxy_learning_rate},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=config.weight_decay, fused=True
        )

    def _run_round(self, number: int, on_step: Callable[[int, int], None]) -> EpochLog:
        started, config = time.perf_counter(), self._config
        rng = np.random.default_rng([self._votes.seed, number])
        batches, dropout = self._draw_batches(rng), np.random.default_rng(rng.integers(2**31))
        first, last = (config.steps * edge // config.rounds for edge in (number - 1, number))
        sums: dict[str, float] = {}
        n_triplets, skipped = 0, {}
        self._transformer.train()
        for step in range(first, last):
            triplets, rows = next(batches)
            self._set_learning_rates(step)
            for name, value in self._take_step(triplets, rows, dropout).items():
                sums[name] = sums.get(name, 0.0) + value * len(rows)
            n_triplets, skipped = n_triplets + len(rows), dict(triplets.skipped)
            on_step(step + 1, config.steps)
        means = {name: value / n_triplets for name, value in sums.items()}
        unit = normalise(self._encode_measured())
        done = TrainedEpoch(number, means, n_triplets, skipped, started)
        return self._validation.measure(done, unit, unit, config.objectives)

    def _draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Triplets, npt.NDArray[np.int64]]]:
        while True:
            triplets = self._votes.sampler.sample(rng)
            prompt = self._votes.sampler.prompt[triplets.anchor]
            for rows in draw_batches(prompt, self._config.batch_size, True, rng):
                yield triplets, rows

    def _take_step(
        self, triplets: Triplets, rows: npt.NDArray[np.int64], dropout: np.random.Generator
    ) -> Mapping[str, float]:
        embed = partial(self._embed, dropout=dropout)
        loss, terms = self._objective(embed_batch(triplets, rows, self._votes.sampler, embed))
        self._optimizer.zero_grad()
        loss.backward()
        self._group.sum_gradients(self._tuned.values())
        self._group.mean_gradients(self._objective.parameters())
        torch.nn.utils.clip_grad_norm_(self._tuned.values(), _LONGEST_GRADIENT)
        self._optimizer.step()
        return {"total": float(loss.detach()), **terms}

    def _embed(self, pairs: npt.NDArray[np.int64], dropout: np.random.Generator) -> torch.Tensor:
        """Pooled vectors, [n, dim], of which this process computes those of its micro-batches."""
        token_ids = self._transformer.tokenize(*self._votes.texts(pairs))
        parts = list(plan_batches(token_ids, self._config.micro_batch))
        seeds = dropout.integers(2**31, size=len(parts)).tolist()
        # In turn, since the texts of the first are the longest.
        dealt = [range(rank, len(parts), self._group.size) for rank in range(self._group.size)]
        own = dealt[self._group.rank]
        vectors = self._pool(
            [[token_ids[row] for row in parts[place]] for place in own], [seeds[place] for place in own]
        )
        gathered = self._group.gather_rows(vectors, [sum(len(parts[place]) for place in places) for places in dealt])
        order = np.concatenate([parts[place] for places in dealt for place in places])
        return gathered[torch.from_numpy(np.argsort(order, kind="stable")).to(gathered.device)]

    def _pool(self, micro_batches: Sequence[Sequence[TokenArray]], seeds: Sequence[int]) -> torch.Tensor:
        """Pooled vectors of some micro-batches, one after the other, [n, dim].

        Where there are several only the vectors are kept; the activations of a micro-batch are computed again, with the
        same dropout, when its gradient is due (gradient checkpointing, Chen et al. 2016; for contrastive batches also
        known as gradient cache, Gao et al. 2021). So memory is that of one micro-batch.
        """
        transformer = self._transformer

        def pool(seed: int, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            with _seeded(seed, transformer.device):
                vectors: torch.Tensor = transformer(ids, mask)
            return vectors

        again = partial(checkpoint, pool, use_reentrant=False, preserve_rng_state=False)
        run: Callable[..., torch.Tensor] = again if len(micro_batches) > 1 else pool
        nothing = torch.zeros(0, transformer.dim, device=transformer.device, requires_grad=True)
        tokens = zip(seeds, map(transformer.pad, micro_batches), strict=True)
        return torch.cat([nothing, *(run(seed, *padded) for seed, padded in tokens)])

    def _encode_measured(self) -> FloatArray:
        """What rounds are compared on, of which this process encodes its share, [n_measured, dim]."""
        n_pairs = len(self._measured)
        texts = self._votes.texts(self._measured[self._group.own(n_pairs)])
        own = torch.from_numpy(self._transformer.encode(*texts, self._config.micro_batch))
        vectors: FloatArray = self._group.gather_shares(own, n_pairs).numpy()
        return vectors

    def _set_learning_rates(self, step: int) -> None:
        """Linear from 0 to the peak, and linear to 0."""
        config = self._config
        warmup = config.warmup * config.steps
        factor = min((step + 1) / (warmup + 1), (config.steps - step) / (config.steps - warmup))
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators, which dropout draws from, and leaves them as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
