"""Which published format a file is in, told by its columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from model_behavior.data.byte_streams import NothingToReadError
from model_behavior.data.formats.benchmarks import BENCHMARKS
from model_behavior.data.formats.conversations import ARENA, COMPAR_IA
from model_behavior.data.formats.pairs import PAIRS, PROMPT_NAMES, RESPONSE_NAMES, RESPONSE_TABLE
from model_behavior.data.formats.preferences import PREFERENCES
from model_behavior.data.formats.records import Format, Record, Row
from model_behavior.data.formats.tables import PLAIN, TABLES
from model_behavior.data.formats.traces import TRACES
from model_behavior.errors import DataError
from model_behavior.names import nearest


def _has_no_texts(row: Row) -> Record:
    raise DataError("the row holds no texts")


BATTLES = Format(
    "battles without texts", "battles", ("model_a", "model_b", "winner"), _has_no_texts, outcome_column="winner"
)

FORMATS = (*TABLES, ARENA, COMPAR_IA, *PREFERENCES, *BENCHMARKS, *TRACES, *PAIRS, BATTLES)
"""All formats. Where a file has the columns of several, the one that uses most of them counts, then the first."""

_ONE_TEXT = frozenset(
    (*PROMPT_NAMES, *RESPONSE_NAMES, "messages", "conversation", "conversations", "chat_history", "request", "choices")
)
_SIDES = frozenset(
    f"{name}{end}"
    for name in ("response", "output", "answer", "conversation")
    for end in ("_a", "_b", "_1", "_2", "1", "2")
)
TEXT_COLUMNS = _ONE_TEXT | _SIDES | {"chosen", "rejected", "completions", "answers", "resps", "full_conversation"}
"""Columns that are known to hold prompts or answers. A format must account for all of these that are there."""

KNOWN_COLUMNS = frozenset(column for known in FORMATS for column in known.used)
_BY_FAME = (*TABLES, ARENA, COMPAR_IA, *PAIRS, *PREFERENCES, *BENCHMARKS, *TRACES, BATTLES)
"""Where several formats are equally near, the first of these is named."""

_TEST_FILE = {"prompt", "response_a", "response_b"}


_SIDE_MARKS = {"a": ("_a", "a", "_0", "0", "_1", "1"), "b": ("_b", "b", "_2", "2", "_1", "1")}
"""How the columns of the two sides end, where they are not called as in the plain table."""

_NO_TEXTS = ("_id", "_time", "_ms", "_date", "_count", "_tokens", "_length", "_cost")
"""Ends of columns that measure or name something, however like a column of text they are called."""

_SYNONYMS = {
    "prompt": ("question", "instruction", "query", "input"),
    "response": ("answer", "output", "completion", "reply", "generation", "generated_text", "prediction"),
    "winner": ("outcome", "verdict", "label", "preference", "vote", "choice", "result", "judgment"),
    **{
        f"response_{end}": tuple(
            f"{name}{mark}" for name in ("answer", "output", "completion", "response", "text") for mark in marks
        )
        for end, marks in _SIDE_MARKS.items()
    },
    **{
        f"model_{end}": tuple(f"{name}{mark}" for name in ("model", "generator", "llm", "name") for mark in marks)
        for end, marks in _SIDE_MARKS.items()
    },
}
"""Other words for the columns of the smallest tables, to suggest and never to take."""

_ASKING, _ANSWERING = frozenset(PROMPT_NAMES), frozenset((*RESPONSE_NAMES, "choices"))


def unaccounted(known: Format, columns: Sequence[str], chosen: frozenset[str] = frozenset()) -> list[str]:
    """Columns of text that a format neither uses nor passes over, and between which the caller has not chosen."""
    passed = {*known.used, *known.unread, "full_conversation", *_settled(chosen)}
    if known.family == "votes":  # whose two sides are the texts
        passed |= _ONE_TEXT
    return [column for column in columns if column in TEXT_COLUMNS and column not in passed]


def _settled(chosen: frozenset[str]) -> frozenset[str]:
    """Columns that the caller's choice of others leaves unread."""
    asks, answers = bool(chosen & _ASKING), bool(chosen & _ANSWERING)
    if (asks and answers) or chosen & (_ONE_TEXT - _ASKING - _ANSWERING):
        return _ONE_TEXT
    settled = (_ASKING if asks else frozenset()) | (_ANSWERING if answers else frozenset())
    return settled | (_SIDES if chosen & _SIDES else frozenset())


def detect_format(columns: Sequence[str], chosen: frozenset[str] = frozenset()) -> Format:
    """The format that uses most of the columns and accounts for every column of text.

    Args:
        columns: names of the columns.
        chosen: columns that the caller has said what they are; what else may be the same is passed over.

    Raises:
        NothingToReadError: none; lists the columns found, and what the nearest format misses.
        DataError: none, but its columns are spelt like those of one, or the caller has to choose between columns.
    """
    found = set(columns)
    meant = chosen & TEXT_COLUMNS
    fitting = [known for known in FORMATS if found.issuperset(known.required) and meant <= set(known.used)]
    clear = [known for known in fitting if not unaccounted(known, columns, chosen)]
    if clear:
        return max(clear, key=lambda known: len(known.required))
    texts = [known for known in fitting if known is not BATTLES]
    if texts and not {"chosen", "rejected"} <= found:
        raise _ambiguous(max(texts, key=lambda known: len(known.required)), texts, columns)
    raise _unknown(columns)


def _ambiguous(nearest: Format, fitting: list[Format], columns: Sequence[str]) -> DataError:
    others = unaccounted(nearest, columns)
    texts = [column for column in columns if column in TEXT_COLUMNS]
    example = "prompt=NAME,response=NAME" if nearest.family != "votes" else "response_a=NAME,response_b=NAME"
    if "messages" in texts and nearest.family != "votes":
        example += ", or messages=messages for the conversation alone"
    names = ", ".join(list(dict.fromkeys(known.name for known in fitting))[:3])
    return DataError(
        f"several columns may hold the text: {', '.join(texts)}. Read as {names}, {', '.join(others)} would go unread. "
        f"Fix: say which are meant with --columns {example}; or remove the others."
    )


def _unknown(columns: Sequence[str]) -> DataError:
    found = set(columns)
    listed = ", ".join(columns) or "none"
    has_outcome = any(column.startswith("winner") for column in columns)
    if found >= _TEST_FILE and not found & {"model_a", "model_b"} and not has_outcome:
        return DataError(
            f"this is the test file without model names (columns: {listed}). Fix: use train.csv or train.parquet."
        )
    if {"results", "configs", "versions"} <= found:
        return NothingToReadError(
            f"these are scores of lm-eval (columns: {listed}), no texts. Fix: run it with --log_samples, and give "
            "samples_*.jsonl.",
            "scores, no texts",
        )
    folded = {fold_column(column) for column in columns}
    if folded & {"rating", "elo", "arena_score"} and folded & {"model", "model_name", "name", "key"}:
        return NothingToReadError(
            f"this is a leaderboard (columns: {listed}): ratings, no texts. Fix: give votes or responses; ratings are "
            "read by load_ratings alone.",
            "a leaderboard",
        )
    near = missing_of(columns)
    if near is None:
        minimum = ", ".join(PLAIN.required)
        return NothingToReadError(
            f"unknown format. Columns found: {listed}. Allowed for votes, at least: {minimum}; for "
            f"responses: {', '.join(RESPONSE_TABLE.required)}.",
            "unknown format",
        )
    nearest, missing = near
    message = (
        f"unknown format. Columns found: {listed}. Nearest format: {nearest.name}; "
        f"missing: {', '.join(missing)}. Fix: {_suggest(missing, columns)}."
    )
    is_misspelt = all(near_column(column, columns) for column in missing)
    return DataError(message) if is_misspelt else NothingToReadError(message, "unknown format")


def missing_of(columns: Sequence[str]) -> tuple[Format, list[str]] | None:
    """The nearest format and the columns that it misses; None where none is near."""
    short = [known for known in _BY_FAME if not set(known.required) <= set(columns)]
    if has_sides(columns):
        short = [known for known in short if len(_SIDES & set(known.required)) > 1]
    if {"chosen", "rejected"} <= set(columns):
        short = [known for known in short if "chosen" in known.required] or short
    nearest = max(short, key=lambda known: _similarity(known, columns))
    if _similarity(nearest, columns)[0] == 0:
        return None
    return nearest, [column for column in nearest.required if column not in columns]


def has_sides(columns: Sequence[str]) -> bool:
    """Whether two columns are the texts of two sides, as response_0 and response_1 are, or answerA and answerB."""
    folded = {fold_column(column) for column in columns}
    stems = [name[:-1] for name in folded if name[-1:] in ("a", "0", "1")]
    pairs = (("a", "b"), ("0", "1"), ("1", "2"))
    two = [stem for stem in stems if any({stem + first, stem + second} <= folded for first, second in pairs)]
    return any(word in stem for stem in two for word in ("response", "answer", "output", "completion", "text", "ref"))


def _similarity(known: Format, columns: Sequence[str]) -> tuple[float, int]:
    """Share of the required columns that are there, one of a near name counting for half; and their number."""
    there = [column for column in known.required if column in columns]
    near = {near_column(column, columns) for column in known.required if column not in columns} - {None}
    return (len(there) + 0.5 * len(near)) / len(known.required), len(there)


def _suggest(missing: list[str], columns: Sequence[str]) -> str:
    renames = []
    for column in missing:
        near = near_column(column, columns)
        if near:
            renames.append(f"rename {near!r} to {column!r}")
    return "; ".join(renames) or "add or rename columns"


def near_column(column: str, columns: Sequence[str]) -> str | None:
    """The column there whose name is nearest to one that is missing, or another word for it, if any is."""
    by_fold = {fold_column(name): name for name in columns}
    close = nearest(by_fold, column, 3, 0.8)
    close += [name for name in nearest(by_fold, column, 3, 0.75) if column in name and name not in close]
    close = [name for name in close if name == column or name[:-1] != column[:-1]]  # not the other side's
    close = [name for name in close if not name.endswith(_NO_TEXTS)]
    near = [name for name in close if by_fold[name] not in KNOWN_COLUMNS and len(name) > 3]
    near += [name for name in _SYNONYMS.get(column, ()) if name in by_fold and name not in near]
    found = by_fold[near[0]] if near else None
    return None if found == column else found


def fold_column(column: str) -> str:
    """A column's name as it is forgiven: lower case, usual width, nothing invisible, words joined by one underscore."""
    plain = unicodedata.normalize("NFKC", column).casefold()
    visible = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    return re.sub(r"[\s\-_]+", "_", visible.strip())
