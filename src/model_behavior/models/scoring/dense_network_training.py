"""The training loop of stage 2: the number of epochs and the calibration come from cross-validation over prompts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from model_behavior.arrays import Float32Array, Float64Array, FloatArray, Int64Array, IntArray
from model_behavior.data_models.scoring_types import ScoringEpochLog, ScoringVotes
from model_behavior.models.scoring.dense_network import VoteBatch, VoteNetwork
from model_behavior.models.scoring.outcomes import decided_hits, log_loss, softmax

Build = Callable[[ScoringVotes], VoteNetwork]
Progress = Callable[[int, int], None]
_PREDICTED_AT_ONCE = 65_536


@dataclass(frozen=True)
class ScoringSchedule:
    """Adam (Kingma and Ba 2015) with a cosine decay to 0, and the cross-validation that says where to stop.

    Attributes:
        epochs: passes over the training votes at most.
        batch_size: votes per step.
        learning_rate: learning rate at the beginning.
        seed: seed of the order of votes, the hidden layer and the folds.
        folds: parts that prompts are dealt out to; each is predicted by a network that learned from the others.
        enough_votes: no further fold is held out once this many votes were predicted.
        epoch_votes: largest number of votes of an epoch; of more, each epoch draws its own.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 0.01
    seed: int = 0
    folds: int = 5
    enough_votes: int = 20_000
    epoch_votes: int = 131_072


@dataclass(frozen=True, eq=False)
class HeldOutVotes:
    """Training votes as predicted by networks that did not learn from their prompts.

    Attributes:
        probabilities: predictions after the best epoch, float32, [n_held_out, 4].
        outcome: outcome of each vote, [n_held_out].
        prompt: prompt of each, [n_held_out].
        history: one log per epoch, the first from before training.
        best: epoch with the least log loss; 0, which is the offset alone, unless the gain over it is clear.
    """

    probabilities: Float32Array
    outcome: IntArray
    prompt: IntArray
    history: tuple[ScoringEpochLog, ...]
    best: int


def cross_validate(
    build: Build, votes: ScoringVotes, batch: VoteBatch, schedule: ScoringSchedule, progress: Progress | None = None
) -> HeldOutVotes:
    """Predicts votes by networks that learned from the other prompts, after every epoch.

    Args:
        build: an untrained network for votes; the places of its models are those of `votes`.
        votes: votes to learn from.
        batch: the same votes as tensors.
        schedule: epochs and folds. With a single prompt nothing is held out.
        progress: callback, called with (folds done, folds in all).
    """
    n_folds = min(schedule.folds, len(votes.prompts) if len(votes) else 0)
    fold = (np.random.default_rng(schedule.seed).permutation(len(votes.prompts)) % max(n_folds, 1))[votes.prompt_index]
    rows: list[Int64Array] = []
    predicted, losses, seconds = [], [], []
    for index in range(n_folds if n_folds > 1 else 0):
        learned = np.flatnonzero(fold != index)
        rows.append(np.flatnonzero(fold == index))
        train = replace(batch.take(torch.from_numpy(learned)), n_prompts=len(np.unique(votes.prompt_index[learned])))
        held_out = batch.take(torch.from_numpy(rows[-1]))
        with _one_thread():
            probabilities, loss, took = _follow(build(keep_votes(votes, learned)), train, held_out, schedule)
        predicted.append(probabilities)
        losses.append(loss)
        seconds.append(took)
        enough = sum(map(len, rows)) >= schedule.enough_votes
        if progress is not None:
            progress(n_folds if enough else index + 1, n_folds)
        if enough:
            break
    if not rows:
        return HeldOutVotes(np.empty((0, 4), np.float32), votes.outcome[:0], votes.prompt_index[:0], (), 0)
    held = np.concatenate(rows)
    every_epoch = np.concatenate(predicted, axis=1)
    outcome, prompt = votes.outcome[held], votes.prompt_index[held]
    history = _history(every_epoch, outcome, np.mean(losses, axis=0), np.sum(seconds, axis=0))
    best = min(history, key=lambda log: log.validation_loss).epoch
    gain = log_loss(every_epoch[0], outcome) - log_loss(every_epoch[best], outcome)
    best = best if is_clear_gain(gain, prompt) else 0
    return HeldOutVotes(every_epoch[best], outcome, prompt, history, best)


def train_network(network: VoteNetwork, train: VoteBatch, schedule: ScoringSchedule, epochs: int) -> None:
    """Trains in place, and stops after the first of the schedule's epochs."""
    with _one_thread():
        for epoch, _ in train_epochs(network, train, schedule):
            if epoch == epochs:
                break


def train_epochs(network: VoteNetwork, train: VoteBatch, schedule: ScoringSchedule) -> Iterator[tuple[int, float]]:
    """Trains in place; yields (epoch, mean loss of its steps) after every epoch, and first (0, NaN) before training."""
    yield 0, math.nan
    generator = torch.Generator().manual_seed(schedule.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate, fused=True)
    n_votes = min(len(train.outcome), schedule.epoch_votes)
    n_steps = schedule.epochs * math.ceil(n_votes / schedule.batch_size)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(n_steps, 1))
    for epoch in range(1, schedule.epochs + 1):
        order = torch.randperm(len(train.outcome), generator=generator)[:n_votes]
        total = 0.0
        for rows in order.tensor_split(list(range(schedule.batch_size, n_votes, schedule.batch_size))):
            total += _step(network, train.take(rows), optimizer) * len(rows)
            decay.step()
        yield epoch, total / n_votes


def is_clear_gain(gain: FloatArray, prompt: IntArray) -> bool:
    """Whether the mean gain is above its standard error, clustered by prompt.

    Where a handful of prompts cannot tell, the offset alone is the safer answer (the one-standard-error rule, Breiman
    et al. 1984).

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


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch: the operations of a step are so small that threads would wait longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _step(network: VoteNetwork, batch: VoteBatch, optimizer: torch.optim.Optimizer) -> float:
    loss = network.loss(batch)
    optimizer.zero_grad()
    (loss + network.penalty() / batch.n_prompts).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _follow(
    network: VoteNetwork, train: VoteBatch, held_out: VoteBatch, schedule: ScoringSchedule
) -> tuple[Float32Array, Float64Array, Float64Array]:
    """Probabilities of the held-out votes, training loss and seconds of every epoch."""
    predicted, losses, seconds = [], [], []
    started = time.perf_counter()
    for _, loss in train_epochs(network, train, schedule):
        predicted.append(_predict(network, held_out))
        losses.append(loss)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return np.stack(predicted), np.array(losses), np.array(seconds)


def _predict(network: VoteNetwork, votes: VoteBatch) -> Float32Array:
    """Probabilities of the outcomes, [n, 4]."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(votes.outcome), _PREDICTED_AT_ONCE):
            end = min(start + _PREDICTED_AT_ONCE, len(votes.outcome))
            logits, _ = network(votes.take(torch.arange(start, end)))
            parts.append(softmax(logits.double().numpy()).astype(np.float32))
    return np.concatenate(parts)


def _history(
    probabilities: Float32Array,
    outcome: IntArray,
    train_loss: Float64Array,
    seconds: Float64Array,
) -> tuple[ScoringEpochLog, ...]:
    logs = []
    for epoch, predicted in enumerate(probabilities):
        hits, decided = decided_hits(predicted, outcome)
        accuracy = float(hits[decided].mean()) if len(decided) else math.nan
        loss = float(log_loss(predicted, outcome).mean())
        logs.append(ScoringEpochLog(epoch, float(train_loss[epoch]), loss, accuracy, float(seconds[epoch])))
    return tuple(logs)


def keep_votes(votes: ScoringVotes, rows: Int64Array) -> ScoringVotes:
    """Some votes, with all prompts and models in their places."""
    return replace(
        votes,
        prompt_index=votes.prompt_index[rows],
        model_a=votes.model_a[rows],
        model_b=votes.model_b[rows],
        outcome=votes.outcome[rows],
        style_a=None,
        style_b=None,
        drawn=None if votes.drawn is None else votes.drawn[rows],
    )
