"""Training log of stage 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EpochLog:
    """Figures of one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        train_loss: mean of the weighted sum of all objectives over the epoch's triplets.
        train_terms: mean of each objective before weighting.
        validation_loss: mean triplet margin loss of the validation triplets.
        triplet_accuracy: share of validation triplets of decided votes with d(anchor, positive) < d(anchor,
            negative); of all validation triplets where no vote is decided.
        accuracy_by_kind: the same for each kind of triplet that occurs.
        identification: share of models recognised from 8 validation responses by the nearest mean of training
            responses; None where no model has both.
        mean_distance: mean cosine distance between validation pairs; near 0 is collapse.
        n_triplets: training triplets of the epoch.
        skipped: training triplets that could not be formed, by reason.
        balanced_accuracy: share of balanced validation triplets (`preprocessing.balanced_triplets`) that are ordered
            rightly, draws as a half; None where there are none, or where an earlier release wrote the log.
        seconds: wall time of the epoch, validation included; 0 where it is not known.
    """

    epoch: int
    train_loss: float
    train_terms: Mapping[str, float]
    validation_loss: float
    triplet_accuracy: float
    accuracy_by_kind: Mapping[str, float]
    identification: float | None
    mean_distance: float
    n_triplets: int
    skipped: Mapping[str, int]
    seconds: float
    balanced_accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EpochLog:
        """The inverse of `to_json`."""
        return cls(**values)
