"""A source opened with its format: columns under their known names, and its rows made records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from model_behavior.data.byte_streams import NothingToReadError
from model_behavior.data.formats.detection import (
    KNOWN_COLUMNS,
    TEXT_COLUMNS,
    detect_format,
    fold_column,
    missing_of,
    near_column,
    unaccounted,
)
from model_behavior.data.formats.records import Format, Links, Record, Row, is_missing
from model_behavior.data.reading import AS_IT_IS, ReadingOptions, dig
from model_behavior.data.sources import RowSource
from model_behavior.errors import DataError

_NO_NEWS = frozenset(
    (
        *("id", "uid", "question_id", "conversation_id", "conversation_hash", "prompt_id", "session_id"),
        *("evaluation_session_id", "ans_id", "answer_id", "language", "judge", "tstamp", "timestamp", "date", "turn"),
        *("anony", "category", "category_tag", "dataset", "source", "annotator", "openai_moderation", "toxic"),
        *("toxic_chat_tag", "redacted", "raw_completion", "price_per_example", "time_per_example", "datasplit"),
        *("doc_hash", "prompt_hash", "target_hash", "metadata", "tags", "index", "__index_level_0__", "name", "level"),
        *(
            "user",
            "user_id",
            "userid",
            "request_id",
            "traceid",
            "trace_id",
            "starttime",
            "endtime",
            "call_type",
            "status",
        ),
        *("created_at", "updated_at", "object", "finish_reason", "usage", "annotations", "critique", "is_code"),
    )
)
"""Columns that hold no prompt and no answer, so that no one needs to hear that they were not read."""

_JUDGES = ("judge", "annotator")


@dataclass(frozen=True)
class OpenedSource:
    """Rows with their format.

    Attributes:
        rows: the source.
        format: the layout of its rows.
        names: place of each column that is not under its own name: a column, and a path in its values.
        notes: remarks of the report on how it was read.
        reading: options of the caller.
        links: content of other files, for formats that need them.
        is_part: True for one of several files of a folder, which may have no row that can be used.
    """

    rows: RowSource
    format: Format
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reading: ReadingOptions = AS_IT_IS
    links: Links | None = None
    is_part: bool = False

    @cached_property
    def columns(self) -> list[str]:
        """The columns of the source that are read."""
        own = [self.names.get(column, (column,))[0] for column in self.format.used]
        own += [column for column in self.rows.columns if self.format.uses(column)]
        own += self._judges[:1]
        return [column for column in dict.fromkeys(own) if column in self.rows.columns]

    @cached_property
    def _judges(self) -> list[str]:
        """Columns that name who voted."""
        return [c for c in _JUDGES if c in self.rows.columns] if self.format.family == "votes" else []

    def judge_of(self, row: Row) -> str:
        """Who voted; "" where the row does not say it."""
        value = row.get(self._judges[0]) if self._judges else None
        return "" if is_missing(value) else str(value)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.rows.columns)

    def convert(self, row: Row) -> Record:
        """The record of a row.

        Raises:
            DataError: an impossible value, or a column of text that the rows before it did not have.
        """
        late = [column for column in row.keys() - self._known if column in TEXT_COLUMNS]
        if late and not self.reading.columns:
            clash = unaccounted(self.format, late)
            if clash:
                raise DataError(
                    f"the column {clash[0]!r}, which may hold the text, is here for the first time; the rows before "
                    f"it are read as {self.format.name}. Fix: give rows of one kind in one file."
                )
        view = self.view(row)
        if self.format.link is not None and self.links is not None:
            return self.format.link(view, self.links)
        return self.format.convert(view)

    def view(self, row: Row) -> Row:
        """A row as the format knows it: columns under its names, the outcome as the caller says."""
        view = row
        if self.names:
            moved = {path[0] for path in self.names.values()}
            view = {column: value for column, value in row.items() if column not in moved or self.format.uses(column)}
            view.update({known: dig(row.get(path[0]), path[1:]) for known, path in self.names.items()})
        column = self.format.outcome_column
        if column is not None and self.reading.outcomes:
            meant = self.reading.outcome_of(view.get(column))
            view = view if meant is None else {**view, column: meant}
        return view


def open_source(rows: RowSource, reading: ReadingOptions = AS_IT_IS, also: Format | None = None) -> OpenedSource:
    """Rows with their format.

    Args:
        rows: the source.
        reading: options of the caller.
        also: format of rows that have its columns and are in no other.

    Raises:
        NothingToReadError: no known format; begins with the name of the rows.
        DataError: as in `detect_format`, likewise.
    """
    names = _name_columns(rows, reading)
    moved = {path[0] for path in names.values()}
    columns = tuple(dict.fromkeys([*(column for column in rows.columns if column not in moved), *names]))
    enough = also is not None and set(also.required) <= set(columns)
    try:
        known = detect_format(columns, frozenset(reading.columns))
    except DataError as error:
        if also is None or not enough:
            raise error.reworded(f"{rows.name}: {error}{_mapping_hint(columns, str(error))}") from None
        known = also
    names = {column: path for column, path in names.items() if known.uses(column)}
    forgiven = [column for column in names if column not in reading.columns]
    notes = [f"column {names[column][0]!r} is read as {column}" for column in forgiven]
    if known.note:
        notes.append(known.note)
    used = {names.get(column, (column,))[0] for column in known.used}
    used |= {column for column in rows.columns if column not in names and known.uses(column)}
    left = [column for column in rows.columns if column in rows.texts and column not in used]
    unread = [column for column in left if column.casefold() not in _NO_NEWS]
    if unread:
        notes.append(f"not read: {', '.join(unread)}")
    return OpenedSource(rows, known, names, tuple(notes), reading)


def _name_columns(rows: RowSource, reading: ReadingOptions) -> dict[str, tuple[str, ...]]:
    """Where known columns are that go by another name: as the caller says, or in capitals and with spaces."""
    names: dict[str, tuple[str, ...]] = {}
    for known, name in reading.columns.items():
        path = (name,) if name in rows.columns else tuple(name.split("."))
        if path[0] not in rows.columns:
            raise NothingToReadError(
                f"{rows.name}: --columns names {name!r}, but there is no such column. Columns found: "
                f"{', '.join(rows.columns)}. Fix: name one of them, as in --columns {known}={rows.columns[0]}.",
                f"no column {name!r}",
            )
        names[known] = path
    for column in rows.columns:
        known = fold_column(column)
        if column in KNOWN_COLUMNS or known not in KNOWN_COLUMNS or known in rows.columns:
            continue
        if known in names and known not in reading.columns:
            raise DataError(
                f"{rows.name}: the columns {names[known][0]!r} and {column!r} are both named like {known!r}. Fix: "
                "rename one of them."
            )
        names.setdefault(known, (column,))
    return names


def _mapping_hint(columns: Sequence[str], said: str) -> str:
    """How to say which columns are meant, for an error that does not say it."""
    if "--columns" in said or "test file" in said or "leaderboard" in said or "lm-eval" in said:
        return ""
    near = missing_of(columns)
    if near is None:
        return " Fix: say which column is which with --columns prompt=NAME,response=NAME."
    meant = ",".join(f"{column}={near_column(column, columns) or 'NAME'}" for column in near[1])
    if {"chosen", "rejected"} <= set(columns):
        return " Votes need the names of both models: --columns chosen_model=NAME,rejected_model=NAME."
    return f" Or say which column is which: --columns {meant}."
