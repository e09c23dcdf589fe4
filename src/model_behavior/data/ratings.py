"""Leaderboards, and battles without texts: what ratings can be made of or compared with, and nothing else here."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_behavior.arrays import Float64Array, Int8Array, Int32Array
from model_behavior.data.byte_streams import open_bytes, shorten, without_bom
from model_behavior.data.formats.detection import BATTLES, fold_column
from model_behavior.data.formats.records import (
    Record,
    Row,
    Side,
    Vote,
    build_vote,
    model_name,
    parse_number,
    parse_outcome,
)
from model_behavior.data.linking import open_sources
from model_behavior.data.loading import Progress, read_records, similar_names
from model_behavior.data.opening import OpenedSource
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
from model_behavior.data.sources import Source, data_extension, open_rows
from model_behavior.data_models.votes import LoadReport
from model_behavior.errors import DataError

_NAMES = ("model", "model_name", "name", "key")
_RATINGS = ("rating", "elo", "elo_rating", "arena_score", "score")
_LOWS = ("low", "rating_q025", "rating_lower", "lower", "rating_low", "ci_low")
_HIGHS = ("high", "rating_q975", "rating_upper", "upper", "rating_high", "ci_high")
_AROUND = ("95%_ci", "95_ci", "ci", "ci_95", "95%_confidence_interval", "confidence_interval")
_ENDS = re.compile(r"\+\s*(?P<up>[\d.]+)\s*/\s*[-−]\s*(?P<down>[\d.]+)|±\s*(?P<both>[\d.]+)")
_THOUSANDS = re.compile(r"[-−]?\d{1,3}(,\d{3})+(\.\d+)?")
_MOST = 1e5  # Elo
_ROUNDING = 1.0  # Elo that a rating may lie outside its interval
_OVERALL = ("overall", "full", "text")
_NO_CATEGORY = frozenset(
    ("rank", "rank_ub", "votes", "vote_count", "num_battles", "n", "variance", "std", "category", "price", "mmlu")
)


@dataclass(frozen=True, eq=False)
class RatingTable:
    """Published ratings.

    Attributes:
        models: names, sorted.
        rating: ratings on the scale of the file, usually Elo, [n_models].
        low: lower ends of the 95 % intervals, NaN where the file has none, [n_models].
        high: upper ends, likewise, [n_models].
        categories: ratings on one kind of prompts by its name; their own `categories` are empty.
        prompts: the kind of some prompts, by their keys (`data.split`); a leaderboard alone says nothing of them.
    """

    models: tuple[str, ...]
    rating: Float64Array
    low: Float64Array
    high: Float64Array
    categories: Mapping[str, RatingTable] = field(default_factory=dict)
    prompts: Mapping[int, str] = field(default_factory=dict)

    def select(self, names: Collection[str]) -> RatingTable:
        """The ratings of those of these models that have one, in all categories."""
        rows = np.array([row for row, name in enumerate(self.models) if name in set(names)], dtype=np.int64)
        categories = {name: table.select(names) for name, table in self.categories.items()}
        models = tuple(self.models[row] for row in rows)
        return RatingTable(models, self.rating[rows], self.low[rows], self.high[rows], categories, self.prompts)


@dataclass(frozen=True, eq=False)
class Battles:
    """Votes without texts.

    Attributes:
        models: names, sorted, [n_models].
        model_a: index into `models` of the left model, [n_battles].
        model_b: index into `models` of the right model, [n_battles].
        outcome: `Outcome` of each battle, [n_battles], int8.
    """

    models: tuple[str, ...]
    model_a: Int32Array
    model_b: Int32Array
    outcome: Int8Array

    def __len__(self) -> int:
        return len(self.outcome)


def load_ratings(source: Source) -> RatingTable:
    """A leaderboard.

    Args:
        source: a table with the columns model and rating, maybe low and high or "95% CI" ("+6/-7"), category, and
            numbers of other categories; or a JSON file {category: {model: {rating, rating_q025, rating_q975}}}, as
            arena-catalog has it, or {model: rating}.

    Raises:
        DataError: it cannot be read, or a model has no rating, two, one that is no number, or one outside its interval.
    """
    name = str(source) if isinstance(source, str | Path) else "the table"
    boards = _read_boards(Path(source)) if isinstance(source, str | Path) else None
    if boards is None:
        boards = _read_table(source, name)
    tables = {category: _to_table(entries, f"{name}, {category}") for category, entries in boards.items()}
    overall = next((category for category in _OVERALL if category in tables), next(iter(tables)))
    return replace(tables[overall], categories=tables if len(tables) > 1 else {})


def load_battles(
    *sources: Source, progress: Progress | None = None, reading: ReadingOptions = AS_IT_IS
) -> tuple[Battles, LoadReport]:
    """Who beat whom, for ratings alone: of files with the columns model_a, model_b and winner, and of any votes.

    Args:
        sources: each with these columns, whatever else is in it, or in one of the formats of votes.
        progress: as in `load_votes`.
        reading: as in `load_votes`.

    Raises:
        DataError: as in `load_votes`.
        UsageError: no source was given.
    """
    opened = [as_battles(source) for source in open_sources(sources, "votes", reading, also=BATTLES)]
    ids: dict[str, int] = {}
    left, right, outcome = array("i"), array("i"), array("b")

    def add(record: object) -> None:
        if isinstance(record, Vote):
            left.append(ids.setdefault(record.model_a, len(ids)))
            right.append(ids.setdefault(record.model_b, len(ids)))
            outcome.append(record.outcome)

    report = read_records(opened, OpenedSource.convert, add, progress)
    names = sorted(ids)
    rank = np.empty(len(names), dtype=np.int32)
    rank[[ids[name] for name in names]] = np.arange(len(names))
    battles = Battles(
        tuple(names),
        rank[np.array(left, dtype=np.int32)],
        rank[np.array(right, dtype=np.int32)],
        np.array(outcome, dtype=np.int8),
    )
    return battles, LoadReport(report, similar_names(names))


def as_battles(source: OpenedSource) -> OpenedSource:
    """The source, read for who beat whom alone where its columns allow that.

    Raises:
        DataError: it holds no votes.
    """
    if set(BATTLES.required) <= {*source.rows.columns, *source.names}:
        return replace(source, format=replace(BATTLES, convert=_convert_battle), notes=())
    if source.format.family != "votes":
        raise DataError(
            f"{source.rows.name}: holds {source.format.family} ({source.format.name}), but battles are needed here. "
            f"Allowed: the columns {', '.join(BATTLES.required)}, or any format of votes. Fix: name the columns with "
            "--columns model_a=NAME,model_b=NAME,winner=NAME."
        )
    return source


def _convert_battle(row: Row) -> Record:
    side_a, side_b = (Side(model_name(row.get(column), column), "") for column in ("model_a", "model_b"))
    return build_vote("", side_a, side_b, parse_outcome(row.get("winner")))


def _read_boards(path: Path) -> dict[str, list[Mapping[str, Any]]] | None:
    """The boards of a JSON object, each a list of entries; None where the file is no such."""
    if data_extension(path) not in (".json", ".jsonl") or not path.is_file():
        return None
    with open_bytes(path) as stream:
        if not without_bom(stream.peek(64), str(path)).lstrip().startswith(b"{"):
            return None
        try:
            found = json.loads(without_bom(stream.read(), str(path)))
        except (ValueError, RecursionError):
            return None  # JSON lines, or said when it is read as rows
    if not isinstance(found, dict) or not found:
        return None
    if all(isinstance(rating, int | float) for rating in found.values()):
        return {"overall": _entries(found)}
    if not all(isinstance(board, Mapping) for board in found.values()):
        return None
    if all(_pick(board, _RATINGS) is not None for board in found.values()):
        return {"overall": _entries(found)}
    if all(isinstance(entry, Mapping | int | float) for board in found.values() for entry in board.values()):
        return {category: _entries(board) for category, board in found.items()}
    return None


def _entries(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        {"model": model, **(entry if isinstance(entry, Mapping) else {"rating": entry})}
        for model, entry in board.items()
    ]


def _read_table(source: Source, name: str) -> dict[str, list[Mapping[str, Any]]]:
    rows = open_rows(source)
    folded = {fold_column(column): column for column in rows.columns}
    if _pick(folded, _NAMES) is None or _pick(folded, _RATINGS) is None:
        raise DataError(
            f"{name}: no ratings. Columns found: {', '.join(rows.columns)}. Allowed: the columns model and rating, "
            f"maybe low, high and category. Fix: rename the columns."
        )
    entries: list[Mapping[str, Any]] = [
        {fold_column(column): value for column, value in row.items()}
        for batch in rows.rows(rows.columns)
        for row in batch
    ]
    if "category" in folded:
        boards: dict[str, list[Mapping[str, Any]]] = {}
        for entry in entries:
            boards.setdefault(str(entry.get("category")), []).append(entry)
        return boards
    named = (*_NAMES, *_RATINGS, *_LOWS, *_HIGHS, *_AROUND, *_NO_CATEGORY)
    others = [column for column in folded if column not in named and _is_numeric(entries, column)]
    by_category: dict[str, list[Mapping[str, Any]]] = {
        column: [{"model": _pick(entry, _NAMES), "rating": entry[column]} for entry in entries if entry[column] != ""]
        for column in others
    }
    return {"overall": entries, **by_category}


def _is_numeric(entries: Iterable[Mapping[str, Any]], column: str) -> bool:
    found = [entry.get(column) for entry in entries if entry.get(column) not in (None, "")]
    return bool(found) and all(parse_number(value) is not None for value in found)


def _pick(entry: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _interval(entry: Mapping[str, Any], rating: float) -> tuple[float, float]:
    """Ends of the 95 % interval, NaN where there is none; written out, or as "+6/-7" or "±6" around the rating."""
    ends = (_number(_pick(entry, keys)) for keys in (_LOWS, _HIGHS))
    low, high = (float("nan") if end is None else end for end in ends)
    around = _ENDS.fullmatch(str(_pick(entry, _AROUND) or "").strip())
    if around is not None and np.isnan([low, high]).all():
        up, down = around["up"] or around["both"], around["down"] or around["both"]
        return rating - float(down), rating + float(up)
    return low, high


def _number(value: Any) -> float | None:
    """A number, also as leaderboards print one: "1,287.5"."""
    if isinstance(value, str) and _THOUSANDS.fullmatch(value.strip()):
        value = value.replace(",", "")
    return parse_number(value)


def _to_table(entries: list[Mapping[str, Any]], place: str) -> RatingTable:
    found: dict[str, tuple[float, float, float]] = {}
    for number, entry in enumerate(entries, 1):
        try:
            model = model_name(_pick(entry, _NAMES), "model")
        except DataError as error:
            raise DataError(f"{place}, row {number}: {error}") from None
        value = _pick(entry, _RATINGS)
        rating = _number(value)
        if model is None or rating is None or not np.isfinite(rating):
            raise DataError(
                f"{place}, row {number}: model is {shorten(model)}, rating is {shorten(value)}. Allowed: a name and a "
                "number. Fix: correct the row, or remove it."
            )
        if abs(rating) > _MOST:
            raise DataError(
                f"{place}, row {number}: rating is {rating:g}. Allowed: an Elo rating, at most {_MOST:g}. Fix: correct "
                "the row, or remove it."
            )
        if model in found:
            raise DataError(f"{place}, row {number}: {model!r} is rated twice. Fix: keep one of its rows.")
        low, high = _interval(entry, rating)
        if low > rating + _ROUNDING or rating > high + _ROUNDING:
            raise DataError(
                f"{place}, row {number}: the rating of {model!r} is {rating:g}, its interval {low:g} to {high:g}. "
                "Allowed: an interval that holds the rating. Fix: correct the row, or leave its interval out."
            )
        found[model] = rating, low, high
    if not found:
        raise DataError(f"{place}: there is no rating in it. Allowed: at least one model.")
    models = tuple(sorted(found))
    values = np.array([found[model] for model in models], dtype=np.float64)
    return RatingTable(models, values[:, 0], values[:, 1], values[:, 2])
