"""Limits on memory: how they are written, what the machine has, and what a training may need."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_behavior import memory
from model_behavior.errors import UsageError
from model_behavior.memory import Memory, TrainingSize, check_training, estimate_training, parse_memory, spare_memory


@pytest.mark.parametrize(("text", "limit"), [("6G", 6 << 30), ("1.5g", 3 << 29), ("512 MiB", 512 << 20), ("100", 100)])
def test_limits_are_numbers_with_a_unit(text: str, limit: int) -> None:
    assert parse_memory(text) == Memory(limit, given=True)


@pytest.mark.parametrize("text", ["", "G", "-1G", "6X", "0", "6 G B"])
def test_other_limits_say_what_is_needed(text: str) -> None:
    with pytest.raises(UsageError, match="such as 6G"):
        parse_memory(text)


def test_the_least_of_what_the_system_says_is_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"meminfo": "MemTotal: 9 kB\nMemAvailable: 7 kB\n", "limit": "5000\n", "use": "1200"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_PROC", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path / "limit", tmp_path / "use"), (tmp_path / "a", tmp_path / "b")))
    assert spare_memory() == Memory(3800)
    (tmp_path / "limit").write_text("max\n")
    assert spare_memory() == Memory(7168)
    assert spare_memory().largest_matrix == 448


def test_a_training_beyond_the_limit_is_refused_with_an_estimate() -> None:
    size = TrainingSize(votes=1000, pairs=2000, prompts=900, text_bytes=3 << 20)
    needed = estimate_training(size, 65_536)
    check_training(Memory(needed, given=True), size, 65_536)
    check_training(Memory(needed - 1), size, 65_536)  # nobody has set it
    with pytest.raises(UsageError, match=r"1,000 votes with 2,000 responses may take 0\.6 GiB.*--memory 1G"):
        check_training(Memory(needed - 1, given=True), size, 65_536)


def test_the_estimate_grows_with_what_is_fitted_up_to_its_limit() -> None:
    few, many = (TrainingSize(10**6, 10**6, prompts, 10**9) for prompts in (10**4, 10**6))
    assert estimate_training(many, 1000) - estimate_training(few, 1000) == pytest.approx(990 * 20 * 1024)
    assert estimate_training(few, 2000) > estimate_training(few, 1000)
    assert estimate_training(few, 65_536) < 6 << 30, "a million votes on some thousand prompts"
