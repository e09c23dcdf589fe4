"""A synthetic arena with known truth: simulated LLMs, each with a style and a quality, answer prompts.

What an answer says (facts, contradictions, slips) follows from quality; how it says it (phrases, layout, length) from
style. The words themselves are in `arena_templates`. Votes follow Davidson's model with ties (Davidson, 1970,
https://doi.org/10.1080/01621459.1970.10481082):
    P(a wins) = e^u_a / Z,  P(tie) = v e^((u_a + u_b) / 2) / Z,  u = quality + affinity to the topic + luck
and are "both bad" with a probability that falls as the better of the two utilities rises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.arrays import BoolArray, Float64Array, Int64Array
from model_behavior.data import arena_templates as say
from model_behavior.data.arena_templates import Prompt
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.errors import UsageError
from model_behavior.files import written_aside

FAMILIES: Final = ("amber", "basalt", "cobalt", "dunite", "ebony", "feldspar")
_SIZES: Final = {"nano": -1.1, "small": -0.4, "large": 0.4, "xl": 1.1}
_ANSWERS_PER_PROMPT, _HELD_OUT_PROMPTS = 12, 64
_TIE_WEIGHT, _BAD_LEVEL, _BAD_STEEPNESS, _LUCK = 0.42, -1.4, 2.0, 0.8
_MIN_SENTENCES, _MAX_SENTENCES = 4.0, 10.0
_OWN_HABITS: Final = 0.3  # share of its style in which an LLM departs from its family
_LAPSE: Final = 0.12  # share of choices made as any LLM might, so that no phrase belongs to one alone
_POINTS_ASKED: Final = 3
_LEADS: Final = ("hedge", "connective")
_UNLED: Final = ("Why", "Then", "On", "That", "Actually")  # sentences that bear no word before them

Rng = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Arena:
    """A simulated arena with its truth.

    Attributes:
        votes: votes between the known LLMs.
        held_out_responses: answers of the held-out LLMs, which no vote has seen.
        quality: true Bradley-Terry quality of each LLM, known and held out, -2 to 2.
        held_out: names of the held-out LLMs, sorted, one of each family.
        family: family of each LLM; its members share most of their style.
        world: simulated LLMs and their prompts, which `ask_arena` reads.
    """

    votes: TrainingData
    held_out_responses: PairTable
    quality: dict[str, float]
    held_out: tuple[str, ...]
    family: dict[str, str]
    world: _World


@dataclass(frozen=True)
class _Style:
    """Habits of one LLM: phrases it favours, rates of its habits (0 to 1), and its length in sentences."""

    favourites: dict[str, tuple[str, ...]]
    rates: dict[str, float]
    verbosity: float


@dataclass(frozen=True, eq=False)
class _Roster:
    """The simulated LLMs by sorted name: quality [n], styles [n], affinity to topics [n, n_topics]."""

    names: tuple[str, ...]
    family: tuple[str, ...]
    quality: Float64Array
    styles: tuple[_Style, ...]
    affinity: Float64Array
    held_out: BoolArray


@dataclass(frozen=True)
class _Answer:
    """A response, and the share of the requested points on which it gives a fact, 0 to 1."""

    text: str
    covered: float


@dataclass(frozen=True, eq=False)
class _World:
    """The simulated LLMs, the prompts, and the seed of the answers."""

    roster: _Roster
    prompts: list[Prompt]
    seed: int


_Keys = list[tuple[int, int]]  # (index of the prompt, index of the LLM)
_Answers = dict[tuple[int, int], _Answer]


def build_arena(seed: int = 0, n_prompts: int = 240, votes_per_prompt: int = 29) -> Arena:
    """Simulate an arena of 18 voted and 6 held-out LLMs; the same arguments give the same arena.

    Raises:
        UsageError: there are more prompts than the templates can phrase, or more votes than pairs of answers.
    """
    most_prompts = len(say.TOPICS) * len(say.TASKS) * 10
    most_votes = _ANSWERS_PER_PROMPT * (_ANSWERS_PER_PROMPT - 1) // 2
    if not 1 <= n_prompts <= most_prompts or not 1 <= votes_per_prompt <= most_votes:
        raise UsageError(
            f"n_prompts={n_prompts} and votes_per_prompt={votes_per_prompt} cannot be simulated. "
            f"Fix: choose 1 to {most_prompts} prompts and 1 to {most_votes} votes a prompt."
        )
    rng = np.random.default_rng(seed)
    prompts = say.write_prompts(n_prompts, _POINTS_ASKED, rng)
    roster = _draw_roster(rng)
    known, new = np.flatnonzero(~roster.held_out), np.flatnonzero(roster.held_out)
    voted = [(i, m) for i in range(n_prompts) for m in _draw(rng, known, _ANSWERS_PER_PROMPT)]
    unseen = [(i, m) for m in new.tolist() for i in _draw(rng, np.arange(n_prompts), _HELD_OUT_PROMPTS)]
    answers = _answer_all([*voted, *unseen], prompts, roster, seed)
    utility = _weigh(voted, answers, prompts, roster)
    return Arena(
        votes=_vote(utility, votes_per_prompt, _tabulate(voted, answers, prompts, roster.names), rng),
        held_out_responses=_tabulate(unseen, answers, prompts, roster.names),
        quality=dict(zip(roster.names, roster.quality.tolist(), strict=True)),
        held_out=tuple(roster.names[i] for i in new),
        family=dict(zip(roster.names, roster.family, strict=True)),
        world=_World(roster, prompts, seed),
    )


def ask_arena(arena: Arena, model: str, prompts: Sequence[str]) -> PairTable:
    """Asks one of the LLMs prompts of the arena.

    Raises:
        UsageError: the arena has no such LLM or prompt.
    """
    world = arena.world
    place = {prompt.text: index for index, prompt in enumerate(world.prompts)}
    unknown = [prompt for prompt in prompts if prompt not in place]
    if unknown or model not in world.roster.names:
        raise UsageError(
            f"the arena has no LLM {model!r}" if not unknown else f"the arena has no prompt {unknown[0]!r}"
        )
    keys = [(place[prompt], world.roster.names.index(model)) for prompt in prompts]
    return _tabulate(
        keys, _answer_all(keys, world.prompts, world.roster, world.seed), world.prompts, world.roster.names
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


def _draw_roster(rng: Rng) -> _Roster:
    """Draw family styles, members that depart a little from them, and quality independent of length."""
    family = tuple(f for f in FAMILIES for _ in _SIZES)
    sizes = sorted(_SIZES)
    n = len(family)
    quality = np.repeat(rng.normal(0, 0.4, len(FAMILIES)), len(sizes)) + rng.normal(0, 0.25, n)
    quality += np.tile([_SIZES[size] for size in sizes], len(FAMILIES))
    # Evenly spaced, so that the shares of ties and of both_bad hardly depend on the seed.
    quality = np.linspace(-2, 2, n)[np.argsort(np.argsort(quality))]
    rank = rng.permutation(n)
    while abs(np.corrcoef(rank, quality)[0, 1]) > 0.15:
        rank = rng.permutation(n)
    verbosity = _MIN_SENTENCES + (_MAX_SENTENCES - _MIN_SENTENCES) * rank / (n - 1)
    styles: list[_Style] = []
    for members in np.split(verbosity, len(FAMILIES)):
        shared = _draw_style(rng)
        styles += [_mix_styles(shared, _draw_style(rng), float(length), rng) for length in members]
    affinity = np.repeat(rng.normal(0, 0.35, (len(FAMILIES), len(say.TOPICS))), len(sizes), axis=0)
    held_out = np.zeros(n, dtype=np.bool_)
    held_out[np.arange(len(FAMILIES)) * len(sizes) + rng.integers(len(sizes), size=len(FAMILIES))] = True
    names = tuple(f"{f}-{size}" for f in FAMILIES for size in sizes)
    return _Roster(names, family, quality, tuple(styles), affinity - affinity.mean(1, keepdims=True), held_out)


def _draw_style(rng: Rng) -> _Style:
    """Draw every habit anew; the length is left to `_mix_styles`."""
    lists = {}
    for name, n in say.FAVOURED.items():
        options = say.PHRASES[name]
        lists[name] = tuple(options[i] for i in _draw(rng, np.arange(len(options)), n))
    lists["synonyms"] = tuple(_pick(rng, group.split("|")) for group in say.PHRASES["synonyms"])
    lists["layouts"] = tuple(_pick(rng, say.PHRASES["layouts"]) for _ in range(3))
    lists["bullets"] = (_pick(rng, say.PHRASES["bullets"]),)
    return _Style(lists, {k: _pick(rng, v) for k, v in say.RATES.items()}, verbosity=0.0)


def _mix_styles(family: _Style, own: _Style, verbosity: float, rng: Rng) -> _Style:
    """Take each habit from the family or, in a few, from the LLM itself."""
    lists = {k: (own if rng.random() < _OWN_HABITS else family).favourites[k] for k in family.favourites}
    rates = {k: (own if rng.random() < _OWN_HABITS else family).rates[k] for k in family.rates}
    return _Style(lists, rates, verbosity)


def _answer_all(keys: _Keys, prompts: list[Prompt], roster: _Roster, seed: int) -> _Answers:
    """Answer each (prompt, LLM) with its own random generator; draw again where a text exists already."""
    answers: _Answers = {}
    seen: set[str] = set()
    for i, m in keys:
        rng = np.random.default_rng((seed, i, m))
        ability = roster.quality[m] + roster.affinity[m, prompts[i].topic_index] + rng.normal(0, 0.3)
        answer = _write_answer(prompts[i], roster.styles[m], float(ability), rng)
        while answer.text in seen:
            answer = _write_answer(prompts[i], roster.styles[m], float(ability), rng)
        seen.add(answer.text)
        answers[i, m] = answer
    return answers


def _write_answer(prompt: Prompt, style: _Style, ability: float, rng: Rng) -> _Answer:
    """Choose what to say (quality), say it in the LLM's way (style), then let slips happen (both)."""
    words = {"topic": prompt.topic, "noun": prompt.noun, "points": say.list_words(prompt.points)}
    words |= {"Topic": _capital(prompt.topic), "a": "an" if prompt.noun[0] in "aeiou" else "a"}
    competence = 1 / (1 + np.exp(-1.2 * ability))
    if rng.random() < style.rates["refuse"]:
        return _Answer(_pick(rng, say.PHRASES["refusals"]).format(**words), 0.0)
    claims, covered = _choose_claims(prompt, style, competence, rng)
    text = _lay_out([(point, _decorate(s, style, rng)) for point, s in claims], words, style, rng)
    return _Answer(_wear(text, style, competence, rng), covered)


def _choose_claims(prompt: Prompt, style: _Style, competence: float, rng: Rng) -> tuple[list[tuple[str, str]], float]:
    """Choose (point, sentence) claims and their coverage: able LLMs give facts on what was asked."""
    facts = say.read_facts(prompt.topic)
    n = max(2, round(style.verbosity + rng.normal()))
    asked = [p for p in prompt.points if rng.random() < 0.3 + 0.7 * competence]
    others = [p for p in facts if p not in asked]
    order = asked + asked * (n > _POINTS_ASKED) + [others[i] for i in rng.permutation(len(others))]
    chosen = sorted((order * n)[:n], key=order.index)
    claims, specific = [], set()
    for point in chosen:
        words = {"point": point, "Point": _capital(point), "topic": prompt.topic}
        if facts[point] and rng.random() < 0.1 + 0.85 * competence:
            core, reason = facts[point].pop(int(rng.integers(len(facts[point]))))
            words |= {
                "core": core,
                "Core": _capital(core),
                "reason": reason,
                "Reason": _capital(reason),
            }
            specific.add(point)
            claims.append((point, _favour(style, "patterns", rng).format(**words)))
        else:
            claims.append((point, _pick(rng, say.PHRASES["vague"]).format(**words)))
        if rng.random() < 0.12 * (1 - competence):
            claims.append((point, _pick(rng, say.PHRASES["contradictions"]).format(**words)))
        if rng.random() < 0.12 * (1 - competence):
            claims.append(_pick(rng, claims))
    return claims[: n + 1], len(specific & set(prompt.points)) / len(prompt.points)


def _decorate(sentence: str, style: _Style, rng: Rng) -> str:
    """Put hedges, connectives, exclamation marks and emoji around a sentence."""
    chance = rng.random(4)
    leads = [habit for habit, draw in zip(_LEADS, chance[:2], strict=True) if draw < style.rates[habit]]
    if leads and not sentence.startswith(_UNLED):
        sentence = _lead(_favour(style, f"{leads[0]}s", rng), sentence)
    if chance[2] < style.rates["exclaim"] and sentence.endswith("."):
        sentence = sentence[:-1] + "!"
    if chance[3] < style.rates["emoji"] / 4:
        sentence += " " + _favour(style, "emoji", rng)
    return sentence


def _lay_out(claims: list[tuple[str, str]], words: dict[str, str], style: _Style, rng: Rng) -> str:
    """Arrange the sentences as prose, a list or sections, with opener, disclaimer and closer."""
    rates, layout = style.rates, _favour(style, "layouts", rng)
    blocks: list[str] = []
    if rng.random() < rates["opener"]:
        blocks.append(_favour(style, "openers", rng).format(**words))
    if rng.random() < rates["heading"]:
        blocks.insert(0, "## " + words["Topic"])
    bold = "**" if rng.random() < rates["bold"] else ""
    if layout == "prose":
        body = claims[0][1]
        for _, sentence in claims[1:]:
            joined = rng.random() < rates["join"] and body.endswith(".")
            gap = "\n\n" if rng.random() < rates["break"] else " "
            body = _lead(body[:-1] + ", and", sentence) if joined else body + gap + sentence
        blocks.append(body)
    elif layout == "sections":
        for point in dict.fromkeys(p for p, _ in claims):
            title = f"{bold}{_capital(point)}{bold}" if bold else f"### {_capital(point)}"
            blocks.append(title + "\n" + " ".join(s for p, s in claims if p == point))
    else:
        mark = _favour(style, "bullets", rng)
        labels = [f"{bold}{_capital(p)}{bold}: " if bold else "" for p, _ in claims]
        starts = [f"{i}." if layout == "numbered" else mark for i in range(1, len(claims) + 1)]
        lines = [f"{start} {label}{s}" for start, label, (_, s) in zip(starts, labels, claims, strict=True)]
        blocks.append("\n".join([_pick(rng, say.PHRASES["intros"]).format(**words), *lines]))
    if rng.random() < rates["disclaim"]:
        blocks.append(_pick(rng, say.PHRASES["disclaimers"]).format(**words))
    if rng.random() < rates["closer"]:
        blocks.append(_favour(style, "closers", rng).format(**words))
    return "\n\n".join(blocks)


def _wear(text: str, style: _Style, competence: float, rng: Rng) -> str:
    """Apply vocabulary and contractions, then misspell, and cut off the end of some weak answers."""
    swaps = {}
    for group, favourite in zip(say.PHRASES["synonyms"], style.favourites["synonyms"], strict=True):
        words = group.split("|")
        swaps[words[0]] = _pick(rng, words) if rng.random() < _LAPSE else favourite
    if rng.random() < style.rates["contract"]:
        swaps |= dict(pair.split("|") for pair in say.PHRASES["contractions"])

    def swap(match: re.Match[str]) -> str:
        new = swaps[match[0].lower()]
        return _capital(new) if match[0][0].isupper() else new

    text = re.sub(rf"\b({'|'.join(swaps)})\b", swap, text, flags=re.IGNORECASE)
    for i in np.flatnonzero(rng.random(len(text) - 2) < style.rates["slip"] * 2 * (1 - competence)):
        if text[i : i + 2].isalpha():
            text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if rng.random() < 0.3 * (1 - competence) ** 2:
        text = text[: -int(rng.integers(10, 60))].rstrip() if len(text) > 200 else text
    return text


def _favour(style: _Style, name: str, rng: Rng) -> str:
    return _pick(rng, say.PHRASES[name] if rng.random() < _LAPSE else style.favourites[name])


def _pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _draw(rng: Rng, population: Int64Array, n: int) -> list[int]:
    """Draw n distinct entries (all, where there are fewer), sorted."""
    return sorted(rng.permutation(population)[:n].tolist())


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _lead(lead: str, sentence: str) -> str:
    return f"{lead} {sentence if sentence.startswith('I ') else sentence[0].lower() + sentence[1:]}"


def _weigh(voted: _Keys, answers: _Answers, prompts: list[Prompt], roster: _Roster) -> Float64Array:
    """Utility of each voted answer: quality, affinity to the topic, luck (coverage above its mean)."""
    prompt, model = np.array(voted).T
    n = len(roster.names)
    covered = np.array([answers[pair].covered for pair in voted])
    usual = np.bincount(model, covered, n) / np.maximum(np.bincount(model, minlength=n), 1)
    topic = np.array([p.topic_index for p in prompts])[prompt]
    utility: Float64Array = roster.quality[model] + roster.affinity[model, topic] + _LUCK * (covered - usual[model])
    return utility


def _vote(utility: Float64Array, votes_per_prompt: int, pairs: PairTable, rng: Rng) -> TrainingData:
    """Vote on distinct pairs of answers to each prompt, in random order and on random sides."""
    contests = np.array(list(combinations(range(_ANSWERS_PER_PROMPT), 2)))
    starts = range(0, len(pairs), _ANSWERS_PER_PROMPT)
    drawn = np.concatenate([s + contests[rng.permutation(len(contests))[:votes_per_prompt]] for s in starts])
    a, b = rng.permuted(rng.permutation(drawn), axis=1).T
    u_a, u_b = utility[a], utility[b]
    weights = np.stack([np.exp(u_a), np.exp(u_b), _TIE_WEIGHT * np.exp((u_a + u_b) / 2)])
    outcome = (rng.random(len(a)) > np.cumsum(weights / weights.sum(0), axis=0)).sum(0).clip(0, Outcome.TIE)
    bad = 1 / (1 + np.exp(_BAD_STEEPNESS * (np.maximum(u_a, u_b) - _BAD_LEVEL)))
    outcome[rng.random(len(a)) < bad] = Outcome.BOTH_BAD
    return TrainingData(pairs, a.astype(np.int32), b.astype(np.int32), outcome.astype(np.int8))


def _tabulate(keys: _Keys, answers: _Answers, prompts: list[Prompt], names: tuple[str, ...]) -> PairTable:
    """Put the answers, in the order of the keys, into a table with only the prompts and LLMs that they use."""
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
