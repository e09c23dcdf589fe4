"""Families of LLMs, read from their names: the unit that is held out when a figure is to say "a new model".

A heuristic. The family is the first word of a name that says who the model is:

1. the name is normalised: NFKC, case-folded, an `owner/` in front and an `@provider` at the end dropped, and cut into
   words at everything that is no letter, digit or full stop;
2. words that many families share are passed over: sizes (`7b`, `3m`), versions (`v1.5`, `2.0`), dates (`0613`,
   `2024-05-13`), quantisation (`fp8`, `awq`), roles (`chat`, `instruct`), training methods (`dpo`, `pairrm`, `moa`),
   makers and providers (`meta`, `togetherai`);
3. the version is cut off the word that is left (`llama3`, `qwen2.5`), and other spellings are joined (`ALIASES`).

A fine-tune with a name of its own in front (`humpback-llama-65b`) is a family of its own; one that is called by its
method alone (`pairrm-tulu-2-13b`) belongs to the model it was made from. Overrides settle what a name cannot tell.

Models by name; an unknown name is an error that lists the nearest known ones.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model_behavior.arrays import Int64Array
from model_behavior.errors import UsageError

_SIZE = r"(?:\d+x)?\d+(?:\.\d+)?[bkm]|l\d"
_VERSION = r"v?\d+(?:\.\d+)*|v[a-z]?\d+|r\d+"
_QUANTISATION = r"fp\d+|bf\d+|int\d+|[48]bit|awq|gptq|gguf|q\d\w*"
_SHARED = re.compile(rf"(?:{_SIZE}|{_VERSION}|{_QUANTISATION}|0x\d+)")
_GPT = re.compile(r"^(?:chat)?gpt-?(3\.?5|\d)(?!\d)")
_LEADING_WORD = re.compile(r"([^\W\d_]{2,})\d[\d.]*")

# fmt: off
ROLES = frozenset({
    "chat", "instruct", "inst", "it", "hf", "base", "model", "lm", "sft", "ft", "rm", "alpha", "beta",
    "preview", "latest", "exp", "turbo", "mini", "nano", "tiny", "small", "medium", "large", "xl", "plus",
    "pro", "text", "code",
})
METHODS = frozenset({
    "dpo", "kto", "orpo", "ppo", "rlhf", "rlaif", "simpo", "wpo", "gpo", "ipo", "rebel", "rahf", "remax",
    "expo", "pairrm", "moa", "selfmoa", "neft", "evol", "lora", "qlora", "merged", "distilled", "recycled",
    "aligner", "uncensored",
})
PROVIDERS = frozenset({
    "meta", "google", "openai", "anthropic", "microsoft", "nvidia", "bedrock", "azure", "vertex", "together",
    "togetherai", "openpipe", "openrouter", "sambanova", "hyperbolic", "fireworks", "groq", "nous",
})
# fmt: on
ALIASES: Mapping[str, str] = {
    "openassistant": "oasst",
    "wizard": "wizardlm",
    "xwin": "xwinlm",
    "openhermes": "hermes",
    "mixtral": "mistral",
    "codellama": "llama",
    "starcoderchat": "starcoder",
    "cohere": "command",
}
"""Other spellings of one family: a word, to the family."""


def family_of(name: str, overrides: Mapping[str, str] | None = None) -> str:
    """The family of a model.

    Args:
        name: the model's name.
        overrides: from a name as it stands, or from a family, to the family it belongs to; followed to its end, so
            that {"pythia": "oasst", "oasst": "open"} puts both into "open".

    Raises:
        UsageError: an empty name, or overrides that go round in a circle.
    """
    if not name.strip():
        raise UsageError("a model's name is empty, so it has no family")
    overrides = overrides or {}
    family = overrides.get(name)
    family = _read_family(name) if family is None else family
    seen = [family]
    while overrides.get(family, family) != family:
        family = overrides[family]
        if family in seen:
            raise UsageError(f"overrides of families go round in a circle: {' -> '.join([*seen, family])}")
        seen.append(family)
    return family


def group_families(names: Iterable[str], overrides: Mapping[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    """Sorted names of each family, families in order of their name. Arguments and errors as for `family_of`."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(family_of(name, overrides), set()).add(name)
    return {family: tuple(sorted(groups[family])) for family in sorted(groups)}


def number_families(names: Sequence[str]) -> Int64Array:
    """The family of each model as a number from 0, [n_models]."""
    numbers: Int64Array = np.unique([family_of(name) for name in names], return_inverse=True)[1]
    return numbers


def draw_held_out(names: Iterable[str], share: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Whole families, drawn until about `share` of the names are held out; sorted names.

    A family that would carry the number above the target is passed over, so that at least `1 - share` stay known.
    """
    families = list(group_families(names).values())
    target = share * sum(map(len, families))
    held: list[str] = []
    for index in rng.permutation(len(families)):
        if len(held) + len(families[index]) <= target:
            held.extend(families[index])
    return tuple(sorted(held))


def _read_family(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = text.rsplit("/", 1)[-1].split("@", 1)[0] or text
    words = [word.strip(".") for word in re.split(r"[^\w.]+|_", text) if word.strip(".")]
    for position, word in enumerate(words):
        if _SHARED.fullmatch(word) or word in ROLES or word in METHODS or word in PROVIDERS:
            continue
        return _spell(word, words[position + 1 : position + 2])
    return "-".join(words) or text


def _spell(word: str, following: list[str]) -> str:
    """One spelling of a family, from the word that names it and the word after it."""
    gpt = _GPT.match("-".join([word, *following]))
    if gpt:  # the generations of GPT have no name but their number
        generation = gpt[1].replace(".", "")
        return "gpt-3.5" if generation == "35" else f"gpt-{generation}"
    if word == "open" and following[:1] == ["assistant"]:
        return "oasst"
    if word == "gpt" and following:
        return f"gpt-{following[0]}"
    versioned = _LEADING_WORD.fullmatch(word)
    stem = versioned[1] if versioned else word
    return ALIASES.get(stem, stem)


_SUGGESTIONS = 5


def find_model(names: Sequence[str], name: str) -> int:
    """The row of a model.

    Raises:
        UsageError: no such model.
    """
    if name in names:
        return names.index(name)
    if not names:
        raise UsageError(f"unknown model {name!r}: the catalog is empty. Fix: enrol it from its responses")
    raise UsageError(
        f"unknown model {name!r}; nearest of the {len(names)} known: {', '.join(nearest_names(names, name))}. "
        "Fix: take a known name, or enrol the model from its responses"
    )


def nearest_names(names: Sequence[str], name: str) -> list[str]:
    """At most five known names, the most similar first.

    One that differs in case, spaces and hyphens alone comes first; members of the same family count as similar.
    """

    def similarity(known: str) -> float:
        spelled_alike = difflib.SequenceMatcher(None, known.casefold(), name.casefold()).ratio()
        same = _squeeze(known) == _squeeze(name)
        related = bool(name.strip()) and family_of(known) == family_of(name)
        return spelled_alike + 2 * same + 0.25 * related

    return sorted(names, key=similarity, reverse=True)[:_SUGGESTIONS]


def _squeeze(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())
