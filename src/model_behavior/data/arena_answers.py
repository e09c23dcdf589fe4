"""What a simulated LLM answers: a prompt, a style and an ability become a text.

Ability decides what is said (facts, contradictions, slips); the style decides how (phrases, layout, length).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from model_behavior.data import arena_templates as say
from model_behavior.data.arena_templates import Prompt

OWN_HABITS: Final = 0.3  # share of its style in which an LLM departs from its family
LAPSE: Final = 0.12  # share of choices made as any LLM might, so that no phrase belongs to one alone
POINTS_ASKED: Final = 3
LEADS: Final = ("hedge", "connective")
UNLED: Final = ("Why", "Then", "On", "That", "Actually")  # sentences that bear no word before them

Rng = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Style:
    """Habits of one LLM: phrases it favours, how often it does what (0 to 1), its length in sentences."""

    favourites: dict[str, tuple[str, ...]]
    rates: dict[str, float]
    verbosity: float


@dataclass(frozen=True)
class Answer:
    """A response and the share of the points asked for on which it gives a fact, 0 to 1."""

    text: str
    covered: float


def draw_style(rng: Rng) -> Style:
    """Draw every habit anew; the length is left to `mix_styles`."""
    lists = {}
    for name, n in say.FAVOURED.items():
        options = say.PHRASES[name]
        lists[name] = tuple(options[i] for i in draw(rng, np.arange(len(options)), n))
    lists["synonyms"] = tuple(_pick(rng, group.split("|")) for group in say.PHRASES["synonyms"])
    lists["layouts"] = tuple(_pick(rng, say.PHRASES["layouts"]) for _ in range(3))
    lists["bullets"] = (_pick(rng, say.PHRASES["bullets"]),)
    return Style(lists, {k: _pick(rng, v) for k, v in say.RATES.items()}, verbosity=0.0)


def mix_styles(family: Style, own: Style, verbosity: float, rng: Rng) -> Style:
    """Take each habit from the family or, in a few, from the LLM itself."""
    lists = {k: (own if rng.random() < OWN_HABITS else family).favourites[k] for k in family.favourites}
    rates = {k: (own if rng.random() < OWN_HABITS else family).rates[k] for k in family.rates}
    return Style(lists, rates, verbosity)


def draw(rng: Rng, population: npt.NDArray[np.int64], n: int) -> list[int]:
    """Draw n distinct entries (all, where there are fewer), sorted."""
    return sorted(rng.permutation(population)[:n].tolist())


def _pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _favour(style: Style, name: str, rng: Rng) -> str:
    return _pick(rng, say.PHRASES[name] if rng.random() < LAPSE else style.favourites[name])


def write_answer(prompt: Prompt, style: Style, ability: float, rng: Rng) -> Answer:
    """Choose what to say (quality), say it in the LLM's way (style), then let slips happen (both)."""
    words = {"topic": prompt.topic, "noun": prompt.noun, "points": say.list_words(prompt.points)}
    words |= {"Topic": _capital(prompt.topic), "a": "an" if prompt.noun[0] in "aeiou" else "a"}
    competence = 1 / (1 + np.exp(-1.2 * ability))
    if rng.random() < style.rates["refuse"]:
        return Answer(_pick(rng, say.PHRASES["refusals"]).format(**words), 0.0)
    claims, covered = _choose_claims(prompt, style, competence, rng)
    text = _lay_out([(point, _decorate(s, style, rng)) for point, s in claims], words, style, rng)
    return Answer(_wear(text, style, competence, rng), covered)


def _choose_claims(prompt: Prompt, style: Style, competence: float, rng: Rng) -> tuple[list[tuple[str, str]], float]:
    """Choose (point, sentence) claims: the able give facts on what was asked. Also their coverage."""
    facts = say.read_facts(prompt.topic)
    n = max(2, round(style.verbosity + rng.normal()))
    asked = [p for p in prompt.points if rng.random() < 0.3 + 0.7 * competence]
    others = [p for p in facts if p not in asked]
    order = asked + asked * (n > POINTS_ASKED) + [others[i] for i in rng.permutation(len(others))]
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


def _decorate(sentence: str, style: Style, rng: Rng) -> str:
    """Put hedges, connectives, exclamation marks and emoji around a sentence."""
    chance = rng.random(4)
    leads = [habit for habit, draw in zip(LEADS, chance[:2], strict=True) if draw < style.rates[habit]]
    if leads and not sentence.startswith(UNLED):
        sentence = _lead(_favour(style, f"{leads[0]}s", rng), sentence)
    if chance[2] < style.rates["exclaim"] and sentence.endswith("."):
        sentence = sentence[:-1] + "!"
    if chance[3] < style.rates["emoji"] / 4:
        sentence += " " + _favour(style, "emoji", rng)
    return sentence


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _lead(lead: str, sentence: str) -> str:
    return f"{lead} {sentence if sentence.startswith('I ') else sentence[0].lower() + sentence[1:]}"


def _lay_out(claims: list[tuple[str, str]], words: dict[str, str], style: Style, rng: Rng) -> str:
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


def _wear(text: str, style: Style, competence: float, rng: Rng) -> str:
    """Apply vocabulary and contractions, then misspell, and cut off the end of some weak answers."""
    swaps = {}
    for group, favourite in zip(say.PHRASES["synonyms"], style.favourites["synonyms"], strict=True):
        words = group.split("|")
        swaps[words[0]] = _pick(rng, words) if rng.random() < LAPSE else favourite
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
