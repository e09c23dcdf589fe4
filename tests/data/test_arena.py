"""The built-in arena: deterministic, shaped like an arena, and true to the quality that it states."""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from model_behavior.data.arena import FAMILIES, Arena, build_arena, write_votes
from model_behavior.data.arena_templates import TASKS, TOPICS
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.errors import UsageError


@cache
def arena_of(seed: int) -> Arena:
    return build_arena(seed)


@pytest.fixture(scope="module")
def arena() -> Arena:
    return arena_of(3)


def responses_by_model(*tables: PairTable) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = defaultdict(list)
    for table in tables:
        for model, text in zip(table.model_index, table.responses.to_pylist(), strict=True):
            texts[table.models[model]].append(text)
    return texts


def fit_bradley_terry(votes: TrainingData) -> np.ndarray:
    """Minorise-maximise (Hunter, 2004); a tie is half a win for each. Log strengths, [n_models]."""
    n = len(votes.pairs.models)
    wins = np.zeros((n, n))
    for a, b, outcome in zip(votes.pair_a, votes.pair_b, votes.outcome, strict=True):
        i, j = votes.pairs.model_index[a], votes.pairs.model_index[b]
        share = {Outcome.MODEL_A: 1.0, Outcome.MODEL_B: 0.0, Outcome.TIE: 0.5}.get(Outcome(int(outcome)))
        if share is not None:
            wins[i, j] += share
            wins[j, i] += 1 - share
    strength = np.ones(n)
    games = wins + wins.T
    for _ in range(200):
        strength = wins.sum(1) / (games / (strength[:, None] + strength)).sum(1)
        strength /= np.exp(np.log(strength).mean())
    return np.log(strength)


def test_the_same_seed_gives_the_same_arena_and_another_seed_another(arena: Arena) -> None:
    again, other = build_arena(seed=3), arena_of(1)
    assert again.votes.pairs.responses.equals(arena.votes.pairs.responses)
    assert again.held_out_responses.responses.equals(arena.held_out_responses.responses)
    assert np.array_equal(again.votes.outcome, arena.votes.outcome)
    assert (again.quality, again.held_out, again.family) == (arena.quality, arena.held_out, arena.family)
    assert not other.votes.pairs.responses.equals(arena.votes.pairs.responses)
    assert other.quality != arena.quality


def test_counts(arena: Arena) -> None:
    pairs, held_out = arena.votes.pairs, arena.held_out_responses
    assert len(arena.votes) == 240 * 29
    assert (len(pairs.models), len(held_out.models), len(pairs.prompts)) == (18, 6, 240)
    assert len(pairs) == 240 * 12
    assert np.bincount(held_out.model_index).tolist() == [64] * 6
    assert np.bincount(pairs.model_index).max() < 240, "every LLM answers a subset of the prompts"
    assert pairs.models == tuple(sorted(pairs.models))
    assert held_out.models == arena.held_out
    assert set(arena.quality) == set(arena.family) == {*pairs.models, *held_out.models}
    assert sorted(arena.family[m] for m in arena.held_out) == sorted(FAMILIES)
    assert (min(arena.quality.values()), max(arena.quality.values())) == (-2.0, 2.0)


def test_votes_compare_two_models_on_one_prompt_and_no_contest_twice(arena: Arena) -> None:
    votes = arena.votes
    assert np.array_equal(votes.pairs.prompt_index[votes.pair_a], votes.pairs.prompt_index[votes.pair_b])
    assert (votes.pairs.model_index[votes.pair_a] != votes.pairs.model_index[votes.pair_b]).all()
    contests = {tuple(sorted(pair)) for pair in zip(votes.pair_a.tolist(), votes.pair_b.tolist(), strict=True)}
    assert len(contests) == len(votes)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_shares_of_ties_and_both_bad(seed: int) -> None:
    outcome = arena_of(seed).votes.outcome
    share = np.bincount(outcome, minlength=4) / len(outcome)
    assert 0.10 <= share[Outcome.TIE] <= 0.15
    assert 0.04 <= share[Outcome.BOTH_BAD] <= 0.09
    assert abs(share[Outcome.MODEL_A] - share[Outcome.MODEL_B]) < 0.03


def test_prompts_stay_unique_when_normalised_and_no_text_occurs_twice(arena: Arena) -> None:
    prompts = arena.votes.pairs.prompts.to_pylist()
    assert len({" ".join(re.findall(r"\w+", p.lower())) for p in prompts}) == len(prompts)
    assert set(arena.held_out_responses.prompts.to_pylist()) <= set(prompts)
    texts = [*arena.votes.pairs.responses.to_pylist(), *arena.held_out_responses.responses.to_pylist()]
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)


def test_templates_leave_no_slot_unfilled(arena: Arena) -> None:
    texts = [*arena.votes.pairs.prompts.to_pylist(), *arena.votes.pairs.responses.to_pylist()]
    assert not any(re.search(r"[{}|]| / ", text) for text in texts)


@pytest.mark.parametrize("seed", [0, 3])
def test_bradley_terry_recovers_the_quality(seed: int) -> None:
    arena = arena_of(seed)
    truth = [arena.quality[m] for m in arena.votes.pairs.models]
    assert spearmanr(truth, fit_bradley_terry(arena.votes)).statistic > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_length_does_not_give_quality_away(seed: int) -> None:
    arena = arena_of(seed)
    texts = responses_by_model(arena.votes.pairs, arena.held_out_responses)
    length = [np.mean([len(t) for t in texts[m]]) for m in arena.quality]
    assert abs(spearmanr(length, list(arena.quality.values())).statistic) < 0.35


def test_quality_shows_in_the_responses(arena: Arena) -> None:
    """The share of responses with a figure in them stands for specific facts."""
    texts = responses_by_model(arena.votes.pairs, arena.held_out_responses)
    facts = [np.mean([len(re.findall(r" \d+ ", t)) / len(t) for t in texts[m]]) for m in arena.quality]
    assert spearmanr(facts, list(arena.quality.values())).statistic > 0.6


def test_no_response_names_an_llm_and_no_word_belongs_to_one_alone(arena: Arena) -> None:
    texts = responses_by_model(arena.votes.pairs, arena.held_out_responses)
    for answers in texts.values():
        assert not any(re.search(rf"\b({'|'.join(FAMILIES)})\b", text.lower()) for text in answers)
    users: dict[str, set[str]] = defaultdict(set)
    uses: dict[str, int] = defaultdict(int)
    for model, answers in texts.items():
        for word in (word for text in answers for word in set(text.split())):
            users[word].add(model)
            uses[word] += 1
    assert not [word for word, n in uses.items() if n >= 20 and len(users[word]) == 1]


def test_write_votes(arena: Arena, tmp_path: Path) -> None:
    path = tmp_path / "votes.parquet"
    write_votes(arena, path)
    table = pq.read_table(path)
    assert table.column_names == ["prompt", "model_a", "response_a", "model_b", "response_b", "winner"]
    assert len(table) == len(arena.votes)
    assert set(table["winner"].to_pylist()) == {"model_a", "model_b", "tie", "both_bad"}
    row, pairs = table.slice(17, 1).to_pylist()[0], arena.votes.pairs
    b = int(arena.votes.pair_b[17])
    assert row["prompt"] == pairs.prompts[int(pairs.prompt_index[b])].as_py()
    assert row["model_b"] == pairs.models[pairs.model_index[b]]
    assert row["response_b"] == pairs.responses[b].as_py()
    assert row["winner"] == Outcome(int(arena.votes.outcome[17])).label


def test_more_prompts_than_there_are_templates_stay_unique() -> None:
    n_prompts = len(TOPICS) * len(TASKS) + 60
    prompts = build_arena(n_prompts=n_prompts, votes_per_prompt=1).votes.pairs.prompts.to_pylist()
    assert len(set(prompts)) == n_prompts


@pytest.mark.parametrize(("n_prompts", "votes"), [(0, 5), (2401, 5), (10, 0), (10, 67)])
def test_impossible_sizes_are_refused_with_the_limits(n_prompts: int, votes: int) -> None:
    with pytest.raises(UsageError, match="1 to 2400 prompts and 1 to 66 votes"):
        build_arena(n_prompts=n_prompts, votes_per_prompt=votes)


def test_a_tiny_arena(tmp_path: Path) -> None:
    arena = build_arena(n_prompts=2, votes_per_prompt=1)
    assert len(arena.votes) == 2
    write_votes(arena, tmp_path / "votes.parquet")
