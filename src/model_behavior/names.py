"""Names of models: suggestions for an unknown name, and the family of each model.

An unknown name is an error that lists the nearest known ones. Names are compared as strings (Ratcliff and Metzener
1988, `difflib`) without case, spaces, hyphens and underscores, so that "GPT 4" is "gpt-4"; models of the same family
count as more similar.

A family is the unit that is held out to evaluate on new models. A heuristic reads it from the name: the first word
that identifies the model.

1. The name is normalised: NFKC, case-folded, an `owner/` in front and an `@provider` at the end dropped, and cut into
   words at everything that is no letter, digit or full stop.
2. Words that many families share are passed over: sizes (`7b`, `3m`), versions (`v1.5`, `2.0`), dates (`0613`,
   `2024-05-13`), quantisation (`fp8`, `awq`), roles (`chat`, `instruct`), training methods (`dpo`, `pairrm`, `moa`),
   makers and providers (`meta`, `togetherai`).
3. The version is cut off the word that is left (`llama3`, `qwen2.5`), and other spellings are joined (`ALIASES`).

A fine-tune with a name of its own in front (`humpback-llama-65b`) is a family of its own; one that is called by its
method alone (`pairrm-tulu-2-13b`) belongs to the model it was made from. Overrides correct the heuristic.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from operator import itemgetter

import numpy as np

from model_behavior.arrays import Int64Array
from model_behavior.errors import UsageError

_SIZE = r"(?:\d+x)?\d+(?:\.\d+)?[bkm]|l\d"
_VERSION = r"v?\d+(?:\.\d+)*|v[a-z]?\d+|r\d+"
_QUANTISATION = r"fp\d+|bf\d+|int\d+|[48]bit|awq|gptq|gguf|q\d\w*"
_SHARED = re.compile(rf"(?:{_SIZE}|{_VERSION}|{_QUANTISATION}|0x\d+)")
_GPT = re.compile(r"^(?:chat)?gpt-?(3\.?5|\d)(?!\d)")
_LEADING_WORD = re.compile(r"([^\W\d_]{2,})\d[\d.]*")
_NOT_COMPARED = re.compile(r"[\s_-]+")
_SAME_FAMILY = 0.25  # added to the likeness of two names, which is 1 at most

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


def find_model(names: Sequence[str], name: str) -> int:
    """Returns the row of a model.

    Raises:
        UsageError: the name is unknown; the message lists the nearest ones.
    """
    if name in names:
        return names.index(name)
    if not names:
        raise UsageError(f"unknown model {name!r}: the catalog is empty. Fix: enrol it from its responses")
    raise UsageError(
        f"unknown model {name!r}; nearest of the {len(names)} known: {', '.join(nearest_models(names, name))}. "
        "Fix: use a known name, or enrol the model from its responses"
    )


def nearest_models(names: Iterable[str], wanted: str, number: int = 5) -> list[str]:
    """`nearest` for models, where those of the same family count as more alike."""
    family = family_of(wanted) if wanted.strip() else None
    likeness = _likeness_to(wanted)
    return _take_best(names, lambda name: likeness(name) + _SAME_FAMILY * (family_of(name) == family), number)


def nearest(names: Iterable[str], wanted: str, number: int = 3, least: float = 0.0) -> list[str]:
    """Returns the names with the most similar spelling, best first; ties keep their order.

    Args:
        names: known names.
        wanted: unknown name.
        number: largest number of names to return.
        least: smallest similarity of a returned name, in [0, 1].
    """
    return _take_best(names, _likeness_to(wanted), number, least)


def family_of(name: str, overrides: Mapping[str, str] | None = None) -> str:
    """The family of a model.

    Args:
        name: the model's name.
        overrides: families by exact model name, or by another family; chains are followed, so that
            {"pythia": "oasst", "oasst": "open"} puts both into "open".

    Raises:
        UsageError: the name is empty, or the overrides form a cycle.
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
            raise UsageError(f"overrides of families form a cycle: {' -> '.join([*seen, family])}")
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


def _likeness_to(wanted: str) -> Callable[[str], float]:
    """A measure of likeness to the wanted name, in [0, 1], and a trifle more where only the case differs."""
    matcher = SequenceMatcher(b=_fold(wanted))

    def measure(name: str) -> float:
        matcher.set_seq1(_fold(name))
        return matcher.ratio() + 1e-9 * (name.casefold() == wanted.casefold())

    return measure


def _fold(name: str) -> str:
    """The characters of a name that are compared; all of them where none would be left."""
    folded = name.casefold()
    return _NOT_COMPARED.sub("", folded) or folded


def _take_best(names: Iterable[str], likeness: Callable[[str], float], number: int, least: float = 0.0) -> list[str]:
    rated = ((likeness(name), name) for name in names)
    return [name for _, name in nlargest(number, (each for each in rated if each[0] >= least), key=itemgetter(0))]


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
