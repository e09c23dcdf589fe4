"""The benchmark of large catalogs measures what it says, and makes the models that it needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from model_behavior.artifact import Artifact
from model_behavior.benchmarks.catalog_size import (
    CatalogCost,
    enlarge,
    measure_change,
    measure_serving,
    write_catalog_report,
)
from model_behavior.data.arena import Arena
from tests.conftest import held_out_rows


def test_a_larger_catalog_is_changed_and_served(scored_arena: Path, arena: Arena, tmp_path: Path) -> None:
    rows = [{**row, "model": ""} for row in held_out_rows(arena) if row["model"] == arena.held_out[0]]
    responses = tmp_path / "responses.jsonl"
    responses.write_text("\n".join(json.dumps({key: row[key] for key in ("prompt", "response")}) for row in rows))
    loaded = Artifact.load(scored_arena / "a")
    larger = enlarge(loaded, 40)
    assert len(larger.models) == 40 and set(loaded.models.names) < set(larger.models.names)
    assert larger.trained_scorer.models == tuple(sorted(larger.models.names))
    larger.save(tmp_path / "larger")
    change = measure_change(tmp_path / "larger", responses)
    serve = measure_serving(tmp_path / "larger", responses)
    assert (change.models, serve.models) == (40, 41)
    names = Artifact.load(tmp_path / "larger").models.names
    assert {"one-more", "uploaded"} < set(names) and len(names) == 42
    assert min(*change.seconds, *serve.seconds) >= 0 and np.sum(serve.seconds) > 0
    assert change.written_bytes is None or change.written_bytes > 10_000
    text = write_catalog_report([CatalogCost(change, serve)], "a", "the command")
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| 4")]
    assert [line[0] for line in lines] == ["| 40", "| 41"] and "the command" in text
    assert [len(line) for line in lines] == [8, 7]
