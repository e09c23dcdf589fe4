"""The votes that a text encoder may learn from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.data.split import pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, Triplets
from model_behavior.models.behavior.validation import ValidationSide
from model_behavior.preprocessing.entry_file import digest_of
from model_behavior.preprocessing.triplets import TripletSampler


@dataclass(frozen=True, eq=False)
class EncoderVotes:
    """Training votes to learn from, and validation votes to choose by.

    Attributes:
        prepared: filtered and split.
        sampler: draws triplets of the training votes.
        seed: of weights, triplets and batches.
    """

    prepared: PreprocessedBehaviorEncoderData
    sampler: TripletSampler
    seed: int

    @property
    def fingerprint(self) -> str:
        """Hash of all that is drawn from them."""
        triplets = json.dumps(asdict(self.sampler.config), sort_keys=True)
        return digest_of(self.prepared.fingerprint, triplets, str(self.seed))

    def texts(self, pairs: npt.NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """Prompts and responses of pairs, [n] each."""
        table = self.prepared.data.pairs
        return table.prompts.take(table.prompt_index[pairs]).to_pylist(), table.responses.take(pairs).to_pylist()

    def validation(self, most_pairs: int) -> tuple[ValidationSide, npt.NDArray[np.int64]]:
        """Some validation triplets with the pairs that they need, and as many pairs of either side for identification.

        Args:
            most_pairs: of each side of the split.

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
        return ValidationSide(data.pairs.model_index[pairs], *places, triplets, self.seed), pairs
