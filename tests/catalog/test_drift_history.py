"""The history of drift checks: what is appended stays, in order, whatever happens to a writer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from model_behavior.catalog.drift_history import PastCheck, append_checks, read_checks
from model_behavior.errors import DataError

CHECK = PastCheck("2026-11-29T06:00:00Z", "vicuña", "responses", 64, 0.001, 0.52, 0.05, True, ("uses fewer commas",))


def test_checks_are_read_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "drift.jsonl"
    assert read_checks(path) == []
    append_checks(path, [])
    assert not path.exists()
    checks = [replace(CHECK, n=n) for n in range(3)]
    append_checks(path, checks[:1])
    append_checks(path, checks[1:])
    assert read_checks(path) == checks


def test_a_line_that_a_killed_process_has_begun_costs_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "drift.jsonl"
    append_checks(path, [CHECK])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert read_checks(path) == [CHECK]
    append_checks(path, [replace(CHECK, n=65)])
    assert read_checks(path) == [CHECK, replace(CHECK, n=65)]
    path.write_bytes(b'[1]\n{"model": 1}\n\n' + whole)
    assert read_checks(path) == [CHECK]


def test_a_field_of_a_later_release_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "drift.jsonl"
    append_checks(path, [CHECK])
    path.write_text(path.read_text("utf-8").replace('"n":', '"colour": "red", "n":'), "utf-8")
    assert read_checks(path) == [CHECK]


@pytest.mark.parametrize(
    "field",
    ['"p_value": NaN', '"effect": 1e400', '"effect": "x"', '"n": 1.5', '"model": 7', '"kind": "x"', '"changed": 1'],
)
def test_a_line_with_other_values_is_left_out(tmp_path: Path, field: str) -> None:
    path = tmp_path / "drift.jsonl"
    append_checks(path, [CHECK])
    whole = path.read_text("utf-8")
    other = whole.replace("{", "{" + '"x": 0, ', 1).replace("}", f", {field}" + "}")  # the last one of a name counts
    path.write_text(other + "[" * 100_000 + "\n" + whole, "utf-8")
    assert read_checks(path) == [CHECK]


def test_writers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "drift.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append_checks(path, [replace(CHECK, n=n)]), range(40)))
    assert sorted(check.n for check in read_checks(path)) == list(range(40))


def test_a_history_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_checks(tmp_path)


def test_a_check_in_one_line() -> None:
    assert CHECK.summary() == "vicuña: changed (p = 0.001, effect 0.52, 64 new responses): uses fewer commas"
    steady = replace(CHECK, changed=False, reasons=(), kind="votes", n=1200)
    assert steady.summary() == "vicuña: no change found (p = 0.001, effect 0.52, 1,200 new votes)"
