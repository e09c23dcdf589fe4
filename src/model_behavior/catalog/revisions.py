"""What became of every model of a catalog: its revisions, numbered from 1, also over a removal and a return."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from model_behavior.catalog.enrolment import Catalog

_KEPT = 20  # of a model; the numbers go on
_DIGITS = 16

Change = Literal["enrolled", "updated", "removed"]


@dataclass(frozen=True)
class Revision:
    """A model as it was from one change to the next.

    Attributes:
        number: 1 for the first, one more with each change.
        changed_at: ISO 8601 in UTC; None for a model that is there since the training, or since before its changes
            were recorded.
        change: what happened.
        responses: behind the embedding from then on.
        digest: of the content, hexadecimal; "" of a model that was removed.
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
    """A hash of what is known of one model: embedding, spread and count, style profile, responses kept as text."""
    models, samples = catalog.models, catalog.samples
    texts = [asdict(each) for each in (*samples.exemplars[row], *samples.answers[row].values())]
    content = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for embedding in (models.mean, models.spread, models.count):
        content.update(np.asarray(embedding[row]).tobytes())
    for style in (samples.style_mean, samples.style_deviation, samples.style_count):
        content.update(np.asarray(style[row]).tobytes())
    return content.hexdigest()[:_DIGITS]


def revisions_of(recorded: Revisions, catalog: Catalog, row: int) -> tuple[Revision, ...]:
    """What is known of a model's changes, oldest first; the last one is what the catalog holds."""
    first = Revision(1, None, "enrolled", int(catalog.models.count[row]), digest_row(catalog, row))
    return recorded.get(catalog.models.names[row]) or (first,)


def record_changes(recorded: Revisions, before: Catalog, after: Catalog, now: datetime | None = None) -> Revisions:
    """One more revision of each model that differs between two catalogs.

    Args:
        recorded: up to `before`.
        before: the catalog as it was.
        after: as it is now.
        now: when it was changed; the present by default.
    """
    time = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    old, new = ({name: row for row, name in enumerate(each.models.names)} for each in (before, after))
    grown = dict(recorded)
    for name in sorted({*old, *new}):
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
    """As JSON values."""
    return {name: [asdict(each) for each in recorded[name]] for name in sorted(recorded)}


def revisions_from_stored(value: Mapping[str, list[dict[str, Any]]]) -> Revisions:
    """The inverse.

    Raises:
        TypeError: something is missing or does not fit.
    """
    return {name: tuple(Revision(**each) for each in revisions) for name, revisions in value.items()}
