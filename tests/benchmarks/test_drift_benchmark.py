"""The benchmark of drift: which swaps it makes, and that what it reports is what it tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.benchmarks.drift import (
    HARNESSES,
    KINDS,
    OURS,
    Cell,
    DriftPlan,
    find_swaps,
    kind_of,
    run_drift_benchmark,
    write_drift_report,
)
from model_behavior.benchmarks.harnesses import CUT
from model_behavior.data.arena import Arena


def test_kinds_of_swaps_are_read_from_names() -> None:
    assert kind_of("vicuna-13b", "vicuna-13b-v1.5") == "sibling"
    assert kind_of("gpt4_0314", "gpt4_0613") == "sibling"
    assert kind_of("llama-2-70b-chat-hf", "llama-2-7b-chat-hf") == "smaller size"
    assert kind_of("llama-2-7b-chat-hf", "llama-2-70b-chat-hf") is None
    assert kind_of("Mixtral-8x22B-Instruct-v0.1", "Mixtral-8x7B-Instruct-v0.1") == "smaller size"
    assert kind_of("vicuna-13b", "guanaco-7b") == "another family"


def test_swaps_are_at_most_as_many_of_each_kind() -> None:
    models = ["vicuna-7b", "vicuna-13b", "vicuna-33b", "guanaco-7b", "guanaco-33b", "vicuna-13b-v1.5"]
    swaps = find_swaps(models, 2, np.random.default_rng(0))
    assert [swap.kind for swap in swaps] == [kind for kind in KINDS for _ in range(2)]
    assert swaps == find_swaps(models, 2, np.random.default_rng(0))
    assert all(kind_of(swap.model, swap.foreign) == swap.kind for swap in swaps)


def test_the_report_has_a_row_for_every_cell() -> None:
    cells = [
        Cell("sibling", 0.1, 64, False, {OURS: 0.25, "energy distance": 0.125}, 8),
        Cell("trailing newline", 0.0, 64, False, {OURS: 0.0, "energy distance": 0.5}, 4),
    ]
    text, pictures = write_drift_report(cells, "responses.parquet", 7, "the command")
    assert "| 10%: sibling | 64 | 8 | 0.25 | 0.12 |" in text and "| trailing newline | 64 | 4 | 0.00 | 0.50 |" in text
    assert "Too few responses to measure it." in text and not pictures


def test_a_swap_is_found_and_what_nobody_sees_changes_nothing(arena: Arena, scored_arena: Path) -> None:
    plan = DriftPlan(swaps=2, draws=1, permutations=39, sizes=(16,))
    turns: list[tuple[int, int]] = []
    pairs = arena.held_out_responses
    artifact = replace(Artifact.load(scored_arena / "a"), training=None)  # to have enough prompts
    cells = run_drift_benchmark(artifact, pairs, plan, lambda what, done, total: turns.append((done, total)))
    assert turns[-1][0] == turns[-1][1] == len(turns)
    found = {(cell.kind, cell.share, cell.same_prompts): cell.found for cell in cells}
    assert found["another family", 1.0, True][OURS] == pytest.approx(1.0)
    none, *unseen = [name for name in HARNESSES if name not in CUT]
    assert all(found[name, 0.0, False] == found[none, 0.0, False] for name in unseen)
