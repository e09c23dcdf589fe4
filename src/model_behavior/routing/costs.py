"""Costs of a request to each model, read from a file."""

from __future__ import annotations

import json
import math
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_behavior.data.sources import open_rows
from model_behavior.errors import DataError, UsageError
from model_behavior.names import find_model, nearest_models

_PRICE_COLUMNS = ("input", "output", "input_tokens", "output_tokens")
_PER_TOKENS = 1_000_000
_EXPLAINED = 20  # unknown names that get a suggestion; finding one takes a second for 10,000 names
_FORMS = (
    "Allowed for each model: a cost per request, or input and output (prices per 1M tokens) with input_tokens and "
    "output_tokens (tokens per request)"
)


@dataclass(frozen=True)
class CostTable:
    """Cost of one request, by model, in one currency for all of them; 0 or more."""

    per_request: Mapping[str, float]

    def check_names(self, known: Sequence[str]) -> None:
        """Refuses costs of unknown models, whose names are mostly misspelt.

        Raises:
            UsageError: a model is unknown; the message lists the nearest known names.
        """
        for name in self.per_request.keys() - set(known):
            try:
                find_model(known, name)
            except UsageError as error:
                raise UsageError(f"cost table: {error}") from None

    def warn_of_unknown(self, known: Sequence[str]) -> None:
        """Warns of each unknown model with a cost: it may be added later, or be misspelt.

        Raises:
            UsageError: models are known, but none of those with a cost; the message lists the nearest known names.
        """
        unknown = [name for name in self.per_request if name not in set(known)]
        nearest = {name: ", ".join(nearest_models(known, name, 3)) for name in unknown[:_EXPLAINED]}
        if known and unknown and len(unknown) == len(self.per_request):
            listed = "; ".join(f"{name!r} (nearest: {near})" for name, near in nearest.items())
            raise UsageError(
                f"cost table: none of its {len(unknown)} models is among the {len(known)} known, so nothing could be "
                f"routed to: {listed}. Fix: take known names"
            )
        for name, near in nearest.items():
            hint = f"; nearest of the {len(known)} known: {near}" if near else ""
            warnings.warn(f"cost of {name!r}: no such model so far{hint}", UserWarning, stacklevel=2)
        if rest := unknown[_EXPLAINED:]:
            warnings.warn(f"cost of {len(rest)} more unknown models: {', '.join(rest)}", UserWarning, stacklevel=2)

    def unpriced(self, known: Sequence[str]) -> list[str]:
        """Known models without a cost, to which nothing can be routed."""
        return [name for name in known if name not in self.per_request]

    def costs_of(self, candidates: Sequence[str]) -> tuple[float, ...]:
        """The cost of each candidate.

        Raises:
            UsageError: a candidate has no cost.
        """
        missing = self.unpriced(candidates)
        if missing:
            raise UsageError(f"no cost of {', '.join(missing)}. Fix: add it to the cost table, or leave the model out")
        return tuple(self.per_request[name] for name in candidates)


def load_costs(path: str | Path) -> CostTable:
    """The cost table in a file.

    JSON and TOML: an object from model to a cost per request, or to an object with `input` and `output` (prices per
    1M tokens), `input_tokens` and `output_tokens` (tokens per request). CSV, TSV, JSON lines and Parquet: a column
    `model`, and a column `cost` or those four.

    Raises:
        DataError: the file cannot be read, has no models, names a model twice, or has an invalid cost.
    """
    source = Path(path)
    if source.suffix.lower() in (".json", ".toml"):
        entries = _read_object(source)
    else:
        rows = open_rows(source)
        if "model" not in rows.columns:
            raise DataError(
                f"{path}: no column 'model' (columns: {', '.join(rows.columns)}). Allowed: model, and cost or "
                f"{', '.join(_PRICE_COLUMNS)}"
            )
        entries = [
            (str(row.get("model") or "").strip(), row if row.get("cost") in (None, "") else row["cost"])
            for batch in rows.rows(rows.columns)
            for row in batch
        ]
    if not entries:
        raise DataError(f"{path}: no model in the cost table. {_FORMS}")
    table: dict[str, float] = {}
    for name, value in entries:
        if name in table or not name:
            raise DataError(f"{path}: {'model ' + repr(name) + ' is there twice' if name else 'a row names no model'}")
        table[name] = _cost_of(value, f"{path}: {name}")
    return CostTable(table)


def _read_object(path: Path) -> list[tuple[str, Any]]:
    try:
        text = path.read_text("utf-8")
        if path.suffix.lower() == ".toml":
            return list(tomllib.loads(text).items())
        value = json.loads(text, object_pairs_hook=_Pairs)
    except (OSError, ValueError) as error:  # both decoders' errors are ValueErrors
        raise DataError(f"{path}: {error}. Fix: a JSON or TOML object from model to cost") from error
    if not isinstance(value, _Pairs):
        raise DataError(f"{path}: holds {type(value).__name__}, not an object. {_FORMS}")
    return [(name, dict(each) if isinstance(each, _Pairs) else each) for name, each in value]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object before repeated keys are lost."""


def _cost_of(value: Any, place: str) -> float:
    if not isinstance(value, Mapping):
        return _number(value, place)
    missing = [column for column in _PRICE_COLUMNS if value.get(column) in (None, "")]
    if missing:
        raise DataError(f"{place}: without {', '.join(missing)}. {_FORMS}")
    price_in, price_out, n_in, n_out = (_number(value[column], f"{place}, {column}") for column in _PRICE_COLUMNS)
    return (price_in * n_in + price_out * n_out) / _PER_TOKENS


def _number(value: Any, place: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise DataError(f"{place}: {value!r} is not a cost. {_FORMS}; each a finite number, 0 or more")
    return number
