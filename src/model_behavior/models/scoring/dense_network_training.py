"""The training loop of stage 2: fixed epochs, the best one by validation log loss kept."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model_behavior.data_models.scoring_types import ScoringEpochLog
from model_behavior.models.scoring.vote_network import VoteBatch, VoteNetwork


@dataclass(frozen=True)
class ScoringSchedule:
    """Adam (Kingma and Ba 2015) with a cosine decay to 0.

    Attributes:
        epochs: passes over the training votes.
        batch_size: votes per step.
        learning_rate: at the beginning.
        seed: of the order of votes and of the hidden layer.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 0.01
    seed: int = 0


def train_network(
    network: VoteNetwork, train: VoteBatch, validation: VoteBatch | None, schedule: ScoringSchedule
) -> list[ScoringEpochLog]:
    """Trains in place and restores the best epoch; epoch 0 is the untrained network.

    Epoch 0 is kept unless the best one beats it by more than a standard error of the difference in validation log
    loss, clustered by prompt: where a handful of prompts cannot tell, the offset alone is the safer answer (the
    one-standard-error rule, Breiman et al. 1984).

    Args:
        network: untrained.
        train: votes to learn from.
        validation: votes to choose the epoch by; without them the last one is kept.
        schedule: how long.
    """
    generator = torch.Generator().manual_seed(schedule.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
    n_votes = len(train.outcome)
    history = [_log(network, 0, train, validation, time.perf_counter())]
    untrained = best = _copy_state(network)
    losses_before = None if validation is None else _losses(network, validation)
    n_steps = schedule.epochs * math.ceil(n_votes / schedule.batch_size)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(n_steps, 1))
    for epoch in range(1, schedule.epochs + 1):
        started = time.perf_counter()
        order = torch.randperm(n_votes, generator=generator)
        for rows in order.tensor_split(list(range(schedule.batch_size, n_votes, schedule.batch_size))):
            _step(network, train, rows, optimizer)
            decay.step()
        log = _log(network, epoch, train, validation, started)
        if validation is None or all(log.validation_loss < earlier.validation_loss for earlier in history):
            best = _copy_state(network)
        history.append(log)
    network.load_state_dict(best)
    if validation is not None and losses_before is not None:
        gain = losses_before - _losses(network, validation)
        if not is_clear_gain(gain.numpy(), validation.prompt_index.numpy()):
            network.load_state_dict(untrained)
    return history


def _step(network: VoteNetwork, train: VoteBatch, rows: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss = network.loss(train.take(rows)) + network.penalty() / train.n_prompts
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def is_clear_gain(gain: npt.NDArray[np.floating], prompt: npt.NDArray[np.integer]) -> bool:
    """Whether the mean gain is above its standard error, clustered by prompt.

    Args:
        gain: log loss saved on each vote, [n].
        prompt: the prompt of each, [n].
    """
    _, member = np.unique(prompt, return_inverse=True)
    n_prompts = int(member.max()) + 1
    if n_prompts < 2:
        return False
    excess = np.bincount(member, gain - gain.mean(), n_prompts)
    error = np.sqrt(np.square(excess).sum() * n_prompts / (n_prompts - 1)) / len(gain)
    return bool(gain.mean() > error)


def _copy_state(network: VoteNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def _losses(network: VoteNetwork, votes: VoteBatch) -> torch.Tensor:
    logits, _ = network(votes)
    return torch.nn.functional.cross_entropy(logits, votes.outcome, reduction="none")


@torch.no_grad()
def _log(
    network: VoteNetwork, epoch: int, train: VoteBatch, validation: VoteBatch | None, started: float
) -> ScoringEpochLog:
    train_loss = float(network.loss(train))
    loss = accuracy = math.nan
    if validation is not None:
        logits, lead = network(validation)
        loss = float(torch.nn.functional.cross_entropy(logits, validation.outcome))
        decided = validation.outcome <= 1
        hits = (lead > 0) == (validation.outcome == 0)
        accuracy = float(hits[decided].float().mean()) if decided.any() else math.nan
    return ScoringEpochLog(epoch, train_loss, loss, accuracy, time.perf_counter() - started)
