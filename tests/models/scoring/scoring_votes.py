"""Votes for the tests of scoring, drawn from known scores."""

from __future__ import annotations

import numpy as np

from model_behavior.data_models.scoring_types import ModelTable, ScoringVotes
from model_behavior.models.scoring.outcomes import OutcomeConstants, outcome_logits, softmax

TOPICS = (
    "prove the theorem about integer sequence number",
    "write a python function that sorts the list of code",
    "tell a story about the sad dragon and castle",
)


def draw_votes(
    n_votes: int = 1500,
    seed: int = 0,
    n_prompts: int = 90,
    by_topic: float = 0.0,
    constants: OutcomeConstants | None = None,
) -> ScoringVotes:
    """Votes among 8 models of ratings -1.4 to 1.4; `by_topic` adds a preference of odd models for the first topic."""
    rng = np.random.default_rng(seed)
    constants = constants or OutcomeConstants(0.5, 0.0, -1.0, -1.5)
    rating = np.linspace(-1.4, 1.4, 8)
    prompts = tuple(f"{TOPICS[index % 3]} {index}" for index in range(n_prompts))
    prompt = rng.integers(0, n_prompts, n_votes)
    a = rng.integers(0, 8, n_votes)
    b = (a + rng.integers(1, 8, n_votes)) % 8
    sign = np.where(prompt % 3 == 0, 1.0, -0.5) * by_topic
    score_a, score_b = (rating[m] + sign * (m % 2 - 0.5) for m in (a, b))
    chances = softmax(outcome_logits(score_a, score_b, constants))
    outcome = (chances.cumsum(axis=1) > rng.random((n_votes, 1))).argmax(axis=1)
    style = [np.exp(rng.normal(6 + 0.1 * m, 0.3))[:, None] * [1, 0.01, 0.02, 0.005] for m in (a, b)]
    return ScoringVotes(
        prompts=prompts,
        models=tuple(f"{name}-1" for name in ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")),
        prompt_index=prompt.astype(np.int32),
        model_a=a.astype(np.int32),
        model_b=b.astype(np.int32),
        outcome=outcome.astype(np.int8),
        style_a=style[0].astype(np.float32),
        style_b=style[1].astype(np.float32),
    )


def table_for(models: tuple[str, ...], count: int = 200, seed: int = 0) -> ModelTable:
    """Embeddings whose first dimension is the place of the model among its like, with a little noise."""
    rng = np.random.default_rng(seed)
    embedding = 0.02 * rng.normal(size=(len(models), 6))
    embedding[:, 0] += np.linspace(-0.5, 0.5, len(models))
    embedding[:, 1] += 0.3 * (np.arange(len(models)) % 2)
    spread = np.sqrt(1 - np.square(embedding).sum(axis=1))
    return ModelTable(models, embedding.astype(np.float32), np.full(len(models), count), spread.astype(np.float32))


def exchange_sides(votes: ScoringVotes) -> ScoringVotes:
    """The same votes with left and right exchanged."""
    outcome = np.where(votes.outcome <= 1, 1 - votes.outcome, votes.outcome).astype(np.int8)
    return ScoringVotes(
        votes.prompts,
        votes.models,
        votes.prompt_index,
        votes.model_b,
        votes.model_a,
        outcome,
        votes.style_b,
        votes.style_a,
    )
