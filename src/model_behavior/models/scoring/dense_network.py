"""The network of stage 2: what a prompt and a behaviour add to ratings.

    score(p, m) = offset_m + [x_p; t_p] W z_m + [1; x_p; t_p] . v_m
    tie(p) = tie + [x_p; t_p] . u_1        both_bad(p) = both_bad + [x_p; t_p] . u_2

with x_p the prompt's features, t_p = tanh(A x_p + c) the hidden layer, z_m the frozen embedding of the behaviour, v_m a
learned vector of each voted model (0 for others), and u how easy the prompt is. W, v and u begin at 0, where the
network gives what its offset gives, and normal priors hold them there where the votes say little. Votes on one prompt
share its oddities, so the precisions below are per vote on the average prompt: 100 votes on each prompt weigh as one.

Votes are tensors here (`VoteBatch`), and what the training loop needs of any network is `VoteNetwork`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_behavior.arrays import Float32Array, Float64Array
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.models.scoring.outcomes import OutcomeConstants
from model_behavior.models.scoring.prompt_features import PromptFeatures


@dataclass(frozen=True, eq=False)
class VoteBatch:
    """Votes as tensors.

    Attributes:
        prompts: features of the prompts, [n_prompts, dim]; they stay where they are when votes are taken.
        model_a: index of the left model, int64, [n].
        model_b: index of the right model, int64, [n].
        outcome: index of the outcome, int64, [n].
        prompt_index: row of the prompt, int64, [n].
        n_prompts: number of different prompts in the whole that the batch is of.
    """

    prompts: Tensor
    model_a: Tensor
    model_b: Tensor
    outcome: Tensor
    prompt_index: Tensor
    n_prompts: int

    def take(self, rows: Tensor) -> VoteBatch:
        """The votes in some rows."""
        columns = (self.model_a, self.model_b, self.outcome, self.prompt_index)
        a, b, outcome, prompt_index = (column[rows] for column in columns)
        return VoteBatch(self.prompts, a, b, outcome, prompt_index, self.n_prompts)

    @property
    def prompt(self) -> Tensor:
        """Features of the prompt of each vote, [n, dim]."""
        return self.prompts[self.prompt_index]


def batch_of(votes: ScoringVotes, features: PromptFeatures) -> VoteBatch:
    """Votes with the features of their prompts."""
    vectors = torch.from_numpy(features.transform(votes.prompts))
    a, b, prompt_index, outcome = (
        torch.from_numpy(column.astype(np.int64))
        for column in (votes.model_a, votes.model_b, votes.prompt_index, votes.outcome)
    )
    return VoteBatch(vectors, a, b, outcome, prompt_index, len(votes.prompts))


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


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the network, and its priors.

    Attributes:
        hidden: width of the hidden layer, 0 for none.
        shift_penalty: precision of u.
        behavior_penalty: precision of W.
        model_penalty: precision of v.
        slope_penalty: precision of the slopes around the offset's.
        margin: margin by which the winner's score should lead in the ranking loss.
        margin_weight: weight of that loss beside the likelihood; 0 for none.
    """

    hidden: int = 32
    shift_penalty: float = 1.5
    behavior_penalty: float = 0.5
    model_penalty: float = 1.5
    slope_penalty: float = 10.0
    margin: float = 1.0
    margin_weight: float = 0.0


@final
class DenseNetwork(VoteNetwork):
    """The equations of the module.

    Args:
        prompt_dim: size of x.
        offset: rating of each voted model, [n_models].
        behavior: z of each, [n_models, behavior_dim]; behavior_dim is 0 where behaviour is not used.
        constants: constants of the outcome likelihood, where training begins.
        config: size and priors.
    """

    offset: Tensor
    behavior: Tensor
    slopes_before: Tensor

    def __init__(
        self,
        prompt_dim: int,
        offset: Float64Array,
        behavior: Float32Array,
        constants: OutcomeConstants,
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(prompt_dim, config.hidden) if config.hidden else None
        width = prompt_dim + config.hidden
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))
        self.register_buffer("behavior", torch.tensor(behavior, dtype=torch.float32))
        slopes = torch.tensor([constants.tie_slope, constants.bad_slope], dtype=torch.float32)
        self.register_buffer("slopes_before", slopes)
        self.slopes = nn.Parameter(slopes.clone())
        self.levels = nn.Parameter(torch.tensor([constants.tie, constants.both_bad], dtype=torch.float32))
        self.shift = nn.Parameter(torch.zeros(width, 2))
        self.interaction = nn.Parameter(torch.zeros(width, behavior.shape[1]))
        self.models = nn.Parameter(torch.zeros(len(offset), width + 1))

    def widen(self, prompt: Tensor) -> Tensor:
        """[x; t], [n, width], of x, [n, prompt_dim]."""
        if self.hidden is None:
            return prompt
        return torch.cat([prompt, torch.tanh(self.hidden(prompt))], dim=1)

    def scores(self, wide: Tensor, models: Tensor) -> Tensor:
        """Scores of voted models, [..., n], from `widen`ed prompts, [n, width], and model indices, [..., n]."""
        with_level = functional.pad(wide, (1, 0), value=1.0)
        own = (self.models[models] * with_level).sum(dim=-1)
        behavior = ((wide @ self.interaction) * self.behavior[models]).sum(dim=-1)
        return self.offset[models] + own + behavior

    def forward(self, batch: VoteBatch) -> tuple[Tensor, Tensor]:
        """Logits of the outcomes, [n, 4], and the lead of the left side's score, [n]."""
        wide = self.widen(batch.prompt)
        a, b = self.scores(wide, torch.stack([batch.model_a, batch.model_b]))
        levels = self.levels + wide @ self.shift
        tie, bad = self.slopes[0] * (a + b) + levels[:, 0], -self.slopes[1] * (a + b) + levels[:, 1]
        return torch.stack([a, b, tie, bad], dim=1), a - b

    def loss(self, batch: VoteBatch) -> Tensor:
        """Mean negative log-likelihood, plus the margin ranking loss of decided votes where it is on."""
        logits, lead = self(batch)
        loss = functional.cross_entropy(logits, batch.outcome)
        if self.config.margin_weight:
            sign = (batch.outcome == 0).float() - (batch.outcome == 1).float()
            loss = (
                loss
                + self.config.margin_weight * (functional.relu(self.config.margin - sign * lead) * sign.abs()).mean()
            )
        return loss

    def penalty(self) -> Tensor:
        """Minus the logarithm of the priors."""
        config = self.config
        total = config.shift_penalty * self.shift.square().sum()
        total = total + config.behavior_penalty * self.interaction.square().sum()
        total = total + config.model_penalty * self.models.square().sum()
        total = total + config.slope_penalty * (self.slopes - self.slopes_before).square().sum()
        if self.hidden is not None:
            total = total + self.hidden.weight.square().sum()
        return total / 2

    def constants(self) -> OutcomeConstants:
        """The constants of the outcome likelihood on the mean prompt."""
        (tie_slope, bad_slope), (tie, both_bad) = self.slopes.tolist(), self.levels.tolist()
        return OutcomeConstants(tie_slope, bad_slope, tie, both_bad)

    def arrays(self) -> dict[str, Float32Array]:
        """Parameters and buffers by name."""
        return {name: np.array(value.detach().numpy()) for name, value in self.state_dict().items()}
