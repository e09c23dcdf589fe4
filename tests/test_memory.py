"""Limits on memory: how they are written, what the machine has, and what a training may need."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_behavior import memory
from model_behavior.errors import UsageError
from model_behavior.memory import Memory, check_training, estimate_training, parse_memory, spare_memory


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
    sizes = (1000, 2000, 3 << 20, 65_536)
    needed = estimate_training(*sizes)
    check_training(Memory(needed, given=True), *sizes)
    check_training(Memory(needed - 1), *sizes)  # nobody has set it
    with pytest.raises(UsageError, match=r"1,000 votes with 2,000 responses may take 0\.7 GiB.*--memory 1G"):
        check_training(Memory(needed - 1, given=True), *sizes)
