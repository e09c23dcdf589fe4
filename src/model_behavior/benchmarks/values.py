"""Results as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from model_behavior.evaluation.stage2 import Cell


def plain_values(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists, keys as texts; a cell as its label."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_values(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key.label if isinstance(key, Cell) else str(key): plain_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(each) for each in value]
    return value
