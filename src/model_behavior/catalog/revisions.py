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


def _is_same(before: Catalog, old: int, after: Catalog, new: int) -> bool:
    """True where two rows are equal, which is quicker to see than by their hashes."""
    if before.samples.exemplars[old] != after.samples.exemplars[new]:
        return False
    if before.samples.answers[old] != after.samples.answers[new]:
        return False
    arrays = ((each.models.mean, each.models.spread, each.models.count) for each in (before, after))
    styles = (
        (each.samples.style_mean, each.samples.style_deviation, each.samples.style_count) for each in (before, after)
    )
    equal = all(
        np.array_equal(one[old], other[new])
        for pairs in (zip(*arrays, strict=True), zip(*styles, strict=True))
        for one, other in pairs
    )
    words = (each.samples.words for each in (before, after))
    one, other = (table.prompt_keys[table.rows_of(row)] for table, row in zip(words, (old, new), strict=True))
    return equal and np.array_equal(one, other)


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
    grown = dict(recorded)
    for name in sorted({*old, *new}):
        if name in old and name in new and _is_same(before, old[name], after, new[name]):
            continue
        digest = digest_row(after, new[name]) if name in new else ""
        if name in old and digest_row(before, old[name]) == digest:
            continue
        known = revisions_of(recorded, before, old[name]) if name in old else recorded.get(name, ())
        change: Change = "removed" if name not in new else "updated" if name in old else "enrolled"
        responses = int(after.models.count[new[name]]) if name in new else 0
        number = known[-1].number + 1 if known else 1
        grown[name] = (*known, Revision(number, time, change, responses, digest))[-_KEPT:]
    return grown


def revisions_to_json(recorded: Revisions) -> dict[str, list[dict[str, Any]]]:
    """Converts revisions to JSON values."""
    return {name: [vars(each) for each in recorded[name]] for name in sorted(recorded)}


def revisions_from_stored(value: Mapping[str, list[dict[str, Any]]]) -> Revisions:
    """The inverse of `revisions_to_json`.

    Raises:
        TypeError: a field is missing or unknown.
    """
    return {name: tuple(Revision(**each) for each in revisions) for name, revisions in value.items()}
