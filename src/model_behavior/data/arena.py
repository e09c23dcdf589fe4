"""A synthetic arena whose truth is known: simulated LLMs, each with a style and a quality, answer prompts.

Votes follow Davidson's model with ties (Davidson, 1970, https://doi.org/10.1080/01621459.1970.10481082):
    P(a wins) = e^u_a / Z,  P(tie) = v e^((u_a + u_b) / 2) / Z,  u = quality + affinity to the topic + luck
and are "both bad" with a probability that falls as the better of the two utilities rises.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.data import arena_templates as say
from model_behavior.data.arena_answers import (
    POINTS_ASKED,
    Answer,
    Rng,
    Style,
    draw,
    draw_style,
    mix_styles,
    write_answer,
)
from model_behavior.data.arena_templates import Prompt
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.errors import UsageError
from model_behavior.files import written_aside

FAMILIES: Final = ("amber", "basalt", "cobalt", "dunite", "ebony", "feldspar")
SIZES: Final = {"nano": -1.1, "small": -0.4, "large": 0.4, "xl": 1.1}
ANSWERS_PER_PROMPT, HELD_OUT_PROMPTS = 12, 64
TIE_WEIGHT, BAD_LEVEL, BAD_STEEPNESS, LUCK = 0.42, -1.4, 2.0, 0.8
MIN_SENTENCES, MAX_SENTENCES = 4.0, 10.0

FloatArray = npt.NDArray[np.float64]
Keys = list[tuple[int, int]]  # (index of the prompt, index of the LLM)
Answers = dict[tuple[int, int], Answer]


@dataclass(frozen=True, eq=False)
class Arena:
    """A simulated arena with its truth.

    Attributes:
        votes: votes between the known LLMs.
        held_out_responses: answers of the held-out LLMs, which no vote has seen.
        quality: true Bradley-Terry quality of each LLM, known and held out, -2 to 2.
        held_out: names of the held-out LLMs, sorted, one of each family.
        family: the family of each LLM; its members share most of their style.
    """

    votes: TrainingData
    held_out_responses: PairTable
    quality: dict[str, float]
    held_out: tuple[str, ...]
    family: dict[str, str]


@dataclass(frozen=True, eq=False)
class Roster:
    """The simulated LLMs by sorted name: quality [n], styles [n], affinity to topics [n, n_topics]."""

    names: tuple[str, ...]
    family: tuple[str, ...]
    quality: FloatArray
    styles: tuple[Style, ...]
    affinity: FloatArray
    held_out: npt.NDArray[np.bool_]


def build_arena(seed: int = 0, n_prompts: int = 240, votes_per_prompt: int = 29) -> Arena:
    """Simulate an arena of 18 voted and 6 held-out LLMs; the same arguments give the same arena.

    Raises:
        UsageError: more prompts than templates can phrase, or more votes than pairs of answers to a prompt.
    """
    most_prompts = len(say.TOPICS) * len(say.TASKS) * 10
    most_votes = ANSWERS_PER_PROMPT * (ANSWERS_PER_PROMPT - 1) // 2
    if not 1 <= n_prompts <= most_prompts or not 1 <= votes_per_prompt <= most_votes:
        raise UsageError(
            f"n_prompts={n_prompts} and votes_per_prompt={votes_per_prompt} cannot be simulated. "
            f"Fix: choose 1 to {most_prompts} prompts and 1 to {most_votes} votes a prompt."
        )
    rng = np.random.default_rng(seed)
    prompts = say.write_prompts(n_prompts, POINTS_ASKED, rng)
    roster = _draw_roster(rng)
    known, new = np.flatnonzero(~roster.held_out), np.flatnonzero(roster.held_out)
    voted = [(i, m) for i in range(n_prompts) for m in draw(rng, known, ANSWERS_PER_PROMPT)]
    unseen = [(i, m) for m in new.tolist() for i in draw(rng, np.arange(n_prompts), HELD_OUT_PROMPTS)]
    answers = _answer_all([*voted, *unseen], prompts, roster, seed)
    utility = _weigh(voted, answers, prompts, roster)
    return Arena(
        votes=_vote(utility, votes_per_prompt, _tabulate(voted, answers, prompts, roster.names), rng),
        held_out_responses=_tabulate(unseen, answers, prompts, roster.names),
        quality=dict(zip(roster.names, roster.quality.tolist(), strict=True)),
        held_out=tuple(roster.names[i] for i in new),
        family=dict(zip(roster.names, roster.family, strict=True)),
    )


def write_votes(arena: Arena, path: Path) -> None:
    """Write the votes as Parquet: prompt, model_a, response_a, model_b, response_b, winner.

    An older file stays until the new one is whole.

    Raises:
        OSError: the folder cannot be written.
    """
    pairs, columns = arena.votes.pairs, {}
    columns["prompt"] = pairs.prompts.take(pa.array(pairs.prompt_index[arena.votes.pair_a]))
    models = pa.array(pairs.models)
    for side, index in (("a", arena.votes.pair_a), ("b", arena.votes.pair_b)):
        columns[f"model_{side}"] = models.take(pa.array(pairs.model_index[index]))
        columns[f"response_{side}"] = pairs.responses.take(pa.array(index))
    columns["winner"] = pa.array([Outcome(int(o)).label for o in arena.votes.outcome])
    with written_aside(path) as aside:
        pq.write_table(pa.table(columns), aside)


def _draw_roster(rng: Rng) -> Roster:
    """Draw family styles, members that depart a little from them, and quality independent of length."""
    family = tuple(f for f in FAMILIES for _ in SIZES)
    sizes = sorted(SIZES)
    n = len(family)
    quality = np.repeat(rng.normal(0, 0.4, len(FAMILIES)), len(sizes)) + rng.normal(0, 0.25, n)
    quality += np.tile([SIZES[size] for size in sizes], len(FAMILIES))
    # Evenly spaced, so that the shares of ties and of both_bad hardly depend on the seed.
    quality = np.linspace(-2, 2, n)[np.argsort(np.argsort(quality))]
    rank = rng.permutation(n)
    while abs(np.corrcoef(rank, quality)[0, 1]) > 0.15:
        rank = rng.permutation(n)
    verbosity = MIN_SENTENCES + (MAX_SENTENCES - MIN_SENTENCES) * rank / (n - 1)
    styles: list[Style] = []
    for members in np.split(verbosity, len(FAMILIES)):
        shared = draw_style(rng)
        styles += [mix_styles(shared, draw_style(rng), float(length), rng) for length in members]
    affinity = np.repeat(rng.normal(0, 0.35, (len(FAMILIES), len(say.TOPICS))), len(sizes), axis=0)
    held_out = np.zeros(n, dtype=np.bool_)
    held_out[np.arange(len(FAMILIES)) * len(sizes) + rng.integers(len(sizes), size=len(FAMILIES))] = True
    names = tuple(f"{f}-{size}" for f in FAMILIES for size in sizes)
    return Roster(names, family, quality, tuple(styles), affinity - affinity.mean(1, keepdims=True), held_out)


def _answer_all(keys: Keys, prompts: list[Prompt], roster: Roster, seed: int) -> Answers:
    """Answer each (prompt, LLM) from a generator of its own; draw again where a text exists already."""
    answers: Answers = {}
    seen: set[str] = set()
    for i, m in keys:
        rng = np.random.default_rng((seed, i, m))
        ability = roster.quality[m] + roster.affinity[m, prompts[i].topic_index] + rng.normal(0, 0.3)
        answer = write_answer(prompts[i], roster.styles[m], float(ability), rng)
        while answer.text in seen:
            answer = write_answer(prompts[i], roster.styles[m], float(ability), rng)
        seen.add(answer.text)
        answers[i, m] = answer
    return answers


def _weigh(voted: Keys, answers: Answers, prompts: list[Prompt], roster: Roster) -> FloatArray:
    """Utility of each voted answer: quality, affinity to the topic, luck (coverage above its mean)."""
    prompt, model = np.array(voted).T
    n = len(roster.names)
    covered = np.array([answers[pair].covered for pair in voted])
    usual = np.bincount(model, covered, n) / np.maximum(np.bincount(model, minlength=n), 1)
    topic = np.array([p.topic_index for p in prompts])[prompt]
    utility: FloatArray = roster.quality[model] + roster.affinity[model, topic] + LUCK * (covered - usual[model])
    return utility


def _vote(utility: FloatArray, votes_per_prompt: int, pairs: PairTable, rng: Rng) -> TrainingData:
    """Vote on distinct pairs of answers to each prompt, in random order and on random sides."""
    contests = np.array(list(combinations(range(ANSWERS_PER_PROMPT), 2)))
    starts = range(0, len(pairs), ANSWERS_PER_PROMPT)
    drawn = np.concatenate([s + contests[rng.permutation(len(contests))[:votes_per_prompt]] for s in starts])
    a, b = rng.permuted(rng.permutation(drawn), axis=1).T
    u_a, u_b = utility[a], utility[b]
    weights = np.stack([np.exp(u_a), np.exp(u_b), TIE_WEIGHT * np.exp((u_a + u_b) / 2)])
    outcome = (rng.random(len(a)) > np.cumsum(weights / weights.sum(0), axis=0)).sum(0).clip(0, Outcome.TIE)
    bad = 1 / (1 + np.exp(BAD_STEEPNESS * (np.maximum(u_a, u_b) - BAD_LEVEL)))
    outcome[rng.random(len(a)) < bad] = Outcome.BOTH_BAD
    return TrainingData(pairs, a.astype(np.int32), b.astype(np.int32), outcome.astype(np.int8))


def _tabulate(keys: Keys, answers: Answers, prompts: list[Prompt], names: tuple[str, ...]) -> PairTable:
    """Put the answers to the keys, in their order, into a table of only the prompts and LLMs in them."""
    prompt, model = np.array(keys).T
    used, prompt_index = np.unique(prompt, return_inverse=True)
    present, model_index = np.unique(model, return_inverse=True)
    return PairTable(
        prompts=pa.array([prompts[i].text for i in used], pa.large_string()),
        models=tuple(names[i] for i in present),
        responses=pa.array([answers[key].text for key in keys], pa.large_string()),
        histories=pa.array([""] * len(keys), pa.large_string()),
        prompt_index=prompt_index.astype(np.int32),
        model_index=model_index.astype(np.int32),
    )
