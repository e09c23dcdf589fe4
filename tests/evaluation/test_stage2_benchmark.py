from __future__ import annotations

import numpy as np
import pytest

from model_behavior.data.arena import Arena
from model_behavior.evaluation.stage2 import CELLS
from model_behavior.evaluation.stage2_benchmark import (
    DENSE_NETWORK,
    METHODS,
    Stage2Plan,
    Stage2Result,
    run_stage2_benchmark,
)
from model_behavior.evaluation.stage2_report import write_stage2_report
from model_behavior.models.behavior.monitor import Runtime


@pytest.fixture(scope="module")
def report(arena: Arena) -> tuple[object, str, dict[str, str]]:
    plan = Stage2Plan(seeds=1, epochs=1, draws=1)
    result = run_stage2_benchmark("arena", arena.votes, plan, Runtime())
    text, pictures = write_stage2_report([result], plan, "model-behavior benchmark stage2 arena")
    return result, text, dict(pictures)


def test_all_methods_and_cells_are_in_the_report(report: tuple[object, str, dict[str, str]]) -> None:
    _, text, pictures = report
    assert all(f"| {name} |" in text for name in METHODS)
    for cell in CELLS:
        assert cell.label[1:] in text
    assert "Bradley-Terry oracle" in text and "| 32 |" in text
    assert all(f"![{name}]({name})" in text and picture.startswith("<svg") for name, picture in pictures.items())
    assert len(pictures) == 3


def test_new_models_are_predicted_by_the_dense_network_alone(report: tuple[object, str, dict[str, str]]) -> None:
    result = report[0]
    assert isinstance(result, Stage2Result)
    (seed,) = result.seeds
    new = [cell for cell in CELLS if not cell.seen_models]
    assert all(cell in seed.cells[DENSE_NETWORK] for cell in new)
    assert not any(cell in seed.cells[name] for name in METHODS if name != DENSE_NETWORK for cell in new)
    assert np.isfinite([figures.accuracy for figures in seed.cold_start.values()]).all()
