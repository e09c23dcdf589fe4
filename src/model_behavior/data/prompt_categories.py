"""What kind of prompt a prompt is, where files of responses or questions say so in a column `category`.

A leaderboard rates models on kinds of prompts (`coding`, `math`); which prompts are of that kind only the files with
the prompts can say. The text is that of the column `prompt`, `instruction` or `question`, or the first of `turns`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from model_behavior.data.formats.detection import fold_column
from model_behavior.data.sources import Source, expand_sources, open_rows
from model_behavior.data.split import hash_prompts
from model_behavior.errors import DataError

_TEXTS = ("prompt", "instruction", "question", "turns")
_CATEGORY = "category"


def read_categories(sources: Iterable[Source]) -> dict[int, str]:
    """The category of each prompt that has one, by the prompt's key; of a prompt with several the first.

    Args:
        sources: files and folders as `load_responses` takes them. What cannot be read has no category here: that is
            for `load_responses` to say.
    """
    found: dict[int, str] = {}
    for source in sources:
        for each in expand_sources(source):
            try:
                texts = _texts_with_category(each)
            except DataError:
                continue
            keys = hash_prompts(list(texts))
            for key, category in zip(keys.tolist(), texts.values(), strict=True):
                found.setdefault(key, category)
    return found


def match_categories(prompts: Mapping[int, str], rated: Collection[str]) -> tuple[dict[int, str], str]:
    """Prompts under the names that the ratings have, and a note on how they match; "" where no prompt has a category.

    Args:
        prompts: category of each prompt.
        rated: categories that ratings were published for.

    Returns:
        Also prompts of a category without ratings, under its own name.
    """
    names = {fold_column(name): name for name in rated}
    matched = {key: names.get(fold_column(category), category) for key, category in prompts.items()}
    if not prompts or not rated:
        return matched, ""
    used = sorted(set(matched.values()) & set(rated))
    if not used:
        given = ", ".join(sorted(set(prompts.values()))[:10])
        return {}, f"no prompt is of a category with ratings: prompts have {given}; ratings have {', '.join(rated)}"
    count = sum(category in rated for category in matched.values())
    return matched, f"{count:,} prompts are of a category with ratings: {', '.join(used)}"


def _texts_with_category(source: Source) -> dict[str, str]:
    rows = open_rows(source)
    column = next((name for name in _TEXTS if name in rows.columns), None)
    if column is None or _CATEGORY not in rows.columns:
        return {}
    found: dict[str, str] = {}
    for batch in rows.rows([column, _CATEGORY]):
        for row in batch:
            text, category = _first(row.get(column)), row.get(_CATEGORY)
            if text and isinstance(category, str) and category.strip():
                found.setdefault(text, category.strip())
    return found


def _first(value: Any) -> str | None:
    """A text, or the first turn of a list."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) and first.strip() else None
