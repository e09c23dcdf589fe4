from __future__ import annotations

import json
from typing import Any

import pytest

from model_behavior.data.formats.detection import FORMATS, detect_format
from model_behavior.data.formats.records import Record, Response, Skip, Vote, parse_outcome
from model_behavior.data.formats.turns import parse_text
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

Row = dict[str, Any]
Messages = list[dict[str, Any]]


def convert(row: Row) -> Record:
    return detect_format(tuple(row)).convert(row)


def chat(*texts: Any) -> Messages:
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def arena(conversation_a: Any, conversation_b: Any, **more: Any) -> Row:
    row = {"question_id": "1", "model_a": "m", "model_b": "n", "winner": "model_a", "judge": ["gpt-4", "pair"]}
    return {**row, "conversation_a": conversation_a, "conversation_b": conversation_b, **more}


def plain(**more: Any) -> Row:
    row = {"prompt": "p", "model_a": "m", "response_a": "x", "model_b": "n", "response_b": "y", "winner": "tie"}
    return {**row, **more}


VOTE = Vote("p", "m", "x", "", "n", "y", "", Outcome.MODEL_A)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("model_a", Outcome.MODEL_A),
        (" Model_B ", Outcome.MODEL_B),
        ("tie", Outcome.TIE),
        ("TIE (inconsistent)", Outcome.TIE),
        ("tie (bothbad)", Outcome.BOTH_BAD),
        ("Tie (BothBad)", Outcome.BOTH_BAD),
        ("both_bad", Outcome.BOTH_BAD),
        ("bothbad", Outcome.BOTH_BAD),
        ("tie_bothbad", Outcome.BOTH_BAD),
        ("tie (both bad)", Outcome.BOTH_BAD),
        ("Draw", Outcome.TIE),
        ("equal", Outcome.TIE),
        ("both_good", Outcome.TIE),
        ("[[A]]", Outcome.MODEL_A),
        ("left", Outcome.MODEL_A),
        ("Model 1", Outcome.MODEL_A),
        ("b", Outcome.MODEL_B),
        ("right", Outcome.MODEL_B),
        ("A>>B", Outcome.MODEL_A),
        ("B > A", Outcome.MODEL_B),
        ("A=B", Outcome.TIE),
        (None, None),
        ("", None),
        (float("nan"), None),
    ],
)
def test_outcomes(value: Any, outcome: Outcome | None) -> None:
    assert parse_outcome(value) is outcome


@pytest.mark.parametrize("value", ["model_c", "tiebreak", "ab", 1, True, "unentschieden", "tie-ish", "c"])
def test_an_unknown_outcome_is_never_a_tie(value: Any) -> None:
    with pytest.raises(DataError, match=r"unknown outcome .*Allowed: model_a, model_b, tie"):
        parse_outcome(value)


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"winner": "model_a"}, VOTE),
        ({"winner": None}, Skip("no outcome")),
        ({"model_a": None}, Skip("no model name")),
        ({"model_b": "  "}, Skip("no model name")),
        ({"model_b": "m"}, Skip("same model on both sides")),
        ({"prompt": None}, Skip("no prompt")),
        ({"response_b": None}, Skip("no response")),
        ({"model_a": 7, "winner": "model_a"}, Vote("p", "7", "x", "", "n", "y", "", Outcome.MODEL_A)),
        ({"prompt": " ", "response_a": ""}, Vote(" ", "m", "", "", "n", "y", "", Outcome.TIE)),
    ],
)
def test_plain_table(change: Row, result: Vote | Skip) -> None:
    assert convert(plain(**change)) == result


def test_wsdm_is_a_plain_table() -> None:
    row = {"id": "1", **plain(winner="model_a"), "language": "English"}
    assert convert(row) == VOTE


def test_ppe_is_a_plain_table_with_a_warning() -> None:
    row = plain(winner="model_a")
    row["response_1"], row["response_2"] = row.pop("response_a"), row.pop("response_b")
    assert convert(row) == VOTE
    assert "evaluation only" in (detect_format(tuple(row)).warning or "")


def kaggle(**more: Any) -> Row:
    texts = {"prompt": '["p"]', "response_a": '["x"]', "response_b": '["y"]'}
    flags = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    return {"id": 1, "model_a": "m", "model_b": "n", **texts, **flags, **more}


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({}, VOTE),
        ({"winner_model_a": "1", "winner_model_b": "0", "winner_tie": "0"}, VOTE),
        ({"response_a": "[null]"}, Skip("no response")),
        ({"response_a": "[]"}, Skip("no response")),
        ({"prompt": "[null]"}, Skip("no prompt")),
        ({"prompt": "[]"}, Skip("no prompt")),
        ({"response_a": '["[null]"]'}, Vote("p", "m", "[null]", "", "n", "y", "", Outcome.MODEL_A)),
        (
            {"winner_model_a": 0, "winner_tie": 1.0},
            Vote("p", "m", "x", "", "n", "y", "", Outcome.TIE),
        ),
    ],
)
def test_kaggle(change: Row, result: Vote | Skip) -> None:
    assert convert(kaggle(**change)) == result


def test_kaggle_keeps_earlier_turns_as_history() -> None:
    row = kaggle(prompt='["p1", "p2"]', response_a='["x1", "x2"]', response_b='[null, "y2"]')
    vote = convert(row)
    assert isinstance(vote, Vote)
    assert (vote.prompt, vote.response_a, vote.response_b) == ("p2", "x2", "y2")
    assert json.loads(vote.history_a) == chat("p1", "x1")
    assert json.loads(vote.history_b) == [{"role": "user", "content": "p1"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winner_tie": 1}, r"winner_model_a=1, winner_model_b=0, winner_tie=1\. Allowed: exactly one 1"),
        ({"winner_model_a": 0}, r"winner_model_a=0, .*Allowed: exactly one 1"),
        ({"winner_tie": "maybe"}, r"winner_tie is 'maybe'\. Allowed: 0 or 1"),
        ({"prompt": "__import__('os')"}, r"prompt is .*Allowed: a JSON list"),
        ({"response_a": '{"a": 1}'}, r"response_a is .*Allowed: a JSON list"),
        ({"response_b": "[1]"}, r"response_b is '\[1\]'\. Allowed: a JSON list"),
    ],
)
def test_kaggle_errors(change: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(kaggle(**change))


PARTS = [{"type": "image", "text": None, "image": "…"}, {"type": "text", "text": "p", "image": None}]


@pytest.mark.parametrize(
    "row",
    [
        arena(chat("p", "x"), chat("p", "y")),
        arena(chat("p", "x"), chat("p", "y"), turn=1, anony=True, language="English", tstamp=1.0),
        arena(json.dumps(chat("p", "x")), json.dumps(chat("p", "y")), turn="1"),
        arena(chat(PARTS, "x"), chat(PARTS, [{"type": "text", "text": "y"}]), evaluation_order=2, is_code=False),
        arena(chat(json.dumps(PARTS), "x"), chat("p", "y")),
        arena([{"role": "system", "content": "s"}, *chat("p", "x")], chat("p", "y")),
        arena(chat("p", {"answer": "x"}), chat("p", {"answer": "y"})),
        arena(chat("p", "x"), chat("p", "y"), full_conversation=[{"user": {"role": "user", "content": "old"}}]),
        arena(chat("p", "x", "p2"), chat("p", "y", "p2")),
    ],
)
def test_arena_conversations(row: Row) -> None:
    assert convert(row) == VOTE


def test_mt_bench_votes_are_on_their_turn() -> None:
    conversations = chat("p", "x", "p2", "x2"), chat("p", "y", "p2", "y2")
    assert convert(arena(*conversations, question_id=81, turn=1)) == VOTE
    second = convert(arena(*conversations, question_id=81, turn=2, winner="tie (inconsistent)"))
    assert isinstance(second, Vote)
    assert (second.prompt, second.response_a, second.response_b) == ("p2", "x2", "y2")
    assert json.loads(second.history_b) == chat("p", "y")
    assert second.outcome is Outcome.TIE
    assert convert(arena(*conversations)) == convert(arena(*conversations, turn=2))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (arena(chat("p", "x"), chat("q", "y")), "prompts differ"),
        (arena(chat("p"), chat("p", "y")), "no response"),
        (arena(chat("p", None), chat("p", "y")), "no response"),
        (arena([], chat("p", "y")), "no prompt"),
        (arena(None, chat("p", "y")), "no prompt"),
        (arena(chat([PARTS[0]], "x"), chat([PARTS[0]], "y")), "no prompt"),
        (arena(chat("p", "x", "p2"), chat("p", "y", "p2"), turn=2), "no response"),
        (arena(chat("p", "x"), chat("p", "y"), winner=None), "no outcome"),
        (arena(chat("p", "x"), chat("p", "y"), model_b="m"), "same model on both sides"),
    ],
)
def test_arena_skips(row: Row, reason: str) -> None:
    assert convert(row) == Skip(reason)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (arena("[{'role': 'user'}]", chat("p", "y")), r"conversation_a is .*Allowed: a list of \{role, content\}"),
        (arena(chat("p", "x"), '{"role": "user"}'), "conversation_b is "),
        (arena(["p", "x"], chat("p", "y")), r"conversation_a holds 'p'\. Allowed: messages like"),
        (arena(chat("p", True), chat("p", "y")), "conversation_a is True"),
        (arena(chat("p", "x"), chat("p", "y"), turn="last"), r"turn is 'last'\. Allowed: a whole number"),
        (arena(chat("p", "x"), chat("p", "y"), model_a={}), r"model_a is \{\}\. Allowed: a model's name"),
    ],
)
def test_arena_errors(row: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(row)


def test_answers_that_happen_to_be_json_stay() -> None:
    for text in ('{"answer": 4}', '[{"type": "circle"}]', '[{"a": 1}]', '[{"type": "text"'):
        assert parse_text(text, "response") == text
    assert parse_text(7, "response") == "7"


def compar_ia(**more: Any) -> Row:
    names = {"model_a_name": "m", "model_b_name": "n", "chosen_model_name": "m", "both_equal": False}
    return {"id": 1, **names, "conversation_a": chat("p", "x"), "conversation_b": chat("p", "y"), **more}


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({}, VOTE),
        ({"chosen_model_name": "n"}, Vote("p", "m", "x", "", "n", "y", "", Outcome.MODEL_B)),
        ({"chosen_model_name": None}, Skip("no outcome")),
        ({"chosen_model_name": "other"}, Skip("chosen model is neither")),
        ({"both_equal": True, "chosen_model_name": None}, Vote("p", "m", "x", "", "n", "y", "", Outcome.TIE)),
        ({"both_equal": None}, VOTE),
        ({"both_equal": "False"}, VOTE),
        ({"model_a_name": None}, Skip("no model name")),
    ],
)
def test_compar_ia(change: Row, result: Vote | Skip) -> None:
    assert convert(compar_ia(**change)) == result


def annotation(preference: Any) -> Row:
    texts = {"instruction": "p", "output_1": "x", "output_2": "y", "generator_1": "m", "generator_2": "n"}
    return {**texts, "annotator": "gpt4", "preference": preference}


@pytest.mark.parametrize(
    ("preference", "outcome"),
    [(1, 0), (1.0, 0), (1.49, 0), (1.5, 2), (1.51, 1), (2, 1), ("2.0", 1), (0, 2), ("0.0", 2)],
)
def test_alpaca_eval_annotations(preference: Any, outcome: int) -> None:
    vote = convert(annotation(preference))
    assert isinstance(vote, Vote)
    assert vote.outcome == Outcome(outcome)


@pytest.mark.parametrize("preference", [None, float("nan"), ""])
def test_alpaca_eval_without_preference_is_skipped(preference: Any) -> None:
    assert convert(annotation(preference)) == Skip("no outcome")


@pytest.mark.parametrize("preference", [0.01, 0.99, 2.01, -1, "output_1", [1]])
def test_alpaca_eval_preference_out_of_range(preference: Any) -> None:
    with pytest.raises(DataError, match=r"preference is .*Allowed: a number from 1 .* to 2"):
        convert(annotation(preference))


@pytest.mark.parametrize(
    ("row", "result"),
    [
        ({"instruction": "p", "output": "x", "generator": "m"}, Response("p", "x", "", "m")),
        ({"instruction": "p", "output": "x", "dataset": "koala"}, Response("p", "x", "", None)),
        ({"instruction": "p", "output": None}, Skip("no response")),
        ({"uid": "1", "model": "m", "messages": chat("p", {"answer": "x"})}, Response("p", "x", "", "m")),
        ({"messages": [{"role": "system", "content": "s"}, *chat("p", "x")]}, Response("p", "x", "", None)),
        ({"messages": json.dumps(chat("p", "x"))}, Response("p", "x", "", None)),
        ({"messages": []}, Skip("no prompt")),
        ({"messages": chat("p")}, Skip("no response")),
        ({"prompt": "p", "response": "x"}, Response("p", "x", "", None)),
        ({"prompt": "p", "response": "x", "model": "m", "category": "c"}, Response("p", "x", "", "m")),
        ({"prompt": None, "response": "x"}, Skip("no prompt")),
    ],
)
def test_responses(row: Row, result: Response | Skip) -> None:
    assert convert(row) == result


def test_a_tool_call_before_the_answer_is_passed_over() -> None:
    messages = [*chat("p", None), {"role": "tool", "content": "42"}, {"role": "assistant", "content": "x"}]
    assert convert({"messages": messages}) == Response("p", "x", "", None)


def test_a_longer_log_keeps_its_history() -> None:
    response = convert({"messages": chat("p1", "x1", "p2", "x2")})
    assert isinstance(response, Response)
    assert (response.prompt, response.response) == ("p2", "x2")
    assert json.loads(response.history) == chat("p1", "x1")


def test_every_format_is_found_by_its_own_columns() -> None:
    for known in FORMATS:
        assert detect_format((*known.required, "extra")) is known


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ("id", "prompt", "response_a", "response_b"),
            "this is the test file without model names (columns: id, prompt, response_a, response_b). "
            "Fix: use train.csv or train.parquet.",
        ),
        (
            ("prompt", "model_a", "response_a", "model_b", "response_b"),
            "unknown format. Columns found: prompt, model_a, response_a, model_b, response_b. Nearest format: "
            "plain table; missing: winner. Fix: add or rename columns.",
        ),
        (
            ("Prompt", "model_a", "response_a", "model_b", "response_b", "Winner"),
            "unknown format. Columns found: Prompt, model_a, response_a, model_b, response_b, Winner. Nearest format: "
            "plain table; missing: prompt, winner. Fix: rename 'Prompt' to 'prompt'; rename 'Winner' to 'winner'.",
        ),
        (
            ("x", "y"),
            "unknown format. Columns found: x, y. Allowed for votes, at least: prompt, model_a, response_a, model_b, "
            "response_b, winner; for responses: prompt, response.",
        ),
    ],
)
def test_unknown_columns(columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as caught:
        detect_format(columns)
    assert str(caught.value) == message
