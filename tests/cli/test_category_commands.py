"""`train --ratings` with categories of ratings and of prompts, and `rank --category` of new models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from model_behavior.cli.app import run
from tests.cli.conftest import said
from tests.conftest import answer
from tests.models.scoring.test_category_rating import KINDS, N_KNOWN, PER_KIND, World

FAST = ["--encoder", "style", "--epochs", "1", "--scorer-epochs", "1", "--min-comparisons", "0"]
CODE = "Write a Python function that sorts list number {} and returns it, as code."
SUMS = "Mrs. Lane buys {} apples and eats three. How many apples does she have?"


def test_a_new_model_is_rated_by_what_suits_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(0)
    level = np.random.default_rng(1).normal(scale=80, size=len(world.names))
    with (tmp_path / "board.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "rating", "low", "high", "Coding", "math"])
        for name, overall, suit in zip(world.names[:N_KNOWN], level, world.suit, strict=False):
            elo = 1100 + overall
            rows.writerow([name, elo, elo - 5, elo + 5, elo + 173.7 * suit, elo - 173.7 * suit])
    prompts = [(CODE if place < PER_KIND else SUMS).format(place) for place in range(2 * PER_KIND)]
    for part, models in (("known", range(N_KNOWN)), ("new", range(N_KNOWN, len(world.names)))):
        with (tmp_path / f"{part}.jsonl").open("w") as file:
            for model in models:
                for place, prompt in enumerate(prompts):
                    text = world.texts[model * len(prompts) + place]
                    row = {"prompt": prompt, "model": world.names[model], "response": text}
                    if place % 3:  # a third is told by the words of its prompt
                        row["category"] = KINDS[place // PER_KIND]
                    print(json.dumps(row), file=file)
    given = ["--ratings", str(tmp_path / "board.csv"), "--responses", str(tmp_path / "known.jsonl")]
    assert run(["train", *given, "--output", str(tmp_path / "a"), *FAST, "--json"]) == 0
    assert "20 prompts are of a category with ratings: coding, math" in said(capsys)[1]
    assert run(["onboard", str(tmp_path / "a"), str(tmp_path / "new.jsonl")]) == 0
    capsys.readouterr()
    lead = []
    for kind in KINDS:
        ranked = {row["model"]: row for row in answer(capsys, "rank", tmp_path / "a", "--category", kind)}
        lead.append(np.array([ranked[name]["rating"] for name in world.names[N_KNOWN:]]))
    suit = 2 * 173.7 * world.suit[N_KNOWN:]
    assert np.corrcoef(lead[0] - lead[1], suit)[0, 1] > 0.8
    assert np.abs(lead[0] - lead[1] - suit).mean() < 0.6 * np.abs(suit).mean()
