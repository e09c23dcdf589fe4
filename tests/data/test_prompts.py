"""Prompts from text files, tables and votes."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_behavior.data.arena import Arena, write_votes
from model_behavior.data.questions import load_prompts
from model_behavior.errors import DataError


def test_text_has_one_prompt_per_line_and_keeps_repeats(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\ufeffone\n\n  two \none\n", "utf-8")
    prompts, report = load_prompts(tmp_path / "p.txt")
    assert prompts == ["one", "two", "one"]
    (source,) = report.sources
    assert (source.rows, source.used, source.skipped) == (4, 3, {"empty": 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", 'id,prompt\n1,one\n2,\n3,"two, too"\n'),
        ("p.jsonl", '{"prompt": "one"}\n{"prompt": null}\n{"prompt": "two, too"}\n'),
        ("p.json", '[{"prompt": "one"}, {"prompt": ""}, {"prompt": "two, too"}]'),
    ],
)
def test_a_table_needs_only_a_column_prompt(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    prompts, report = load_prompts(tmp_path / name)
    assert prompts == ["one", "two, too"]
    assert (report.sources[0].rows, report.sources[0].used) == (3, 2)


def test_votes_give_the_prompt_of_every_vote(tmp_path: Path, arena: Arena) -> None:
    write_votes(arena, tmp_path / "votes.parquet")
    prompts, report = load_prompts(tmp_path / "votes.parquet")
    assert set(prompts) == set(arena.votes.pairs.prompts.to_pylist())
    assert len(prompts) == report.sources[0].used == report.sources[0].rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", b"\n \n", "no prompt in it"),
        ("p.txt", b"\xff\xfe\xfa", "UTF-8"),
        ("p.csv", b"question\nhello\n", "would do for prompts"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_prompts(tmp_path / name)
