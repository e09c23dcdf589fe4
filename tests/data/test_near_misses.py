"""Files that are nearly in a known format, or would give a wrong text: what a person is told, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_behavior.data.loading import load_responses, load_votes
from model_behavior.data.ratings import load_battles
from model_behavior.data.reading import ReadingOptions
from model_behavior.errors import DataError, UsageError

Row = dict[str, Any]
TREE, OAK = "Name a tree.", "Oak."
TALK = [{"role": "user", "content": TREE}, {"role": "assistant", "content": OAK}]
PLAIN: Row = {
    "prompt": TREE,
    "model_a": "m",
    "response_a": OAK,
    "model_b": "n",
    "response_b": "Elm.",
    "winner": "tie",
}
ARENA: Row = {"model_a": "m", "model_b": "n", "winner": "tie", "conversation_a": TALK, "conversation_b": TALK}
ALPACA: Row = {
    "instruction": TREE,
    "output_1": OAK,
    "generator_1": "m",
    "output_2": "Elm.",
    "generator_2": "n",
    "preference": 1,
}


def without(row: Row, *columns: str) -> Row:
    return {column: value for column, value in row.items() if column not in columns}


def renamed(row: Row, **names: str) -> Row:
    return {names.get(column, column): value for column, value in row.items()}


def answer(response: Any, **more: Any) -> Row:
    return {"prompt": TREE, "response": response, "model": "m", **more}


VOTES: list[tuple[Row, str]] = [
    (without(PLAIN, "winner"), "Nearest format: plain table; missing: winner. Fix: add or rename columns. Or say"),
    (
        renamed(PLAIN, winner="winer"),
        "Fix: rename 'winer' to 'winner'. Or say which column is which: --columns winner=",
    ),
    (renamed(PLAIN, winner="verdict"), "--columns winner=verdict."),
    (renamed(PLAIN, model_a="modelA", model_b="modelB"), "--columns model_a=modelA,model_b=modelB."),
    (renamed(PLAIN, model_a="llm_1", model_b="llm_2"), "--columns model_a=llm_1,model_b=llm_2."),
    (
        renamed(PLAIN, response_a="answer_a", response_b="answer_b"),
        "--columns response_a=answer_a,response_b=answer_b.",
    ),
    (renamed(PLAIN, prompt="Question text"), "Nearest format: plain table; missing: prompt."),
    (without(PLAIN, "response_a", "response_b"), "Nearest format: plain table; missing: response_a, response_b."),
    (without(PLAIN, "model_a", "model_b"), "missing: model_a, model_b."),
    (without(PLAIN, "model_a", "model_b", "winner"), "this is the test file without model names"),
    (
        {**PLAIN, "conversation_a": TALK, "conversation_b": TALK},
        "conversation_a, conversation_b would go unread. Fix: say",
    ),
    ({**PLAIN, "response_1": "x", "response_2": "y"}, "Read as plain table, PPE human preference, response_1"),
    ({**renamed(PLAIN, prompt="Prompt"), "PROMPT ": "x"}, "the columns 'Prompt' and 'PROMPT ' are both named like"),
    ({**PLAIN, "winner": "tiebreak"}, "unknown outcome 'tiebreak' in column winner."),
    ({**PLAIN, "winner": "tie-breaker"}, "Fix: say what it means with --outcome 'tie-breaker'=model_a"),
    ({**PLAIN, "winner": "ab"}, "unknown outcome 'ab'"),
    ({**PLAIN, "winner": "m"}, "--outcome m=model_a (or model_b, tie, both_bad)"),
    ({**PLAIN, "winner": 0}, "unknown outcome 0 in column winner. Allowed: model_a, model_b, tie, both_bad"),
    ({**PLAIN, "model_a": "gpt\u202e4"}, "model_a is 'gpt\\u202e4', which holds the bidirectional character U+202E."),
    ({**PLAIN, "model_b": "gpt\n4"}, "which holds the control character U+000A."),
    ({**PLAIN, "response_a": [OAK, "Elm."]}, "response_a is a list of 2 texts, ['Oak.', 'Elm.']. Allowed: one text."),
    ({**PLAIN, "response_a": {"x": 1}}, "response_a is {'x': 1}. Allowed: text, a list of parts"),
    (
        {**PLAIN, "response_b": "ModelResponseStream(id='1', choices=[])"},
        "response_b is a stream or a chunk of one that",
    ),
    ({**ARENA, "conversation_a": "[{'role': 'user'}]"}, "Fix: export the data as Parquet or JSON lines."),
    (without(ARENA, "conversation_b"), "Nearest format: arena conversations; missing: conversation_b."),
    ({**ARENA, "conversation_b": [{"speaker": "user", "text": TREE}]}, "conversation_b holds {'speaker'"),
    ({**ARENA, "turn": "last"}, "turn is 'last'. Allowed: a whole number from 1."),
    (without(ALPACA, "generator_1", "generator_2"), "Nearest format: AlpacaEval annotations; missing: generator_1, g"),
    ({**ALPACA, "preference": 3}, "preference is 3. Allowed: a number from 1 (output_1 is better) to 2"),
    (without(ALPACA, "preference"), "--columns preference=NAME."),
    ({"prompt": TREE, "chosen": OAK, "rejected": "Elm."}, "--columns chosen_model=NAME,rejected_model=NAME."),
    (
        {"prompt": TREE, "chosen": TALK, "rejected": TALK, "messages": TALK, "score_chosen": 8.0},
        "Votes need the names of both models: --columns chosen_model=NAME,rejected_model=NAME.",
    ),
    (
        {"prompt": TREE, "answers": [OAK, "Elm."]},
        "Allowed: a list of objects with model, answer, rank. Fix: write one row",
    ),
    (
        {"instruction": TREE, "completions": [{"response": OAK}]},
        "a list of objects with model, response, overall_score.",
    ),
    (
        {"instruction": TREE, "input": "", "response1": OAK, "response2": "Elm.", "annotator1": 1},
        "Nearest format: PandaLM; missing: cmp_key.",
    ),
    ({"model_a": "m", "model_b": "n", "winner": "tie"}, "holds battles without texts"),
    (
        {"question_id": 1, "model": "m", "judge": "j", "games": [{"score": "A>B"}]},
        "holds judgments (Arena-Hard judgments)",
    ),
    ({"question_id": 1, "turns": [TREE]}, "holds questions alone (FastChat questions)."),
    (
        {"data": {"rating": 7, "model_id": "m", "sibling_model_ids": ["n"]}, "snapshot": {}},
        "data.rating is 7. Allowed: 1",
    ),
    (
        answer(OAK),
        "holds responses (prompt-response table), but votes are needed here. Fix: leave it out, or load it as",
    ),
    ({"model": "m", "rating": 1200.5}, "this is a leaderboard (columns: model, rating)"),
    (
        renamed(PLAIN, model_a="modelA", model_b="modelB", response_a="responseA", response_b="responseB"),
        "--columns model_a=modelA,response_a=responseA,model_b=modelB,response_b=responseB.",
    ),
    ({"question": TREE, "answer_0": OAK, "answer_1": "Elm.", "score_0": 1}, "response_a=answer_0,model_b=NAME"),
    ({**ALPACA, "preference": True}, "preference is True. Allowed: a number from 1"),
    ({**ALPACA, "preference": 0.5}, "preference is 0.5. Allowed: a number from 1"),
    ({**PLAIN, "model_a": "a\u2028b"}, "which holds the control character U+2028."),
]
RESPONSES: list[tuple[Row, str]] = [
    ({"prompt": TREE}, "Nearest format: prompt-response table; missing: response."),
    ({"response": OAK}, "Nearest format: prompt-response table; missing: prompt."),
    (
        {"promt": TREE, "response": OAK},
        "Fix: rename 'promt' to 'prompt'. Or say which column is which: --columns prompt=",
    ),
    ({"prompt": TREE, "reply": OAK}, "--columns response=reply."),
    ({"text": TREE}, "Fix: say which column is which with --columns prompt=NAME,response=NAME."),
    (
        {"question": TREE, "answer": "gold", "response": OAK},
        "several columns may hold the text: question, answer, response.",
    ),
    (
        answer(OAK, output="x"),
        "output would go unread. Fix: say which are meant with --columns prompt=NAME,response=NAME",
    ),
    (answer(OAK, messages=TALK), "or messages=messages for the conversation alone"),
    ({"messages": TALK, "answer": "42"}, "Read as chat log, answer would go unread."),
    ({"question": TREE, "choices": ["a", "b"], "answer": 2}, "choices would go unread."),
    (
        {"messages": "[{'role': 'user', 'content': 'p'}]"},
        "Allowed: a list of {role, content}, or JSON text of one. Fix:",
    ),
    ({"messages": [{"author": "user", "text": TREE}]}, "Allowed: messages like {role, content}. Fix: rename the keys."),
    ({"messages": TALK[:1], "choices": [{"delta": {"content": "O"}, "index": 0}]}, "choices is one chunk of a stream"),
    (answer({"object": "chat.completion.chunk", "choices": []}), "response is one chunk of a stream"),
    (answer([{"object": "chat.completion.chunk"}]), "Fix: join the chunks' text before logging"),
    (
        answer('data: {"choices":[{"delta":{"content":"O"}}]}'),
        "response is a stream or a chunk of one that was printed",
    ),
    (answer("<generator object stream at 0x7f001>"), "log the response of a call without stream=True."),
    (answer("ChatCompletion(id='1', choices=[Choice(message=x)])"), "response is a Python object that was printed"),
    (
        answer("{'id': '1', 'choices': [{'message': {'content': 'Oak.'}}]}"),
        "response was printed by Python, and is no JSON",
    ),
    (answer("<openai.Thing object at 0x7f001>"), "response is a Python object that was printed"),
    ({"prompt": "b'Name'", "response": "b'Oak.'", "model": "m"}, "prompt and response are bytes that were printed"),
    (answer([OAK, "Elm."]), "response is a list of 2 texts"),
    (answer({"final": OAK, "draft": "Elm."}), "--columns response=response.KEY."),
    (
        {"id": "1", "object": "chat.completion", "choices": [{"message": TALK[1]}]},
        "messages and choices; missing: messages.",
    ),
    (
        {"question_id": 1, "choices": [{"turns": [OAK]}]},
        "holds answers (FastChat answers) whose prompts are in another file.",
    ),
    ({"custom_id": "1", "response": {"body": {}}}, "or --questions requests.jsonl."),
    ({"custom_id": "1", "method": "POST", "url": "/v1", "body": {}}, "holds questions alone (OpenAI Batch input)."),
    (
        {"messages": "[{'role': 'user', 'content': 'p'}]", "response": OAK},
        "messages was printed by Python, and is no JSON. Fix: write it with json.dumps",
    ),
    ({"conversations": "hello"}, "conversations is 'hello'. Allowed: a list of {role, content}"),
    ({"input": TREE, "expected_output": OAK}, "Nearest format: input and output; missing: output."),
    ({"inputs": TREE, "outputs": OAK}, "--columns input=inputs,output=outputs."),
    ({"attributes": {"http.method": "GET"}}, "no LLM call in the span: 1"),
    ({"resourceSpans": "x"}, "resourceSpans is 'x'. Allowed: a list of objects, as OpenTelemetry exports them."),
    ({"doc": {}, "arguments": [[TREE]], "filtered_resps": ["x"]}, "Nearest format: lm-eval samples; missing: resps."),
    ({"doc": {}, "arguments": [[TREE]], "resps": [[[-1.0, False]]]}, "log-likelihoods of given answers, no text: 1"),
    (answer(OAK, model=["m"]), "model is ['m']. Allowed: a model's name as text. Fix: write one name."),
    ({"instruction": TREE, "input": "x", "answer": OAK, "output": "y"}, "answer would go unread."),
    (answer(" ModelResponseStream(id='1')"), "response is a stream or a chunk of one that was printed"),
    (
        answer("[ModelResponseStream(id='1'), ModelResponseStream(id='2')]"),
        "a stream or a chunk of one that was printed",
    ),
    (answer(True), "response is True. Allowed: text"),
    (
        {"messages": [{"role": "customer", "content": TREE}, {"role": "agent", "content": OAK}]},
        "no text of a user, but of the roles 'agent', 'customer': 1",
    ),
    ({"message_id": "x", "text": TREE, "role": "prompter"}, "--columns prompt=NAME,response=NAME."),
    (
        {"results": {}, "configs": {}, "versions": {}},
        "these are scores of lm-eval (columns: results, configs, versions)",
    ),
]


@pytest.mark.parametrize(("row", "message"), VOTES, ids=[message[:60] for _, message in VOTES])
def test_near_misses_of_votes(tmp_path: Path, row: Row, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(DataError) as caught:
        load_votes(path)
    check(str(caught.value), path, message)


@pytest.mark.parametrize(("row", "message"), RESPONSES, ids=[message[:60] for _, message in RESPONSES])
def test_near_misses_of_responses(tmp_path: Path, row: Row, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(DataError) as caught:
        load_responses(path, model="m")
    check(str(caught.value), path, message)


def check(shown: str, path: Path, message: str) -> None:
    assert shown.startswith(str(path))
    assert message in shown, shown
    assert "Fix: " in shown, shown
    assert len(shown) < 900


def test_there_are_sixty() -> None:
    assert len(VOTES) + len(RESPONSES) >= 60


def test_a_column_that_comes_late_is_no_silent_change_of_text(tmp_path: Path) -> None:
    rows = [{"messages": TALK}] * 1001 + [{"messages": TALK[:1], "response": OAK}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        DataError, match="row 1002: the column 'response', which may hold the text, is here for the first"
    ):
        load_responses(path, model="m")


def test_answers_that_look_like_objects_stay(tmp_path: Path) -> None:
    texts = [
        '{"answer": 4}',
        "[1, 2]",
        "{'a': 1}",
        "b'x'",
        "Message(content) is a class.",
        "data: the plural of datum",
        "<b>bold</b>",
        '{"choices": ["red", "green"]}',
        '[{"role_of": "x"}]',
        "{'type': 'text', 'content': 'y'}",
        "Message(content='hi')",
        "<generator object <genexpr> at 0x7f001>",
        "<__main__.Foo object at 0x7f001>",
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(answer(text)) + "\n" for text in texts))
    pairs, report = load_responses(path)
    assert pairs.responses.to_pylist() == texts
    assert report.sources[0].skipped == {}


@pytest.mark.parametrize(
    ("columns", "outcomes", "message"),
    [
        (["prompt"], [], "--columns is 'prompt'. Allowed: KNOWN=NAME"),
        (["prompt="], [], "--columns is 'prompt='. Allowed: KNOWN=NAME"),
        (["promt=x"], [], "--columns names 'promt', which no format has. .* Near ones: prompt"),
        (["prompt=x,prompt=y"], [], "--columns names prompt twice: x and y"),
        ([], ["1"], "--outcome is '1'. Allowed: VALUE=OUTCOME with one of model_a, model_b, tie, both_bad"),
        ([], ["1=won"], "--outcome is '1=won'"),
        ([], ["=tie"], "--outcome is '=tie'"),
        ([], ["1=tie", "1=model_a"], "--outcome says two things of '1'"),
    ],
)
def test_options_that_cannot_be_meant(columns: list[str], outcomes: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ReadingOptions.parse(columns, outcomes)


def test_a_column_that_is_named_but_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,response\np,r\n")
    reading = ReadingOptions.parse(["prompt=question"])
    with pytest.raises(DataError, match=r"a\.csv: --columns names 'question', but .* Columns found: q, response\. Fix"):
        load_responses(tmp_path / "a.csv", reading=reading)


def test_a_choice_settles_only_what_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": TREE, "prompt": "other", "answer": OAK, "output": "raw", "model": "m"}))
    with pytest.raises(DataError, match="several columns may hold the text: question, prompt"):
        load_responses(path, reading=ReadingOptions.parse(["response=answer"]))
    pairs, report = load_responses(path, reading=ReadingOptions.parse(["response=answer,prompt=question"]))
    assert (pairs.prompts.to_pylist(), pairs.responses.to_pylist()) == ([TREE], [OAK])
    assert "not read: prompt, output" in report.sources[0].notes


def test_battles_are_read_for_ratings_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{**ARENA, "winner": winner} for winner in ("model_a", "tie (bothbad)", "")] + [{**ARENA, "model_a": "z"}]
    path.write_text("".join(json.dumps(without(row, "conversation_a", "conversation_b")) + "\n" for row in rows))
    battles, report = load_battles(path, [PLAIN], [ALPACA])
    assert battles.models == ("m", "n", "z")
    assert [battles.model_a.tolist(), battles.model_b.tolist()] == [[0, 0, 2, 0, 0], [1, 1, 1, 1, 1]]
    assert battles.outcome.tolist() == [0, 3, 2, 2, 0]
    assert [source.used for source in report.sources] == [3, 1, 1]
    with pytest.raises(DataError, match="holds responses .* but battles are needed here"):
        load_battles([answer(OAK)])
