"""Revisions: the changes of every model of a catalog, numbered from 1; a removed model that returns keeps counting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.samples import stored_rows_of

_KEPT = 20  # of a model; the numbers go on
_DIGITS = 16

Change = Literal["enrolled", "updated", "removed"]


@dataclass(frozen=True)
class Revision:
    """One change of a model.

    Attributes:
        number: number of the revision, from 1.
        changed_at: time of the change, ISO 8601 in UTC; None for a model of the training, or one that is older than
            the record of changes.
        change: kind of the change.
        responses: number of responses behind the embedding after the change.
        digest: hash of the content, hexadecimal; "" for a removed model.
    """

    number: int
    changed_at: str | None
    change: Change
    responses: int
    digest: str

    @property
    def tag(self) -> str:
        """Tells this state of the model from every other one."""
        return f"{self.number}-{self.digest}"


Revisions = Mapping[str, tuple[Revision, ...]]
"""The latest revisions of each model that was changed, oldest first; models that were removed are in it, too."""


def digest_row(catalog: Catalog, row: int) -> str:
    """Hash of everything the catalog has of one model: embedding, spread, count, style profile, samples."""
    models, samples = catalog.models, catalog.samples
    texts = [vars(each) for each in (*samples.exemplars[row], *samples.answers[row].values())]
    content = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for embedding in (models.mean, models.spread, models.count):
        content.update(np.asarray(embedding[row]).tobytes())
    for style in (samples.style_mean, samples.style_deviation, samples.style_count):
        content.update(np.asarray(style[row]).tobytes())
    content.update(samples.words.prompt_keys[samples.words.rows_of(row)].tobytes())
    return content.hexdigest()[:_DIGITS]


def revisions_of(recorded: Revisions, catalog: Catalog, row: int) -> tuple[Revision, ...]:
    """The recorded revisions of a model, oldest first; the last one is its state in the catalog."""
    first = Revision(1, None, "enrolled", int(catalog.models.count[row]), digest_row(catalog, row))
    return recorded.get(catalog.models.names[row]) or (first,)


def record_changes(recorded: Revisions, before: Catalog, after: Catalog, now: datetime | None = None) -> Revisions:
    """Adds a revision for each model that differs between two catalogs.

    Args:
        recorded: revisions up to `before`.
        before: catalog before the change.
        after: catalog after the change.
        now: time of the change; the present by default.
    """
    time = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    old, new = ({name: row for row, name in enumerate(each.models.names)} for each in (before, after))
    unchanged = _find_unchanged(before, after, old)
    grown = dict(recorded)
    for name in sorted({*old, *new} - unchanged):
        digest = digest_row(after, new[name]) if name in new else ""
        if name in old and digest_row(before, old[name]) == digest:
            continue
        known = revisions_of(recorded, before, old[name]) if name in old else recorded.get(name, ())
        change: Change = "removed" if name not in new else "updated" if name in old else "enrolled"
        responses = int(after.models.count[new[name]]) if name in new else 0
        number = known[-1].number + 1 if known else 1
        grown[name] = (*known, Revision(number, time, change, responses, digest))[-_KEPT:]
    return grown


def _find_unchanged(before: Catalog, after: Catalog, old: Mapping[str, int]) -> set[str]:
    """Models of both whose samples are one stored row, and whose numbers are the same: told without reading any."""
    names = [name for name in after.models.names if name in old]
    rows = np.array([old[name] for name in names], dtype=np.int64)
    places = np.flatnonzero([name in old for name in after.models.names])
    same = np.ones(len(names), dtype=bool)
    pairs = [(before.models, after.models, field) for field in ("mean", "spread", "count")]
    profiles = [(before.samples, after.samples, f"style_{field}") for field in ("mean", "deviation", "count")]
    for one, other, field in (*pairs, *profiles):
        equal = getattr(one, field)[rows] == getattr(other, field)[places]
        same &= equal.reshape(len(names), -1).all(axis=1)
    stored, now = stored_rows_of(before.samples), stored_rows_of(after.samples)
    return {
        name
        for name, row, place, equal in zip(names, rows.tolist(), places.tolist(), same.tolist(), strict=True)
        if equal and stored[row] is not None and stored[row] is now[place]
    }


def revisions_to_json(recorded: Revisions) -> dict[str, list[dict[str, Any]]]:
    """Converts revisions to JSON values."""
    return {name: [vars(each) for each in recorded[name]] for name in sorted(recorded)}


def revisions_from_stored(value: Mapping[str, list[dict[str, Any]]]) -> Revisions:
    """The inverse of `revisions_to_json`.

    Raises:
        TypeError: a field is missing or unknown.
    """
    return {name: tuple(Revision(**each) for each in revisions) for name, revisions in value.items()}
