"""Fine-tunes a transformer on votes, with the objectives of stage 1 over its pooled vectors.

`FineTuningConfig` chooses the weights to tune, the budget of steps and the objectives. `FineTuner` runs the steps in
rounds and keeps the round with the best validation. The functions at the end freeze, read and set the tuned weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeAlias, final, get_args

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from model_behavior.arrays import AnyArray, Arrays, Float32Array, Int64Array
from model_behavior.data_models.behavior_encoder_types import Triplets
from model_behavior.data_models.training_log import EpochLog
from model_behavior.errors import UsageError
from model_behavior.models.behavior.batches import draw_batches_by_prompt, embed_batch
from model_behavior.models.behavior.checkpoint import optimizer_to_arrays, restore_optimizer
from model_behavior.models.behavior.metrics import normalise
from model_behavior.models.behavior.objectives import Objective, ObjectiveConfig
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.models.behavior.text.transformer import PairTransformer, TokenArray, plan_batches
from model_behavior.models.behavior.validation import EncoderVotes, TrainedEpoch, stop_if_collapsed
from model_behavior.preprocessing.entry_file import CacheEntry, inside

TuningMode: TypeAlias = Literal["full", "last-layers", "lora"]

PEAK_LEARNING_RATES: Final[Mapping[TuningMode, float]] = {"full": 1e-4, "last-layers": 2e-4, "lora": 1e-3}
"""Default peak learning rates of AdamW by mode; the fewer weights are tuned, the larger the rate."""

_COUNTS = ("last_layers", "lora_rank", "steps", "rounds", "batch_size", "micro_batch", "validation_pairs")
_RATES = ("lora_alpha", "learning_rate", "proxy_learning_rate", "weight_decay")
_LONGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class FineTuningConfig:
    """Settings of fine-tuning: a fixed budget of steps in rounds, of which the one with the best validation is kept.

    Attributes:
        mode: weights to tune: "full" for all, "last-layers" for the upper layers, "lora" for low-rank adapters in every
            layer.
        last_layers: number of layers tuned in mode "last-layers".
        lora_rank: rank of the adapters in mode "lora".
        lora_alpha: scale of the adapters, which are multiplied by `lora_alpha / lora_rank`.
        steps: number of optimiser steps.
        rounds: number of rounds of equally many steps; each ends with a validation and a checkpoint.
        batch_size: triplets per step.
        micro_batch: number of pairs whose activations are in memory at once; a larger batch recomputes them for the
            gradient.
        learning_rate: peak of AdamW's learning rate, with linear warm-up and linear decay to 0; None for
            `PEAK_LEARNING_RATES`.
        proxy_learning_rate: peak of the learning rate of proxies and read-out, which start untrained.
        weight_decay: weight decay of weight matrices.
        warmup: share of the steps before the peak, in [0, 1).
        validation_pairs: largest number of pairs of each side of the split that are encoded in a round.
        objectives: objectives, computed on the pooled vectors.
    """

    mode: TuningMode = "full"
    last_layers: int = 2
    lora_rank: int = 8
    lora_alpha: float = 16.0
    steps: int = 400
    rounds: int = 4
    batch_size: int = 32
    micro_batch: int = 32
    learning_rate: float | None = None
    proxy_learning_rate: float = 1e-2
    weight_decay: float = 0.01
    warmup: float = 0.1
    validation_pairs: int = 512
    objectives: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(proxy=1.0))

    def __post_init__(self) -> None:
        if self.mode not in get_args(TuningMode):
            raise UsageError(f"fine-tuning mode {self.mode!r}: allowed are {', '.join(get_args(TuningMode))}")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise UsageError(f"fine-tuning: {name}={getattr(self, name)}: at least 1 is needed")
        for name in _RATES:
            if (value := getattr(self, name)) is not None and not 0 <= value < float("inf"):
                raise UsageError(f"fine-tuning: {name}={value}: a finite number of 0 or more is needed")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"fine-tuning: warmup={self.warmup}: a share in [0, 1) is needed")
        if self.rounds > self.steps:
            raise UsageError(
                f"fine-tuning: rounds={self.rounds} exceeds steps={self.steps}: every round needs at least one step"
            )

    @property
    def peak(self) -> float:
        """The learning rate at its peak."""
        return PEAK_LEARNING_RATES[self.mode] if self.learning_rate is None else self.learning_rate

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FineTuningConfig:
        """The inverse of `dataclasses.asdict`; missing settings take their defaults.

        Raises:
            ArtifactError: the values use an objective that this release no longer has.
        """
        nested = {"objectives": ObjectiveConfig.from_json(values["objectives"])} if "objectives" in values else {}
        return cls(**{**values, **nested})


@final
class FineTuner:
    """Tunes a transformer in place, on the objectives of stage 1 over its pooled vectors.

    In a `ProcessGroup`, the micro-batches of a batch are divided among the processes. Each micro-batch draws dropout
    with a seed of its own, so that the vectors do not depend on the process that computes them.

    Triplets of the same prompt go into a batch together: several models' responses to it meet there, so the prompt
    cannot tell the models apart. Every round draws from a generator of its own, seeded by (seed, round), so that a run
    resumed from a checkpoint gives the same result as an uninterrupted one.

    Args:
        transformer: transformer with its original weights.
        votes: votes to learn from.
        config: settings.
        group: processes that tune together; only this one by default.

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
        """Runs the remaining rounds, and leaves the transformer with the weights of the best round.

        Returns:
            The tuned weights of that round.

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
        """Restores a `state`."""
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

    def _draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Triplets, Int64Array]]:
        while True:
            triplets = self._votes.sampler.sample(rng)
            prompt = self._votes.sampler.prompt[triplets.anchor]
            for rows in draw_batches_by_prompt(prompt, self._config.batch_size, rng):
                yield triplets, rows

    def _take_step(self, triplets: Triplets, rows: Int64Array, dropout: np.random.Generator) -> Mapping[str, float]:
        embed = partial(self._embed, dropout=dropout)
        loss, terms = self._objective(embed_batch(triplets, rows, self._votes.sampler, embed))
        self._optimizer.zero_grad()
        loss.backward()
        self._group.sum_gradients(self._tuned.values())
        self._group.mean_gradients(self._objective.parameters())
        torch.nn.utils.clip_grad_norm_(self._tuned.values(), _LONGEST_GRADIENT)
        self._optimizer.step()
        return {"total": float(loss.detach()), **terms}

    def _embed(self, pairs: Int64Array, dropout: np.random.Generator) -> torch.Tensor:
        """Pooled vectors of pairs, [n, dim]; this process computes its own micro-batches."""
        token_ids = self._transformer.tokenize(*self._votes.texts(pairs))
        parts = list(plan_batches(token_ids, self._config.micro_batch))
        seeds = dropout.integers(2**31, size=len(parts)).tolist()
        # Dealt out in turn, since the micro-batches are sorted by length.
        dealt = [range(rank, len(parts), self._group.size) for rank in range(self._group.size)]
        own = dealt[self._group.rank]
        vectors = self._pool(
            [[token_ids[row] for row in parts[place]] for place in own], [seeds[place] for place in own]
        )
        gathered = self._group.gather_rows(vectors, [sum(len(parts[place]) for place in places) for places in dealt])
        order = np.concatenate([parts[place] for places in dealt for place in places])
        return gathered[torch.from_numpy(np.argsort(order, kind="stable")).to(gathered.device)]

    def _pool(self, micro_batches: Sequence[Sequence[TokenArray]], seeds: Sequence[int]) -> torch.Tensor:
        """Pooled vectors of micro-batches, one after the other, [n, dim].

        If there are several, only the vectors are kept; the activations of a micro-batch are recomputed with the same
        dropout for its gradient (gradient checkpointing, Chen et al. 2016; for contrastive batches also known as
        gradient cache, Gao et al. 2021). Memory is therefore that of one micro-batch.
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

    def _encode_measured(self) -> Float32Array:
        """Vectors of the validation pairs, [n_measured, dim]; this process encodes its share."""
        n_pairs = len(self._measured)
        texts = self._votes.texts(self._measured[self._group.own(n_pairs)])
        own = torch.from_numpy(self._transformer.encode(*texts, self._config.micro_batch))
        vectors: Float32Array = self._group.gather_shares(own, n_pairs).numpy()
        return vectors

    def _set_learning_rates(self, step: int) -> None:
        """Sets learning rates that rise linearly from 0 to the peak and fall linearly to 0."""
        config = self._config
        warmup = config.warmup * config.steps
        factor = min((step + 1) / (warmup + 1), (config.steps - step) / (config.steps - warmup))
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators, which dropout uses, and restores them after the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def choose_tuned_weights(network: nn.Module, config: FineTuningConfig) -> None:
    """Freezes all weights except the tuned ones; mode "lora" first adds its adapters.

    Raises:
        UsageError: the transformer has no stack of layers, or fewer layers than are to be tuned.
    """
    network.requires_grad_(config.mode == "full")
    if config.mode == "full":
        return
    layers = _layers_of(network)
    if config.mode == "last-layers":
        if config.last_layers > len(layers):
            raise UsageError(
                f"fine-tuning: last_layers={config.last_layers}, but the transformer has {len(layers)}. "
                "Fix: fewer, or mode 'full'"
            )
        for layer in layers[-config.last_layers :]:
            layer.requires_grad_(True)
        return
    for module in [module for module in layers.modules() if isinstance(module, nn.Linear)]:
        difference = LowRankDifference(module.weight, config.lora_rank, config.lora_alpha)
        parametrize.register_parametrization(module, "weight", difference)


def tuned_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are not frozen, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def weights_to_arrays(weights: Mapping[str, torch.Tensor]) -> Arrays:
    """Copies the values of weights to arrays."""
    return {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()}


def set_tuned_weights(network: nn.Module, arrays: Mapping[str, AnyArray]) -> None:
    """The inverse of `weights_to_arrays`, in place.

    Raises:
        UsageError: they are not those of this network.
    """
    weights = tuned_weights(network)
    expected = {name: tuple(weight.shape) for name, weight in weights.items()}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        odd = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        raise UsageError(f"{len(odd)} of the tuned weights do not fit the transformer, {odd[0]} first")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(np.array(arrays[name])))


def _layers_of(network: nn.Module) -> nn.ModuleList:
    stacks = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    if not stacks:
        raise UsageError("fine-tuning: the transformer has no stack of layers. Fix: mode 'full'")
    return max(stacks, key=len)


@final
class LowRankDifference(nn.Module):
    """W' = W + (alpha / rank) B A, with W frozen (Hu et al. 2022, LoRA).

    A is drawn from N(0, 1 / n_in), B is 0, so that W' is W before the first step.

    Args:
        weight: W, [n_out, n_in].
        rank: number of rows of A and of columns of B.
        alpha: numerator of the scale alpha / rank.
    """

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.a = nn.Parameter(torch.randn(rank, n_in).to(weight.device) / n_in**0.5)
        self.b = nn.Parameter(torch.zeros(n_out, rank, device=weight.device))
        self._scale = alpha / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns W' for W, both [n_out, n_in]."""
        return weight + self._scale * (self.b @ self.a)
