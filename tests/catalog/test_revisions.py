"""What became of each model: numbers, times, hashes; on disk; what changes nothing is no revision."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, enrol, extend_catalog, merge_catalogs, remove
from model_behavior.catalog.revisions import Revision, Revisions, digest_row, record_changes, revisions_of
from model_behavior.data.arena import Arena
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import ArtifactError

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def rows_of(pairs: PairTable, chosen: slice) -> PairTable:
    return replace(
        pairs,
        responses=pairs.responses[chosen],
        histories=pairs.histories[chosen],
        prompt_index=pairs.prompt_index[chosen],
        model_index=pairs.model_index[chosen],
    )


@pytest.fixture(scope="module")
def new(known: Artifact, arena: Arena) -> Catalog:
    """The held-out models by half of their responses."""
    return enrol(known.encoder, rows_of(arena.held_out_responses, slice(None, None, 2)), 256)


def test_a_model_comes_changes_goes_and_comes_back(known: Artifact, new: Catalog, arena: Arena) -> None:
    name, others = new.models.names[0], known.catalog
    one = remove(new, new.models.names[1:])
    first = merge_catalogs(others, one)
    second = extend_catalog(first, known.encoder, rows_of(arena.held_out_responses, slice(1, None, 2)), 256)
    second = remove(second, new.models.names[1:])
    recorded: Revisions = {}
    steps = [(others, first), (first, second), (second, second), (second, others), (others, first)]
    for hour, (before, after) in enumerate(steps):
        time = (NOON + timedelta(hours=hour)).astimezone(timezone(timedelta(hours=5)))
        recorded = record_changes(recorded, before, after, time)
    row = first.models.names.index(name)
    counts = [int(each.models.count[row]) for each in (first, second)]
    digests = [digest_row(each, row) for each in (first, second)]
    assert counts[1] > counts[0] and digests[0] != digests[1]
    assert recorded == {
        name: (
            Revision(1, "2026-01-02T12:00:00Z", "enrolled", counts[0], digests[0]),
            Revision(2, "2026-01-02T13:00:00Z", "updated", counts[1], digests[1]),
            Revision(3, "2026-01-02T15:00:00Z", "removed", 0, ""),
            Revision(4, "2026-01-02T16:00:00Z", "enrolled", counts[0], digests[0]),
        )
    }
    assert revisions_of(recorded, first, row) == recorded[name]


def test_a_model_of_the_training_is_the_first_revision_without_a_time(known: Artifact) -> None:
    catalog = known.catalog
    row = len(catalog.models) // 2
    name, count = catalog.models.names[row], int(catalog.models.count[row])
    first = Revision(1, None, "enrolled", count, digest_row(catalog, row))
    assert revisions_of({}, catalog, row) == (first,)
    recorded = record_changes({}, catalog, remove(catalog, [name]), NOON)
    assert recorded == {name: (first, Revision(2, "2026-01-02T12:00:00Z", "removed", 0, ""))}


def test_numbers_go_on_where_old_revisions_are_left_out(known: Artifact) -> None:
    with_it, without = known.catalog, remove(known.catalog, [known.models.names[0]])
    recorded: Revisions = {}
    for _ in range(15):
        recorded = record_changes(recorded, with_it, without)
        recorded = record_changes(recorded, without, with_it)
    numbers = [each.number for each in recorded[known.models.names[0]]]
    assert numbers == list(range(12, 32))  # the first, 30 changes, and of these 31 the last 20


def test_a_hash_is_of_everything_that_is_known_of_a_model(known: Artifact) -> None:
    catalog, row = known.catalog, 3
    models, samples = catalog.models, catalog.samples
    one_less = [index for index in range(len(models)) if index != 0]
    assert digest_row(remove(catalog, [models.names[0]]), one_less.index(row)) == digest_row(catalog, row)
    others = []
    for name in ("mean", "count"):
        array = np.array(getattr(models, name))
        array[row] += 1
        others.append(Catalog(replace(models, **{name: array}), samples))  # type: ignore[arg-type]
    for name in ("style_mean", "style_deviation"):
        array = np.array(getattr(samples, name))
        array[row] += 1
        others.append(Catalog(models, replace(samples, **{name: array})))  # type: ignore[arg-type]
    exemplars = (*samples.exemplars[:row], samples.exemplars[row][:1], *samples.exemplars[row + 1 :])
    others.append(Catalog(models, replace(samples, exemplars=exemplars)))
    answers = (*samples.answers[:row], {}, *samples.answers[row + 1 :])
    others.append(Catalog(models, replace(samples, answers=answers)))
    digests = {digest_row(each, row) for each in (catalog, *others)}
    assert len(digests) == 7 and {digest_row(each, row + 1) for each in others} == {digest_row(catalog, row + 1)}


def test_revisions_are_saved_verified_and_absent_from_older_folders(
    known: Artifact, new: Catalog, tmp_path: Path
) -> None:
    known.save(tmp_path / "a")
    stored = tmp_path / "a" / "revisions.json"
    assert not stored.exists() and Artifact.load(tmp_path / "a").revisions == {}
    grown = known.with_catalog(merge_catalogs(known.catalog, new))
    assert known.revisions == {} and {each[0].change for each in grown.revisions.values()} == {"enrolled"}
    grown.save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.revisions == grown.revisions
    shrunk = loaded.with_catalog(remove(loaded.catalog, new.models.names))
    shrunk.save(tmp_path / "a")
    assert [each.number for each in Artifact.load(tmp_path / "a").revisions[new.models.names[0]]] == [1, 2]
    stored.write_text(json.dumps({}))
    with pytest.raises(ArtifactError, match=r"revisions\.json was altered"):
        Artifact.load(tmp_path / "a")
