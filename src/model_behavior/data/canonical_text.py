"""The canonical text: the one form of a text that is counted, hashed, compared and encoded.

What a person sees as the same text is the same text here. Harnesses, templates and renderers change line ends, white
space, quotation marks, dashes, invisible characters, Unicode composition, HTML entities, chat-template tokens, role
prefixes and reasoning tags; none of these tell who wrote a text. A reasoning block is no part of the answer and is
left out. Texts are stored and shown as they came.

Every step is linear in the length of the text. The steps are repeated while they change something, at most four
times, since one may complete what another looks for.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

Changes = Mapping[str, int]
"""Number of responses in which something was brought to its canonical form, by kind of what was changed."""

REASONING: Final = "reasoning"
_MOST_ROUNDS = 4
_TAIL_WINDOW = 80  # characters; no token or role at the end of a text is longer
_TAB = 4


def _characters(*ranges: int | tuple[int, int]) -> Iterator[str]:
    for each in ranges:
        first, last = each if isinstance(each, tuple) else (each, each)
        yield from map(chr, range(first, last + 1))


def _presentation_forms() -> dict[str, str]:
    """Ligatures and Arabic and Hebrew letter forms, which render as the letters that they stand for."""
    forms = _characters((0xFB00, 0xFB06), (0xFB13, 0xFB17), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFC))
    return {form: unicodedata.normalize("NFKC", form) for form in forms}


_ONE_FOR_ONE: dict[str, dict[str, str]] = {
    "line ends": dict.fromkeys(_characters(0x0B, 0x0C, 0x85, 0x2028, 0x2029), "\n"),
    "white space": dict.fromkeys(_characters(0xA0, 0x1680, (0x2000, 0x200A), 0x202F, 0x205F, 0x3000), " "),
    "quotation marks": {
        **dict.fromkeys(_characters((0x2018, 0x201B), 0x2032, 0x2035, 0xB4, 0x1FFD, 0x02BC, 0xFF07), "'"),
        **dict.fromkeys(_characters((0x201C, 0x201F), 0x2033, 0x2036, 0xFF02), '"'),
    },
    "dashes": dict.fromkeys(_characters((0x2010, 0x2015), 0x2212, 0xFE58, 0xFE63, 0xFF0D), "-"),
    "ellipses": {"\u2026": "..."},
    "composed characters": _presentation_forms(),
    # Controls, joiners and marks of direction, soft hyphens, byte-order marks, variation selectors, tags.
    "invisible characters": dict.fromkeys(
        _characters(
            *((0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x84), (0x86, 0x9F), 0xAD, 0x034F, 0x061C, (0x180B, 0x180E)),
            *(0x200B, (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFE00, 0xFE0F), 0xFEFF),
            *((0xFFF9, 0xFFFB), (0xE0000, 0xE01EF)),
        ),
        "",
    ),
}
_TABLE = {old: new for table in _ONE_FOR_ONE.values() for old, new in table.items()}


# Scripts whose letters are joined or kept apart by U+200C and U+200D: Arabic to Sinhala, Myanmar, Khmer, Mongolian.
_JOINING = r"[\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af]"
_PICTURE = r"[\u2190-\u2bff\U0001f000-\U0001faff]"
_KIND_OF_CHARACTER = {old: kind for kind, table in _ONE_FOR_ONE.items() for old in table}
_ESCAPES = re.compile(r"\x1b\[[0-9;]{0,16}[A-Za-z]")
_JOINERS = re.compile(rf"(?<!{_JOINING})\u200c|(?<!{_JOINING})(?<!{_PICTURE})\u200d")
_CONTROLS = "".join(filter(str.isascii, _TABLE)).encode()

_ENTITY = re.compile(
    r"&(?:amp;)*(?:(?P<name>lt|gt|quot|apos|nbsp|[lr][sd]quo|[mn]dash|hellip)|#0{0,4}(?P<number>34|39|60|62|160)"
    r"|#[xX]0{0,4}(?P<hex>22|27|3[cCeE]|[aA]0));|&(?:amp;)+"
)
_NAMED = {
    **{"lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " ", "lsquo": "'", "rsquo": "'", "ldquo": '"'},
    **{"rdquo": '"', "mdash": "-", "ndash": "-", "hellip": "..."},
}

# "--" between words, as a dash is typed; the same spacing on both sides, so that no option such as --all is meant.
_TYPED_DASH = re.compile(r"""(?<=[\w.,;:!?)"'*])( ?)-{2,3}(?=\1[\w("'*])""")

_TURN = (
    r"<\|(?:im_start|start_header_id|start|header_start)\|>(?:assistant|user|system|model|human)?"
    r"(?:<\|(?:end_header_id|header_end)\|>)?"
)
_TOKEN = (
    rf"(?:{_TURN}|<start_of_turn>(?:model|user)?|<end_of_turn>|<\|channel\|>\w{{1,20}}|<\|[\w./▁-]{{1,40}}\|>"
    r"|<｜[\w▁ ./-]{1,40}｜>)"
)
_ANYWHERE = re.compile(_TOKEN, re.IGNORECASE)
_EDGE = (
    rf"(?:{_TOKEN}|</?(?:s|bos|eos|pad|unk|eot|eop|eod|sop|stop|end|answer|final|final_answer|response|output|result|"
    r"assistant|bot)>|<?</?SYS>>?|\[/?(?:INST|EOS|BOS|PAD|SEP|CLS|gMASK|sMASK|EOT|STOP|END|ASST|ASSISTANT)\])"
)
_ROLES_OF_RESPONSES = r"AI[ -]assistant|assistant|AI|chat[ -]?bot|GPT|response"
_ROLES_OF_PROMPTS = r"user|human|instruction|question"
_THOUGHTS = r"(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|antthinking|seed:think)"
_OPENED_BY_NAME = re.compile(rf"<{_THOUGHTS}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>", re.IGNORECASE)
_OPENED = re.compile(
    rf"{_OPENED_BY_NAME.pattern}|<(?:analysis|plan)>|(?P<channel><\|channel\|>analysis(?:<\|message\|>)?)",
    re.IGNORECASE,
)
_LONE_CLOSED = re.compile(rf"</{_THOUGHTS}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>", re.IGNORECASE)
_CLOSED = re.compile(rf"{_LONE_CLOSED.pattern}|</(?:analysis|plan)>", re.IGNORECASE)
_CHANNEL_CLOSED = re.compile(r"<\|end\|>|<\|channel\|>final(?:<\|message\|>)?", re.IGNORECASE)
_LAST = (*">]:：#*▷",)

_NEVER_LEFT_OUT = (".", "!", "?", ",", "'", '"')
_BLANK_LINES = re.compile(r"\n(?: *\n)+")
_SPACES = re.compile("  +")
_FENCE = re.compile(r"```(?:markdown|md) ?\n")


def canonical_response(text: str) -> str:
    """The canonical form of a response. Idempotent."""
    return _settle(text, _ROLES_OF_RESPONSES, _ROLES_OF_PROMPTS)[0]


def canonical_prompt(text: str) -> str:
    """The canonical form of a prompt: as of a response, with a person's role before it. Idempotent."""
    return _settle(text, _ROLES_OF_PROMPTS, _ROLES_OF_RESPONSES)[0]


def canonicalise_responses(responses: Sequence[str]) -> tuple[list[str], Changes]:
    """The canonical forms, [n_responses], and how many responses were changed, by kind."""
    found: Counter[str] = Counter()
    texts = []
    for response in responses:
        text, kinds = _settle(response, _ROLES_OF_RESPONSES, _ROLES_OF_PROMPTS)
        texts.append(text)
        found.update(kinds)
    return texts, dict(sorted(found.items()))


def is_empty_response(text: str) -> bool:
    """True where nothing is left of a response in its canonical form."""
    last = text.rstrip()[-1:]
    # What is left out ends with white space, with something invisible, or with the last mark of a token or a role.
    has_token = "|>" in text or "_turn>" in text or "\x1b" in text  # these may end with a word
    may_be_left_out = has_token or not (last.isalnum() or last in _NEVER_LEFT_OUT)
    return may_be_left_out and not canonical_response(text)


def describe_changes(changes: Changes) -> str:
    """The kinds of changes with their counts, the most frequent first; "" where nothing was changed."""
    ordered = sorted(changes.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{kind} in {count:,}" for kind, count in ordered)


def _settle(text: str, own: str, others: str) -> tuple[str, set[str]]:
    kinds: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        before = text
        text = _canonicalise(text, own, others, kinds)
        if text == before:
            break
    return text, kinds


def _canonicalise(text: str, own: str, others: str, kinds: set[str]) -> str:
    """One round of all steps; adds the kinds of what it changed to `kinds`."""
    if "&" in text:
        text = _note("entities", text, _ENTITY.sub(_read_entity, text), kinds)
    text = _replace_special(text, kinds)
    if "\r" in text:
        text = _note("line ends", text, text.replace("\r\n", "\n").replace("\r", "\n"), kinds)
    if "```m" in text:
        text = _note("fences around the whole", text, _open_fence(text), kinds)
    text = _unwrap(text, own, others, kinds)
    if "--" in text:
        text = _note("dashes", text, _TYPED_DASH.sub(r"\1-", text), kinds)
    return _note("white space", text, _settle_space(text), kinds)


def _note(kind: str, before: str, after: str, kinds: set[str]) -> str:
    if after != before:
        kinds.add(kind)
    return after


def _read_entity(match: re.Match[str]) -> str:
    if name := match["name"]:
        return _NAMED[name]
    code = int(match["number"]) if match["number"] else int(match["hex"], 16) if match["hex"] else ord("&")
    return " " if code == ord("\u00a0") else chr(code)


def _replace_special(text: str, kinds: set[str]) -> str:
    """Replaces characters one by one, and composes what is left."""
    if text.isascii() and len(text.encode().translate(None, _CONTROLS)) == len(text):
        return text
    if "\x1b" in text:
        text = _note("invisible characters", text, _ESCAPES.sub("", text), kinds)
    for character in _TABLE.keys() & set(text):
        kinds.add(_KIND_OF_CHARACTER[character])
        text = text.replace(character, _TABLE[character])
    if "\u200c" in text or "\u200d" in text:
        text = _note("invisible characters", text, _JOINERS.sub("", text), kinds)
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    kinds.add("composed characters")
    return unicodedata.normalize("NFC", text)


def _settle_space(text: str) -> str:
    """Strips text and lines, one space between words, at most one blank line; indentation stays, of spaces."""
    if "\t" in text:
        text = text.expandtabs(_TAB)
    if "  " in text:
        text = _SPACES.sub(_one_space, text)
    if " \n" in text:
        text = text.replace(" \n", "\n")
    if "\n\n\n" in text or "\n " in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip(" \n")


def _one_space(match: re.Match[str]) -> str:
    """One space for several, except at the start of a line."""
    return match[0] if match.start() == 0 or match.string[match.start() - 1] == "\n" else " "


def _open_fence(text: str) -> str:
    """The text inside a fence that wraps a whole answer in Markdown."""
    whole = text.strip()
    fence = _FENCE.match(whole)
    is_one = fence is not None and whole.endswith("```") and "```" not in whole[3:-3]
    return whole[fence.end() : -3] if fence is not None and is_one else text


_Step = tuple[re.Pattern[str], re.Pattern[str]]


def _edges(own: str, others: str) -> _Step:
    """What may stand before a text, and after it."""
    role = rf"(?:#{{1,4}} ?)?\*{{0,2}}(?:{own})\*{{0,2}} ?:\*{{0,2}}(?=\s)"
    next_role = rf"\n\s?(?:#{{1,4}} ?)?\*{{0,2}}(?:{others}|{own})\*{{0,2}} ?:\*{{0,2}}|\n ?#{{3,6}}"
    return (
        re.compile(rf"(?P<space>\s+)|(?P<token>{_EDGE})|(?P<role>{role})", re.IGNORECASE),
        re.compile(rf"(?:(?P<token>{_EDGE})|(?P<role>{next_role}))\Z", re.IGNORECASE),
    )


_EDGES: dict[str, _Step] = {
    _ROLES_OF_RESPONSES: _edges(_ROLES_OF_RESPONSES, _ROLES_OF_PROMPTS),
    _ROLES_OF_PROMPTS: _edges(_ROLES_OF_PROMPTS, _ROLES_OF_RESPONSES),
}
_KIND_OF_GROUP = {"space": "white space", "token": "template tokens", "role": "role prefixes"}


def _unwrap(text: str, own: str, others: str, kinds: set[str]) -> str:
    """Leaves out reasoning, and roles and template tokens before, after and between."""
    head, tail = _EDGES[own]
    start = _skip_head(text, head, kinds)
    end = len(text)
    while True:
        while end > start and text[end - 1].isspace():
            end -= 1
        found = tail.search(text, max(start, end - _TAIL_WINDOW), end) if text[end - 1 : end] in _LAST else None
        if found is None or found.start() == end:
            break
        kinds.add(_KIND_OF_GROUP[found.lastgroup or "token"])
        end = found.start()
    if end < len(text) and text[-1].isspace():
        kinds.add("white space")
    text = text[start:end]
    if "<|" in text or "<\uff5c" in text or "_of_turn>" in text:
        text = _note("template tokens", text, _ANYWHERE.sub(" ", text), kinds)
    return text


def _skip_head(text: str, head: re.Pattern[str], kinds: set[str]) -> int:
    """The place after reasoning, roles and template tokens at the start."""
    place, may_close = 0, True
    while True:
        if opened := _OPENED.match(text, place):
            closed = (
                (_CHANNEL_CLOSED if opened["channel"] else _CLOSED).search(text, opened.end()) if may_close else None
            )
            may_close = closed is not None  # else the rest need not be searched again: there is none
            place = opened.end() if closed is None else closed.end()
            kinds.add("template tokens" if closed is None else _kind_of_block(text[opened.end() : closed.start()]))
        elif found := head.match(text, place):
            kinds.add(_KIND_OF_GROUP[found.lastgroup or "token"])
            place = found.end()
        elif closed := _lone_close(text, place):
            kinds.add(_kind_of_block(text[place : closed.start()]))
            place = closed.end()
        else:
            return place


def _lone_close(text: str, place: int) -> re.Match[str] | None:
    """The end of reasoning that a template has opened before the response."""
    if "</" not in text and "[/" not in text and "\u25c1/" not in text and "_of_thought" not in text:
        return None
    closed = _LONE_CLOSED.search(text, place)
    return None if closed is None or _OPENED_BY_NAME.search(text, place, closed.start()) else closed


def _kind_of_block(inside: str) -> str:
    return REASONING if inside.strip() else "empty reasoning tags"
