"""Which weights are tuned, how long, and to which end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from model_behavior.errors import UsageError
from model_behavior.models.behavior.objectives import ObjectiveConfig

TuningMode: TypeAlias = Literal["full", "last-layers", "lora"]

PEAK_LEARNING_RATES: Final[Mapping[TuningMode, float]] = {"full": 1e-4, "last-layers": 2e-4, "lora": 1e-3}
"""Of AdamW, where none is chosen: the fewer weights are tuned, the larger."""

_COUNTS = ("last_layers", "lora_rank", "steps", "rounds", "batch_size", "micro_batch", "validation_pairs")
_RATES = ("lora_alpha", "learning_rate", "proxy_learning_rate", "weight_decay")


@dataclass(frozen=True)
class FineTuningConfig:
    """A fixed budget of steps, of which the round that validates best is kept.

    Attributes:
        mode: "full" tunes every weight, "last-layers" those of the upper layers, "lora" low-rank differences in every
            layer.
        last_layers: so many, in that mode.
        lora_rank: of the differences, in that mode.
        lora_alpha: differences count `lora_alpha / lora_rank` times.
        steps: of the optimiser.
        rounds: so often the encoder is validated and the checkpoint written, after equally many steps.
        batch_size: triplets per step.
        micro_batch: pairs whose activations are in memory at once; those of a larger batch are computed again for the
            gradient.
        learning_rate: peak, of AdamW with a linear warm-up and a linear decay to 0; None for `PEAK_LEARNING_RATES`.
        proxy_learning_rate: the same for proxies and read-out, which start from nothing.
        weight_decay: of weight matrices.
        warmup: share of the steps before the peak, in [0, 1).
        validation_pairs: at most so many of each side of the split are encoded in a round.
        objectives: what is minimised, over the pooled vectors themselves.
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
            raise UsageError(f"fine-tuning: rounds={self.rounds} of steps={self.steps}: a round needs a step")

    @property
    def peak(self) -> float:
        """The learning rate at its peak."""
        return PEAK_LEARNING_RATES[self.mode] if self.learning_rate is None else self.learning_rate

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FineTuningConfig:
        """The inverse of `dataclasses.asdict`; what is left out has its default."""
        nested = {"objectives": ObjectiveConfig(**values["objectives"])} if "objectives" in values else {}
        return cls(**{**values, **nested})
