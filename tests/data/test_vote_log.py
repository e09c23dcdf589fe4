"""Lines of the log that nobody has appended: they are counted, and left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_behavior.data.vote_log import LoggedThumb, LoggedVote, VoteLog, ledger_of_log

VOTE = {"kind": "vote", "id": "v", "prompt": 1, "model_a": "a", "model_b": "b", "outcome": "tie"}
THUMB = {"kind": "thumb", "id": "t", "prompt": 1, "model": "a", "up": True}
OTHERS: list[dict[str, object]] = [
    {**VOTE, "prompt": -5},
    {**VOTE, "prompt": 1 << 64},
    {**VOTE, "prompt": "1"},
    {**VOTE, "prompt": True},
    {**VOTE, "id": 7},
    {**VOTE, "model_a": ["a"]},
    {**VOTE, "outcome": ["tie"]},
    {**VOTE, "outcome": "other"},
    {**THUMB, "up": 1},
    {**THUMB, "model": None},
]


@pytest.mark.parametrize("line", [*map(json.dumps, OTHERS), "[" * 100_000, "9" * 5_000, "\x00", "null"])
def test_a_line_that_is_no_entry_is_counted_and_left_out(tmp_path: Path, line: str) -> None:
    log = VoteLog(tmp_path / "votes.jsonl")
    log.path.write_text("\n".join([json.dumps(VOTE), line, json.dumps(THUMB), ""]))
    assert log.entries() == [LoggedVote("v", 1, "a", "b", "tie"), LoggedThumb("t", 1, "a", up=True)]
    assert log.damaged == 1 and len(ledger_of_log(log.entries())) == 1
