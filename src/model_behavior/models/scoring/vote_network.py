"""What the training loop of stage 2 needs of a network, and votes as tensors."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.models.scoring.prompt_features import PromptFeatures


@dataclass(frozen=True, eq=False)
class VoteBatch:
    """Votes as tensors.

    Attributes:
        prompt: features, [n, dim].
        model_a: index of the left model, int64, [n].
        model_b: and of the right one.
        outcome: int64, [n].
        prompt_index: which prompt, int64, [n].
        n_prompts: different prompts in the whole that the batch is of.
    """

    prompt: Tensor
    model_a: Tensor
    model_b: Tensor
    outcome: Tensor
    prompt_index: Tensor
    n_prompts: int

    def take(self, rows: Tensor) -> VoteBatch:
        """Some votes."""
        columns = (self.prompt, self.model_a, self.model_b, self.outcome, self.prompt_index)
        prompt, a, b, outcome, prompt_index = (column[rows] for column in columns)
        return VoteBatch(prompt, a, b, outcome, prompt_index, self.n_prompts)


class VoteNetwork(nn.Module):
    """A network that gives the outcomes' logits."""

    @abstractmethod
    def forward(self, batch: VoteBatch) -> tuple[Tensor, Tensor]:
        """Logits of the outcomes, [n, 4], and the lead of the left side's score, [n]."""

    @abstractmethod
    def penalty(self) -> Tensor:
        """Minus the logarithm of the priors."""

    def loss(self, batch: VoteBatch) -> Tensor:
        """Mean negative log-likelihood."""
        logits, _ = self(batch)
        return functional.cross_entropy(logits, batch.outcome)


def batch_of(votes: ScoringVotes, features: PromptFeatures) -> VoteBatch:
    """Votes with the features of their prompts."""
    vectors = torch.from_numpy(features.transform(votes.prompts))
    a, b, prompt_index, outcome = (
        torch.from_numpy(column.astype(np.int64))
        for column in (votes.model_a, votes.model_b, votes.prompt_index, votes.outcome)
    )
    return VoteBatch(vectors[prompt_index], a, b, outcome, prompt_index, len(votes.prompts))
