"""Models by name; an unknown name is an error that lists the nearest known ones."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from model_behavior.data.families import family_of
from model_behavior.errors import UsageError

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
    """At most five known names, the most similar first; members of the same family count as similar."""

    def similarity(known: str) -> float:
        spelled_alike = difflib.SequenceMatcher(None, known.casefold(), name.casefold()).ratio()
        return spelled_alike + (0.25 if name.strip() and family_of(known) == family_of(name) else 0)

    return sorted(names, key=similarity, reverse=True)[:_SUGGESTIONS]
