"""Names of LLMs grouped into families, so that an unseen LLM has no sibling among the seen ones."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

# Words in front of the name proper: makers, fine-tuning recipes and the like.
_QUALIFIERS = frozenset(
    {"meta", "code", "recycled", "pairrm", "nous", "chronos", "open", "the", "google", "openai", "anthropic", "cohere"}
)
_ALIASES = {
    "oasst": "open-assistant",
    "assistant": "open-assistant",
    "chatgpt": "gpt",
    "o": "gpt",
    "openhermes": "hermes",
    "mixtral": "mistral",
    "codellama": "llama",
    "text": "davinci",
    "codestral": "mistral",
    "bard": "gemini",
    "starcoderchat": "starcoder",
}
_GPT_NEOX = re.compile(r"gpt-?neox?")


def family_of(name: str) -> str:
    """The family of an LLM: the first word of its name that is no qualifier, in lower case, without its version.

    A heuristic: it reads the name alone ("recycled-wizardlm-7b-v1.0" -> "wizardlm", "gpt4_1106_preview" -> "gpt",
    "Meta-Llama-3-8B" -> "llama"). A fine-tuned model counts as the tuner's family where the name begins with the
    tuner ("humpback-llama2-70b" -> "humpback"), since its behaviour is the tuner's.
    """
    lowered = name.lower().rsplit("/", 1)[-1]
    if _GPT_NEOX.match(lowered):
        return "gpt-neox"
    words = re.findall(r"[^\W\d_]+", lowered)
    proper = [word for word in words if word not in _QUALIFIERS] or words or [lowered]
    first: str = proper[0]
    return _ALIASES.get(first, first)


def families_of(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Members of each family, both sorted."""
    members: dict[str, list[str]] = {}
    for name in sorted(names):
        members.setdefault(family_of(name), []).append(name)
    return {family: tuple(members[family]) for family in sorted(members)}


def draw_held_out(names: Iterable[str], share: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Whole families, drawn until about `share` of the names are held out; sorted names.

    A family that would carry the number above the target is passed over, so that at least `1 - share` stay known.
    """
    families = list(families_of(names).values())
    target = share * sum(map(len, families))
    held: list[str] = []
    for index in rng.permutation(len(families)):
        if len(held) + len(families[index]) <= target:
            held.extend(families[index])
    return tuple(sorted(held))
