"""What a harness does to every response, by what a person sees of it: the one list of the benchmarks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce

AS_IS = "as they are"
_BOLD, _BULLET, _NUMBER = re.compile(r"\*\*"), re.compile(r"(?m)^(\s*)[-*] "), re.compile(r"(?m)^(\s*)\d+[.)] ")

UNSEEN: Mapping[str, Callable[[str], str]] = {
    "a line feed after each": lambda text: text + "\n",
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "a space before each": lambda text: " " + text,
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "curly apostrophes": lambda text: text.replace("'", "\u2019"),
    "an end token": lambda text: text + "</s>",
    "empty reasoning": lambda text: "<think></think>" + text,
    "reasoning": lambda text: "<think>Let me think about this.</think>\n" + text,
    "a role before each": lambda text: "Assistant: " + text,
}
"""What a person sees as the same text."""

VISIBLE: Mapping[str, Callable[[str], str]] = {
    "a closing line": lambda text: text + "\n\nLet me know if you need anything else!",
    "an opening line": lambda text: "Sure, here is my answer.\n\n" + text,
    "other bullets": lambda text: _BULLET.sub(r"\1• ", text),
    "bullets for numbers": lambda text: _NUMBER.sub(r"\1- ", text),
    "bold removed": lambda text: _BOLD.sub("", text),
    "lower case": str.lower,
    "an emoji": lambda text: text + " 😊",
}
"""What a system prompt, a template or a renderer may do to every response."""

CUT: Mapping[str, Callable[[str], str]] = {
    "cut at 2,000 characters": lambda text: text[:2000],
    "cut at 800 characters": lambda text: text[:800],
}
"""What a limit on the length does."""


def change_unseen(text: str) -> str:
    """All changes of `UNSEEN`, one after the other."""
    return reduce(lambda changed, change: change(changed), UNSEEN.values(), text)
