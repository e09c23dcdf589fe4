"""The words of docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

# fmt: off
NOT_FIRST = frozenset({
    "of", "in", "by", "for", "from", "at", "on", "so", "that", "what", "with", "without", "how", "which",
    "whether", "where", "to", "as", "told", "between", "per", "here", "if", "when", "else", "not", "only", "over",
    "than", "this", "such", "after", "before", "until", "these", "those",
})
# fmt: on
"""Words that begin no description: it starts with a noun or a verb."""


def entries_of(docstring: str, section: str = "Attributes") -> Iterator[tuple[str, str]]:
    """Name and description of each entry of a section of a Google style docstring."""
    inside = False
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line == f"{section}:"
        elif inside and (entry := re.match(r" {4}(\w+): +(\S.*)", line)):
            yield entry[1], entry[2]


def first_word(description: str) -> str:
    return re.split(r"[^\w-]", description.lstrip("`\"'("), maxsplit=1)[0].lower()


def misworded(source: str) -> list[str]:
    """Attributes whose descriptions begin with a preposition or the like."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = (ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, documented))
    entries = (entry for docstring in docstrings for entry in entries_of(docstring))
    return [f"{name}: {description}" for name, description in entries if first_word(description) in NOT_FIRST]


def test_a_preposition_is_found_wherever_it_begins_an_attribute() -> None:
    source = '''
class Rating:
    """A rating.

    Attributes:
        mean: of the rating,
            in log-odds.
        `low`: lower end.
        variance: posterior variance: of the mean.
        votes: so many.

    Raises:
        of_it: of it.
    """
'''
    assert misworded(source) == ["mean: of the rating,", "votes: so many."]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(SOURCE)))
def test_descriptions_of_attributes_begin_with_a_noun_or_a_verb(module: Path) -> None:
    assert misworded(module.read_text("utf-8")) == []
