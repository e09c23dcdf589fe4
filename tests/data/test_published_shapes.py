"""One file of every published shape, made from its schema, and what it must be read as."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.data.loading import iter_pairs, load_responses, load_votes
from model_behavior.data.questions import load_prompts
from model_behavior.data.reading import ReadingOptions
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.errors import DataError, UsageError

Triple = tuple[str, str, str]
TREE, OAK = "Name a tree.", "Oak."


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


OLDER = [{"role": "system", "content": "Be brief."}, user("Name a river."), assistant("older")]
REQUEST = [*OLDER, user(TREE)]
CALL = {"id": "call_1", "type": "function", "function": {"name": "trees", "arguments": "{}"}}
AGENT = [user(TREE), assistant("Let me look.", tool_calls=[CALL]), {"role": "tool", "content": "42 trees"}]
COMPLETION = {
    "id": "chatcmpl-123",
    "object": "chat.completion",
    "created": 1717000000,
    "model": "gpt-4o",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": OAK, "refusal": None}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "Elm."}, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
RESPONSES_API = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-4o",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "thinking about trees"}]},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": OAK, "annotations": []}],
        },
    ],
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "gpt-4o",
    "content": [{"type": "thinking", "thinking": "a tree, hm", "signature": "x"}, {"type": "text", "text": OAK}],
}
GEMINI = {"candidates": [{"content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": OAK}]}}]}


def otel(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]


OPENLLMETRY = {
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "m",
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": TREE,
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": OAK,
}
GEN_AI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": TREE}]}]),
    "gen_ai.output.messages": json.dumps(
        [
            {
                "role": "assistant",
                "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": OAK}],
                "finish_reason": "stop",
            }
        ]
    ),
}
PHOENIX = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "m",
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.content": TREE,
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": OAK,
    "input.value": json.dumps({"messages": [user("raw")]}),
}
PHOENIX_NESTED = {
    "openinference": {"span": {"kind": "LLM"}},
    "llm": {
        "model_name": "m",
        "input_messages": [{"message": user(TREE)}],
        "output_messages": [{"message": assistant(OAK)}],
    },
}
HELM = {
    "adapter_spec": {"method": "generation", "model": "m", "max_tokens": 20},
    "request_states": [
        {
            "instance": {"input": {"text": "tree"}, "references": [], "split": "test", "id": "id1"},
            "train_trial_index": 0,
            "request": {"model": "m", "model_deployment": "openai/m", "prompt": TREE, "temperature": 0.0},
            "result": {"success": True, "cached": True, "completions": [{"text": OAK, "logprob": -1.5, "tokens": []}]},
            "num_train_instances": 0,
        }
    ],
}
INSPECT = {
    "version": 2,
    "status": "success",
    "eval": {"task": "trees", "model": "openai/m", "dataset": {"name": "x", "samples": 1}},
    "results": {"scores": [{"name": "match", "metrics": {}}]},
    "samples": [
        {
            "id": 1,
            "epoch": 1,
            "input": [user(TREE)],
            "target": "Elm",
            "messages": [*AGENT, assistant(OAK)],
            "output": {
                "model": "m",
                "choices": [{"message": assistant(OAK), "stop_reason": "stop"}],
                "completion": OAK,
            },
            "scores": {"match": {"value": "I", "answer": "wrong text"}},
        }
    ],
}
PROMPTFOO = {
    "evalId": "eval-1",
    "results": {
        "version": 3,
        "prompts": [{"raw": "{{q}}", "label": "q", "provider": "m"}],
        "results": [
            {
                "promptIdx": 0,
                "testIdx": 0,
                "testCase": {"vars": {"q": TREE}},
                "prompt": {"raw": json.dumps([user(TREE)]), "label": "q"},
                "provider": {"id": "m", "label": ""},
                "vars": {"q": TREE},
                "response": {"output": OAK, "tokenUsage": {"total": 9}},
                "success": True,
                "score": 1,
            },
            {"prompt": {"raw": "p"}, "provider": {"id": "m"}, "vars": {}, "response": None, "error": "API error"},
        ],
        "stats": {"successes": 1},
    },
    "config": {"description": "x"},
}
LM_EVAL = {
    "doc_id": 0,
    "doc": {"question": "tree?", "answer": "elm"},
    "target": "elm",
    "arguments": {"gen_args_0": {"arg_0": TREE, "arg_1": {"until": ["\n\n"], "max_gen_toks": 256}}},
    "resps": [[OAK]],
    "filtered_resps": ["oak"],
    "filter": "strict-match",
    "exact_match": 0.0,
    "doc_hash": "x",
}
SPEND_LOG = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": "88dc28",
    "spend": 0.1,
    "model": "m",
    "model_id": "deployment-7",
    "model_group": "group",
    "messages": REQUEST,
    "response": COMPLETION,
    "metadata": {"user_api_key": "88dc28"},
    "cache_hit": "False",
}

RESPONSES: dict[str, tuple[Any, str]] = {
    "the field is the answer, not the request's last message": ({"messages": REQUEST, "response": OAK}, "m"),
    "messages and an answered response": ({"messages": [*REQUEST, assistant("No.")], "response": OAK}, "m"),
    "chat log": ({"messages": [*REQUEST, assistant(OAK)]}, "m"),
    "agent": ({"messages": [*AGENT, assistant(OAK)]}, "m"),
    "agent of Anthropic": (
        {
            "messages": [
                user(TREE),
                assistant([{"type": "text", "text": "Let me look."}, {"type": "tool_use", "id": "t", "name": "trees"}]),
                user([{"type": "tool_result", "tool_use_id": "t", "content": "42"}]),
                assistant([{"type": "text", "text": OAK}]),
            ]
        },
        "m",
    ),
    "two answers in a row": ({"messages": [user(TREE), assistant("Hm."), assistant(OAK)]}, "m"),
    "ShareGPT": (
        {"id": "a", "conversations": [{"from": "human", "value": TREE}, {"from": "gpt", "value": OAK}]},
        "m",
    ),
    "lmsys-chat-1m": (
        {
            "conversation_id": "a",
            "model": "m",
            "conversation": [user(TREE), assistant(OAK)],
            "turn": 1,
            "redacted": False,
        },
        "m",
    ),
    "WildChat": (
        {
            "conversation_hash": "a",
            "model": "m",
            "conversation": [{**user(TREE), "language": "English", "toxic": False}, assistant(OAK, toxic=False)],
            "turn": 1,
        },
        "m",
    ),
    "request and response": ({"request": {"model": "gpt-4o", "messages": REQUEST}, "response": COMPLETION}, "gpt-4o"),
    "request and response as JSON text": (
        {"request": json.dumps({"messages": REQUEST}), "response": json.dumps(COMPLETION)},
        "gpt-4o",
    ),
    "responses API": ({"request": {"input": TREE, "model": "x"}, "response": RESPONSES_API}, "gpt-4o"),
    "responses API, input_text": (
        {"input": [user([{"type": "input_text", "text": TREE}])], "output": RESPONSES_API["output"], "model": "m"},
        "m",
    ),
    "Anthropic": ({"request": {"messages": REQUEST}, "response": ANTHROPIC}, "gpt-4o"),
    "Gemini": ({"request": {"contents": [{"role": "user", "parts": [{"text": TREE}]}]}, "response": GEMINI}, "m"),
    "completions with choices": ({**COMPLETION, "messages": REQUEST}, "gpt-4o"),
    "old completions": ({"prompt": TREE, "model": "m", "choices": [{"text": OAK, "index": 0}]}, "m"),
    "LiteLLM": (SPEND_LOG, "m"),
    "LiteLLM as text": (
        {**SPEND_LOG, "messages": json.dumps(REQUEST), "response": json.dumps(COMPLETION)},
        "m",
    ),
    "LiteLLM since 2025": (
        {**SPEND_LOG, "messages": {}, "proxy_server_request": {"model": "x", "messages": REQUEST}},
        "m",
    ),
    "Langfuse of LangChain": (
        {
            "traceId": "t",
            "type": "GENERATION",
            "model": "m",
            "input": [{"type": "system", "content": "Be brief."}, {"type": "human", "content": TREE}],
            "output": {"type": "ai", "content": OAK},
        },
        "m",
    ),
    "Langfuse observation": (
        {
            "id": "o",
            "traceId": "t",
            "type": "GENERATION",
            "model": "m",
            "input": {"messages": REQUEST},
            "output": assistant(OAK),
            "startTime": "2025-01-01T00:00:00Z",
        },
        "m",
    ),
    "Langfuse as text": (
        {"id": "t", "sessionId": "s", "input": json.dumps(REQUEST), "output": json.dumps(assistant(OAK)), "model": "m"},
        "m",
    ),
    "OpenLLMetry": ({"name": "openai.chat", "attributes": OPENLLMETRY, "events": []}, "m"),
    "GenAI": ({"name": "chat m", "attributes": GEN_AI}, "m"),
    "OTLP": ({"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": otel(OPENLLMETRY)}]}]}]}, "m"),
    "Phoenix": ({"name": "ChatCompletion", "span_kind": "LLM", "attributes": PHOENIX}, "m"),
    "Phoenix nested": ({"name": "ChatCompletion", "attributes": PHOENIX_NESTED}, "m"),
    "Phoenix as columns": ({f"attributes.{key}": value for key, value in PHOENIX.items()}, "m"),
    "OpenLLMetry as columns": (OPENLLMETRY, "m"),
    "lm-eval": (LM_EVAL, "m"),
    "lm-eval before 0.4.5": ({**LM_EVAL, "arguments": [[TREE, {"until": ["\n"]}]]}, "m"),
    "lm-eval of a chat API": (
        {**LM_EVAL, "arguments": {"gen_args_0": {"arg_0": [json.dumps([user(TREE)])], "arg_1": {}}}},
        "m",
    ),
    "HELM": (HELM, "m"),
    "inspect_ai": (INSPECT, "m"),
    "promptfoo": (PROMPTFOO, "m"),
    "WildBench": (
        [
            {
                "session_id": "a",
                "chat_history": ["Name a river.", "older", TREE],
                "model_input": "<s>[INST]…",
                "output": [OAK],
                "generator": "m",
                "dataset": "wild_bench",
            }
        ],
        "m",
    ),
    "question and answer": ({"question": TREE, "answer": OAK}, "m"),
    "prompt and completion": ({"prompt": TREE, "completion": OAK}, "m"),
    "prompt and completion as messages": ({"prompt": [user(TREE)], "completion": [assistant(OAK)]}, "m"),
    "prompt and output": ({"prompt": TREE, "output": OAK}, "m"),
    "input and output": ({"input": TREE, "output": OAK}, "m"),
    "instruction with an empty input": ({"instruction": TREE, "input": "", "output": OAK}, "m"),
    "AlpacaEval outputs": ({"instruction": TREE, "output": OAK, "generator": "m", "dataset": "koala"}, "m"),
    "reference beside the response": ({"prompt": TREE, "response": OAK, "reference": "Elm", "reasoning": "hm"}, "m"),
    "capitals and spaces": ({"Prompt": TREE, " Response ": OAK, "Model": "m"}, "m"),
    "rows in data": ({"data": [{"prompt": TREE, "response": OAK}]}, "m"),
    "one row of objects with the same keys": ({"request": user(TREE), "response": assistant(OAK)}, "m"),
    "pandas, by column": ({"prompt": {"0": TREE}, "response": {"0": OAK}}, "m"),
    "pandas, split": ({"columns": ["prompt", "response"], "index": [0], "data": [[TREE, OAK]]}, "m"),
    "pandas, index": ({"0": {"prompt": TREE, "response": OAK}}, "m"),
    "pandas, table": ({"schema": {"fields": []}, "data": [{"index": 0, "prompt": TREE, "response": OAK}]}, "m"),
}


def triples(pairs: PairTable) -> list[Triple]:
    prompts, responses = pairs.prompts.to_pylist(), pairs.responses.to_pylist()
    return [
        (prompts[pairs.prompt_index[i]], pairs.models[pairs.model_index[i]], responses[i]) for i in range(len(pairs))
    ]


def votes_of(data: TrainingData) -> list[tuple[Triple, Triple, str]]:
    found = triples(data.pairs)
    return [
        (found[a], found[b], Outcome(outcome).label)
        for a, b, outcome in zip(data.pair_a, data.pair_b, data.outcome, strict=True)
    ]


def write(path: Path, content: Any, indent: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        rows = content if isinstance(content, list) else [content]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        path.write_text(json.dumps(content, indent=indent), "utf-8")
    return path


def load_as(path: Path, model: str) -> list[Triple]:
    """The pairs, with the model named only where the file does not."""
    try:
        return triples(load_responses(path)[0])
    except (UsageError, DataError) as error:
        assert "no column names the model" in str(error) or "rows names its model" in str(error), error
        return triples(load_responses(path, model=model)[0])


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", RESPONSES)
def test_responses_of_every_shape(tmp_path: Path, name: str, indent: int | None) -> None:
    content, model = RESPONSES[name]
    path = write(tmp_path / "a.json", content, indent)
    assert load_as(path, model) == [(TREE, model, OAK)]


LINES = [name for name, (content, _) in RESPONSES.items() if not isinstance(content, list) and "pandas" not in name]
WHOLE = {"HELM", "inspect_ai", "promptfoo", "rows in data"}


@pytest.mark.parametrize("name", [name for name in LINES if name not in WHOLE])
def test_responses_of_every_shape_as_lines_and_from_memory(tmp_path: Path, name: str) -> None:
    content, model = RESPONSES[name]
    path = write(tmp_path / "a.jsonl", [content, content])
    assert load_as(path, model) == [(TREE, model, OAK)]
    assert [texts for _, *texts in iter_pairs(path)] == [[[TREE, TREE], [OAK, OAK]]]
    assert triples(load_responses([content], model=model)[0]) == [(TREE, model, OAK)]
    assert load_prompts(path)[0] == [TREE, TREE]


@pytest.mark.parametrize("name", ["LiteLLM as text", "Langfuse as text", "request and response as JSON text"])
def test_logs_as_csv(tmp_path: Path, name: str) -> None:
    content, model = RESPONSES[name]
    pd = pytest.importorskip("pandas")
    pd.DataFrame([content]).to_csv(tmp_path / "a.csv", index=False)
    assert load_as(tmp_path / "a.csv", model) == [(TREE, model, OAK)]


def test_instruction_and_input_are_one_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"instruction": "Translate.", "input": "Baum", "output": "tree"}])
    pairs, report = load_responses(path, model="m")
    assert triples(pairs) == [("Translate.\n\nBaum", "m", "tree")]
    assert report.sources[0].notes == ("instruction and input are taken as one prompt, output as the response",)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    row = {"question": TREE, "Response": OAK, "reference": "Elm", "score": 7, "language": "en"}
    _, report = load_responses(write(tmp_path / "a.jsonl", row), model="m")
    assert report.sources[0].notes == (
        "column 'Response' is read as response",
        "question is taken as the prompt, response as the response",
        "not read: reference",
    )


def test_objects_one_after_another_are_read(tmp_path: Path) -> None:
    text = "\n".join(json.dumps({"name": "chat", "attributes": OPENLLMETRY, "n": i}, indent=4) for i in range(3))
    (tmp_path / "a.json").write_text(text)
    pairs, report = load_responses(tmp_path / "a.json")
    assert (triples(pairs), report.sources[0].rows) == ([(TREE, "m", OAK)], 3)


def test_spans_that_are_no_call_are_skipped(tmp_path: Path) -> None:
    rows = [
        {"name": "chain", "attributes": {"openinference.span.kind": "CHAIN", "input.value": "x", "output.value": "y"}},
        {"name": "llm", "attributes": {"openinference.span.kind": "LLM", "input.value": TREE, "output.value": OAK}},
        {"name": "llm", "attributes": PHOENIX},
        {"name": "http", "attributes": {"http.method": "GET"}},
    ]
    pairs, report = load_responses(write(tmp_path / "a.jsonl", rows), model="m")
    assert triples(pairs) == [(TREE, "m", OAK)]
    assert report.sources[0].skipped == {"no LLM call in the span": 2}
    rows = [{"traceId": "t", "type": kind, "input": TREE, "output": OAK} for kind in ("SPAN", "GENERATION", "EVENT")]
    _, report = load_responses(write(tmp_path / "b.jsonl", rows), model="m")
    assert report.sources[0].skipped == {"event, no generation": 1, "span, no generation": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": AGENT, "model": "m"}, "no response"),
        ({"messages": [user(TREE), assistant("Let me look.", tool_calls=[CALL])], "model": "m"}, "no response"),
        (
            {"request": {"messages": REQUEST}, "response": {"choices": [{"message": assistant(None, refusal="No.")}]}},
            "no response",
        ),
        ({**SPEND_LOG, "messages": {}, "response": {}}, "no prompt"),
        ({**SPEND_LOG, "response": "x (litellm_truncated 99 chars) y"}, "text cut off by the log"),
        ({**LM_EVAL, "resps": [[[-1.5, False]]]}, "log-likelihoods of given answers, no text"),
        ({"request": {"messages": REQUEST}, "response": {"error": {"message": "overloaded"}}}, "no response"),
        ({"traceId": "t", "input": {"a": "x", "b": "y"}, "output": OAK}, "neither text nor messages of a known API"),
    ],
)
def test_rows_without_an_answer_are_skipped(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = write(tmp_path / "a.jsonl", row)
    with pytest.raises(DataError, match=f"none of its 1 rows can be used .*{reason}: 1"):
        load_responses(path, model=None if "model" in row else "m")


def webui(rating: Any, siblings: Any, **more: Any) -> dict[str, Any]:
    messages = {
        "u1": {"id": "u1", "parentId": None, "childrenIds": ["a1", "a2"], **user(TREE)},
        "a1": {"id": "a1", "parentId": "u1", **assistant(OAK, model="m")},
        "a2": {"id": "a2", "parentId": "u1", **assistant("Elm.", model="n")},
    }
    return {
        "id": "f",
        "user_id": "u",
        "type": "rating",
        "data": {"rating": rating, "model_id": "m", "sibling_model_ids": siblings, "reason": "", "comment": "nice"},
        "meta": {"message_id": "a1", "chat_id": "c", "arena": False},
        "snapshot": {"chat": {"id": "c", "chat": {"title": "t", "history": {"messages": messages, "currentId": "a1"}}}},
        "created_at": 1,
        **more,
    }


def nectar(*ranks: int) -> dict[str, Any]:
    answers = [
        {"answer": text, "model": name, "rank": rank}
        for text, name, rank in zip((OAK, "Elm."), "mn", ranks, strict=True)
    ]
    return {"prompt": f"\n\nHuman: {TREE}\n\nAssistant: ", "answers": answers, "turns": 1, "num_responses": 2}


ULTRA: dict[str, Any] = {
    "source": "evol_instruct",
    "instruction": TREE,
    "models": ["m", "n"],
    "completions": [
        {"model": "m", "principle": "x", "response": OAK, "critique": "good", "overall_score": 8.5, "annotations": {}},
        {
            "model": "n",
            "principle": "x",
            "response": "Elm.",
            "critique": "bad",
            "overall_score": 4.0,
            "annotations": {},
        },
    ],
    "correct_answers": ["None"],
}
ARENA = {"model_a": "m", "model_b": "n", "winner": "model_a"}
ALPACA = {
    "instruction": TREE,
    "output_1": OAK,
    "generator_1": "m",
    "dataset": "helpful_base",
    "output_2": "Elm.",
    "generator_2": "n",
    "annotator": "alpaca_eval_gpt4",
    "preference": 1.0,
    "raw_completion": "1",
    "price_per_example": 0.1,
    "time_per_example": 2.0,
}
A, B = (TREE, "m", OAK), (TREE, "n", "Elm.")
VOTES: dict[str, tuple[Any, list[tuple[Triple, Triple, str]]]] = {
    "plain": ({**ARENA, "prompt": TREE, "response_a": OAK, "response_b": "Elm."}, [(A, B, "model_a")]),
    "arena": (
        {**ARENA, "conversation_a": [user(TREE), assistant(OAK)], "conversation_b": [user(TREE), assistant("Elm.")]},
        [(A, B, "model_a")],
    ),
    "AlpacaEval": (ALPACA, [(A, B, "model_a")]),
    "AlpacaEval, 0": ({**ALPACA, "preference": 0}, [(A, B, "tie")]),
    "AlpacaEval, weighted": ({**ALPACA, "preference": 1.998, "raw_completion": {"logprobs": {}}}, [(A, B, "model_b")]),
    "AlpacaFarm, with an input": ({**ALPACA, "input": ""}, [(A, B, "model_a")]),
    "Open WebUI": (webui(1, ["n"]), [(A, B, "model_a")]),
    "Open WebUI, lost": (webui("-1", ["n"]), [(A, B, "model_b")]),
    "Nectar": (nectar(1, 2), [(A, B, "model_a")]),
    "Nectar, the second better": (nectar(5, 2), [(A, B, "model_b")]),
    "UltraFeedback": (ULTRA, [(A, B, "model_a")]),
    "PandaLM": (
        {
            "idx": 0,
            "instruction": TREE,
            "input": "",
            "response1": OAK,
            "response2": "Elm.",
            "annotator1": 1,
            "annotator2": 2,
            "annotator3": 0,
            "cmp_key": "m_n",
        },
        [(A, B, "model_a"), (A, B, "model_b"), (A, B, "tie")],
    ),
    "chosen and rejected": (
        {"prompt": TREE, "chosen": OAK, "chosen_model": "m", "rejected": "Elm.", "rejected_model": "n"},
        [(A, B, "model_a")],
    ),
    "chosen and rejected as messages": (
        {
            "prompt": TREE,
            "chosen": [user(TREE), assistant(OAK)],
            "chosen-model": "m",
            "chosen-rating": 5.0,
            "rejected": [user(TREE), assistant("Elm.")],
            "rejected-model": "n",
        },
        [(A, B, "model_a")],
    ),
}


@pytest.mark.parametrize("name", VOTES)
def test_votes_of_every_shape(tmp_path: Path, name: str) -> None:
    content, expected = VOTES[name]
    for path in (
        write(tmp_path / "a.json", [content]),
        write(tmp_path / "b.json", [content], 2),
        write(tmp_path / "c.json", content, 1),
        write(tmp_path / "d.jsonl", content),
    ):
        votes, report = load_votes(path)
        assert votes_of(votes) == expected
        assert (report.sources[0].rows, report.sources[0].used) == (1, 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (webui(1, None), "no other model beside it"),
        (webui(None, ["n"]), "no outcome"),
        (webui(1, ["other"]), "no response"),
        (webui(1, ["n"], meta={"message_id": "gone"}), "the rated message is not in the snapshot"),
        ({**ULTRA, "completions": [{**c, "overall_score": None} for c in ULTRA["completions"]]}, "no outcome"),
    ],
)
def test_votes_that_cannot_be_made_are_skipped(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=f"{reason}: 1"):
        load_votes(write(tmp_path / "a.jsonl", row))


def test_a_folder_of_alpaca_eval(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "m"
    write(folder / "model_outputs.json", [{"instruction": TREE, "output": OAK, "generator": "m", "dataset": "koala"}])
    old = without_keys(ALPACA, "raw_completion", "price_per_example", "time_per_example")
    shapes = [
        old,
        {**old, "datasplit": "eval", "index": 0},
        {**ALPACA, "preference": 0},
        {**ALPACA, "preference": None},
    ]
    shapes += [{**ALPACA, "preference": 1.23, "raw_completion": {"choices": [{"text": "m"}]}, "referenced_models": "x"}]
    for number, shape in enumerate(shapes[:3]):
        write(folder / f"judge_{number}" / "annotations.json", [shape, *shapes[3:]])
    votes, report = load_votes(tmp_path / "results")
    assert [outcome for _, _, outcome in votes_of(votes)] == [
        "model_a",
        "model_a",
        "model_a",
        "model_a",
        "tie",
        "model_a",
    ]
    assert [source.skipped for source in report.sources] == [{"no outcome": 1}] * 3
    assert f"files not read: {folder / 'model_outputs.json'}" in report.sources[0].notes
    assert len(load_responses(tmp_path / "results")[0]) == 2
    with pytest.raises(DataError, match="holds responses"):
        load_votes(folder / "model_outputs.json", folder / "judge_0" / "annotations.json")


def without_keys(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def test_ranked_answers_are_compared_two_by_two(tmp_path: Path) -> None:
    answers = [{"answer": f"t{i}", "model": f"m{i}", "rank": i} for i in range(7)]
    votes, report = load_votes(write(tmp_path / "a.json", [{"prompt": TREE, "answers": answers, "num_responses": 7}]))
    assert (len(votes), report.sources[0].used) == (21, 1)
    assert set(votes.outcome) == {Outcome.MODEL_A}


def test_earlier_turns_are_history(tmp_path: Path) -> None:
    pairs, _ = load_responses(write(tmp_path / "a.jsonl", {"messages": REQUEST, "response": OAK}), model="m")
    assert json.loads(pairs.histories[0].as_py()) == [user("Name a river."), assistant("older")]


QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": [TREE, "Another."]},
    {"question_id": 82, "turns": ["2?"]},
]


def mt_answer(model: str, *texts: str, key: int = 81) -> dict[str, Any]:
    return {
        "question_id": key,
        "answer_id": f"{model}{key}",
        "model_id": model,
        "choices": [{"index": 0, "turns": list(texts)}],
        "tstamp": 1.5,
    }


def mt_bench(folder: Path) -> Path:
    write(folder / "question.jsonl", QUESTIONS)
    write(folder / "model_answer" / "m-1.5.jsonl", [mt_answer("m-1.5", OAK, "Elm."), mt_answer("m-1.5", "4", key=82)])
    write(folder / "model_answer" / "n.jsonl", [{**mt_answer("x", "Fir.", "Ash."), "model_id": None}])
    write(folder / "reference_answer" / "gpt-4.jsonl", [mt_answer("gpt-4", "Reference.", "Other.")])
    return folder


def judgment(turn: int, first: str, second: str) -> dict[str, Any]:
    texts: dict[str, Any] = {
        "g1_user_prompt": "judge this",
        "g1_judgment": "[[A]]",
        "g2_user_prompt": "judge",
        "g2_judgment": "[[B]]",
    }
    verdict: dict[str, Any] = {
        "g1_winner": first,
        "g2_winner": second,
        "judge": ["gpt-4", "pair-v2"],
        "turn": turn,
        "tstamp": 1.0,
    }
    return {"question_id": 81, "model_1": "m-1.5", "model_2": "n", **texts, **verdict}


def test_a_folder_of_mt_bench(tmp_path: Path) -> None:
    folder = mt_bench(tmp_path / "mt_bench")
    pairs, report = load_responses(folder)
    assert triples(pairs) == [
        (TREE, "m-1.5", OAK),
        ("Another.", "m-1.5", "Elm."),
        ("2?", "m-1.5", "4"),
        (TREE, "n", "Fir."),
        ("Another.", "n", "Ash."),
    ]
    assert json.loads(pairs.histories[1].as_py()) == [user(TREE), assistant(OAK)]
    assert f"files not read: {folder / 'reference_answer' / 'gpt-4.jsonl'}" in report.sources[0].notes
    assert load_prompts(folder)[0] == [TREE, "2?"]
    with pytest.raises(DataError, match="holds responses"):
        load_votes(folder)
    verdicts = [judgment(1, "model_1", "model_1"), judgment(2, "model_2", "tie"), judgment(1, "error", "tie")]
    write(folder / "model_judgment" / "gpt-4_pair.jsonl", verdicts)
    votes, report = load_votes(folder)
    assert votes_of(votes) == [
        ((TREE, "m-1.5", OAK), (TREE, "n", "Fir."), "model_a"),
        (("Another.", "m-1.5", "Elm."), ("Another.", "n", "Ash."), "tie"),
    ]
    assert report.sources[0].skipped == {"no outcome": 1}
    assert len(load_responses(folder)[0]) == 5


def test_scores_of_mt_bench_are_compared(tmp_path: Path) -> None:
    folder = mt_bench(tmp_path)
    rows = [
        {"question_id": 81, "model": name, "judge": ["gpt-4", "single-v1"], "score": score, "turn": 1, "judgment": "…"}
        for name, score in (("m-1.5", 4), ("n", 9.5), ("gone", -1))
    ]
    write(folder / "model_judgment" / "gpt-4_single.jsonl", rows)
    votes, report = load_votes(folder)
    assert votes_of(votes) == [((TREE, "m-1.5", OAK), (TREE, "n", "Fir."), "model_b")]
    assert "scores of single answers" in report.sources[0].warnings[0]
    write(folder / "model_judgment" / "gpt-4_pair.jsonl", [judgment(1, "tie", "tie")])
    votes, report = load_votes(folder)
    assert [outcome for _, _, outcome in votes_of(votes)] == ["tie"]
    assert any("gpt-4_single.jsonl" in note for source in report.sources for note in source.notes)


def test_a_folder_of_arena_hard(tmp_path: Path) -> None:
    write(tmp_path / "question.jsonl", [{"question_id": "q", "cluster": "c", "turns": [{"content": TREE}]}])
    for name, text in (("gpt-4-0314", OAK), ("n", "Elm."), ("o", "Fir.")):
        turns = [{"content": text, "token_len": 2}]
        row = {"question_id": "q", "answer_id": "a", "model_id": name, "choices": [{"index": 0, "turns": turns}]}
        write(tmp_path / "model_answer" / f"{name}.jsonl", row)
    judge = "gpt-4-1106-preview"
    for name, scores in (("n", ["A>>B", "A=B"]), ("o", ["B>A", "A>B"])):
        games = [{"user_prompt": "judge", "judgment": f"[[{score}]]", "score": score} for score in scores]
        row = {"question_id": "q", "model": name, "judge": judge, "games": games}
        write(tmp_path / "model_judgment" / judge / f"{name}.jsonl", row)
    votes, report = load_votes(tmp_path)
    base, n, o = (TREE, "gpt-4-0314", OAK), (TREE, "n", "Elm."), (TREE, "o", "Fir.")
    assert votes_of(votes) == [(base, n, "model_a"), (base, n, "tie"), (base, o, "model_b"), (base, o, "model_b")]
    assert [source.format for source in report.sources] == ["Arena-Hard judgments"] * 2
    assert sorted(triples(load_responses(tmp_path)[0])) == [base, n, o]


def test_a_folder_of_arena_hard_v2(tmp_path: Path) -> None:
    write(tmp_path / "question.jsonl", [{"uid": "q", "category": "hard_prompt", "prompt": TREE}])
    for name, text in (("base", OAK), ("n", "Elm.")):
        row = {"uid": "q", "ans_id": "a", "model": name, "messages": [user(TREE), assistant({"answer": text})]}
        write(tmp_path / "model_answer" / f"{name}.jsonl", row)
    games: list[dict[str, Any]] = [{"score": "B>A", "judgment": {"answer": "…"}}, {"score": None, "judgment": {}}]
    row = {"uid": "q", "judge": "j", "model": "n", "baseline": "base", "games": games}
    write(tmp_path / "model_judgment" / "j" / "n.jsonl", row)
    votes, _ = load_votes(tmp_path)
    assert votes_of(votes) == [((TREE, "base", OAK), (TREE, "n", "Elm."), "model_b")]


def test_files_of_a_folder_that_hold_nothing_to_read_are_named(tmp_path: Path) -> None:
    folder = mt_bench(tmp_path)
    write(folder / "results.json", {"results": {}, "configs": {}, "versions": {}})
    write(folder / "leaderboard.json", [{"": "m", "win_rate": 1.5}])
    write(folder / "battles.jsonl", {"model_a": "m-1.5", "model_b": "n", "winner": "tie"})
    (folder / "model_answer" / "o.jsonl").write_text("")
    write(folder / "model_answer" / "p.jsonl", [mt_answer("p", "x", key=99)])
    pairs, report = load_responses(folder)
    assert pairs.models == ("m-1.5", "n")
    notes = " ".join(note for source in report.sources for note in source.notes)
    for shown in (
        "results.json (scores, no texts)",
        "leaderboard.json (unknown format)",
        "o.jsonl (no rows)",
        "battles.jsonl",
    ):
        assert shown in notes
    unused = [source for source in report.sources if not source.used]
    assert [Path(source.source).name for source in unused] == ["p.jsonl"]
    assert unused[0].warnings == ("none of its rows can be used",)
    write(folder / "model_answer" / "q.jsonl", [{"promt": TREE, "response": OAK}])
    with pytest.raises(DataError, match=r"q\.jsonl: unknown format.*--columns prompt=promt"):
        load_responses(folder)


def test_a_folder_in_which_nothing_can_be_used(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", {"prompt": TREE, "response": None, "model": "m"})
    with pytest.raises(DataError, match=r"a\.jsonl: none of its 1 rows can be used .*no response: 1"):
        load_responses(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", {"x": 1})
    with pytest.raises(DataError, match=r"a\.jsonl: unknown format"):
        load_responses(tmp_path)


def test_the_file_names_the_model(tmp_path: Path) -> None:
    write(tmp_path / "question.jsonl", QUESTIONS)
    answers = tmp_path / "model_answer" / "m-1.5.jsonl"
    write(answers, [mt_answer("other", OAK)])
    pairs, report = load_responses(tmp_path)
    assert pairs.models == ("m-1.5",)
    assert "the model is called m-1.5 by its file, and other in it" in report.sources[0].notes
    write(answers, [mt_answer("m", OAK), mt_answer("n", "Elm.")])
    assert load_responses(tmp_path)[0].models == ("m", "n")
    write(tmp_path / "mine.jsonl", [mt_answer("o", OAK)])
    answers.unlink()
    assert load_responses(tmp_path)[0].models == ("o",)


def test_two_questions_of_one_key_are_refused(tmp_path: Path) -> None:
    folder = mt_bench(tmp_path)
    write(folder / "question.jsonl", [*QUESTIONS, QUESTIONS[0]])
    assert triples(load_responses(folder)[0])[0] == (TREE, "m-1.5", OAK)
    write(folder / "question.jsonl", [*QUESTIONS, {"question_id": 81, "turns": ["Another tree?"]}])
    with pytest.raises(DataError, match=r"question\.jsonl: holds two different questions of the key '81'"):
        load_responses(folder)


def test_other_calls_in_a_log_are_skipped(tmp_path: Path) -> None:
    embeddings = {"object": "list", "data": [{"object": "embedding", "embedding": [0.5]}], "model": "e"}
    rows = [{**SPEND_LOG, "call_type": "aembedding", "messages": TREE, "response": embeddings}, SPEND_LOG]
    pairs, report = load_responses(write(tmp_path / "a.jsonl", rows))
    assert triples(pairs) == [(TREE, "m", OAK)]
    assert report.sources[0].skipped == {"no response": 1}


def test_one_judge_is_said_once(tmp_path: Path) -> None:
    rows = [{**ARENA, "prompt": TREE, "response_a": OAK, "response_b": "Elm.", "judge": name} for name in ("x", "x")]
    first, second = (write(tmp_path / f"{name}.jsonl", rows) for name in "ab")
    _, report = load_votes(first, second)
    assert [source.notes for source in report.sources] == [("one judge has cast every vote: 'x'",), ()]
    write(second, [{**rows[0], "judge": "y"}])
    assert not any(source.notes for source in load_votes(first, second)[1].sources)
    write(second, [without_keys(rows[0], "judge")])
    assert not any(source.notes for source in load_votes(first, second)[1].sources)


@pytest.mark.parametrize("header", ["prompt\u00a0", "\u200bprompt", "\uff50rompt", "PROMPT", "\ufeffPrompt"])
def test_headers_are_forgiven(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"model,{header},response\nm,{TREE},{OAK}\n", "utf-8")
    pairs, report = load_responses(tmp_path / "a.csv")
    assert triples(pairs) == [(TREE, "m", OAK)]
    assert report.sources[0].notes == (f"column {header!r} is read as prompt",)


def test_benchmarks_side_by_side_keep_their_questions(tmp_path: Path) -> None:
    mt_bench(tmp_path / "mt_bench")
    write(tmp_path / "vicuna_bench" / "question.jsonl", [{"question_id": 81, "turns": ["Other?"]}])
    write(tmp_path / "vicuna_bench" / "model_answer" / "m-1.5.jsonl", [mt_answer("m-1.5", "Yes.")])
    found = triples(load_responses(tmp_path)[0])
    assert ("Other?", "m-1.5", "Yes.") in found
    assert (TREE, "m-1.5", OAK) in found
    assert (TREE, "m-1.5", "Yes.") not in found


def test_answers_with_their_questions(tmp_path: Path) -> None:
    folder = mt_bench(tmp_path)
    answers = folder / "model_answer" / "n.jsonl"
    with pytest.raises(DataError) as caught:
        load_responses(answers)
    assert str(caught.value) == (
        f"{answers}: holds answers (FastChat answers) whose prompts are in another file. Fix: give the folder that "
        f"holds question.jsonl too, or --questions {folder / 'question.jsonl'}."
    )
    reading = ReadingOptions(questions=folder / "question.jsonl")
    assert triples(load_responses(answers, reading=reading)[0])[0] == (TREE, "n", "Fir.")


def test_a_batch_is_joined_by_its_keys(tmp_path: Path) -> None:
    requests = [
        {
            "custom_id": key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "x", "messages": [user(text)]},
        }
        for key, text in (("1", "Name a river."), ("2", TREE))
    ]
    done = {
        "id": "b",
        "custom_id": "2",
        "response": {"status_code": 200, "request_id": "r", "body": COMPLETION},
        "error": None,
    }
    failed = {"id": "b", "custom_id": "1", "response": {"status_code": 500, "body": {"error": {}}}, "error": None}
    write(tmp_path / "in.jsonl", requests)
    write(tmp_path / "out" / "output.jsonl", [done, failed, {**done, "custom_id": "3"}])
    for sources in ([tmp_path], [tmp_path / "out" / "output.jsonl", tmp_path / "in.jsonl"]):
        pairs, report = load_responses(*sources)
        assert triples(pairs) == [(TREE, "gpt-4o", OAK)]
        assert report.sources[0].skipped == {"no request of that custom_id": 1, "no response": 1}
    with pytest.raises(DataError, match=r"holds questions alone \(OpenAI Batch input\)"):
        load_responses(tmp_path / "in.jsonl")
    assert load_prompts(tmp_path / "in.jsonl")[0] == ["Name a river.", TREE]


def test_a_zip_file_is_a_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": TREE, "response": OAK, "model": "m"})
    pq.write_table(pa.table({"prompt": ["p"], "response": ["r"], "model": ["n"]}), tmp_path / "b.parquet")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        packed.write(path, "in/a.jsonl")
        packed.write(tmp_path / "b.parquet", "in/b.parquet")
        packed.writestr("__MACOSX/a.jsonl", "junk")
        packed.writestr("README.md", "x")
    pairs, report = load_responses(tmp_path / "all.zip")
    assert triples(pairs) == [(TREE, "m", OAK), ("p", "n", "r")]
    assert [source.source for source in report.sources] == [
        f"{tmp_path}/all.zip/in/{name}" for name in ("a.jsonl", "b.parquet")
    ]


def test_binary_text_is_decoded_or_refused(tmp_path: Path) -> None:
    texts = {"prompt": [TREE.encode()], "response": ["Grüße".encode()], "model": ["m"]}
    pq.write_table(pa.table(texts), tmp_path / "a.parquet")
    assert triples(load_responses(tmp_path / "a.parquet")[0]) == [(TREE, "m", "Grüße")]
    assert [texts for _, *texts in iter_pairs(tmp_path / "a.parquet")] == [[[TREE], ["Grüße"]]]
    nested = pa.array([[{"role": b"user", "content": TREE.encode()}, {"role": b"assistant", "content": b"Oak."}]])
    pq.write_table(pa.table({"messages": nested}), tmp_path / "b.parquet")
    assert triples(load_responses(tmp_path / "b.parquet", model="m")[0]) == [(TREE, "m", OAK)]
    pq.write_table(pa.table({"prompt": ["p"], "response": [b"\xff\xfe"], "model": ["m"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet, row 1, column 'response': .* is not UTF-8"):
        load_responses(tmp_path / "c.parquet")


def test_names_are_normalised_and_look_alikes_reported(tmp_path: Path) -> None:
    names = ["Cafe\u0301", "Caf\u00e9", "GPT-4", "gpt-4", "\uff27PT-4", "other"]
    rows = [{"prompt": "p", "response": str(i), "model": name} for i, name in enumerate(names)]
    pairs, report = load_responses(write(tmp_path / "a.jsonl", rows))
    assert pairs.models == ("Caf\u00e9", "GPT-4", "gpt-4", "other", "\uff27PT-4")
    assert report.similar_names == (("GPT-4", "gpt-4", "\uff27PT-4"),)
    for name, said in (("a\u202eb", "bidirectional character U\\+202E"), ("a\tb", "control character U\\+0009")):
        with pytest.raises(DataError, match=said):
            load_responses(write(tmp_path / "b.jsonl", {**rows[0], "model": name}))
        with pytest.raises(UsageError, match=said):
            load_responses([{"prompt": "p", "response": "r"}], model=name)


def test_columns_and_outcomes_as_the_caller_says(tmp_path: Path) -> None:
    row = {"q": TREE, "left": OAK, "right": {"text": "Elm."}, "l": "m", "r": "n", "verdict": 1, "response": "x"}
    path = write(tmp_path / "a.jsonl", [row, {**row, "verdict": "0"}, {**row, "verdict": "Beide schlecht!"}])
    columns = "prompt=q,response_a=left,response_b=right.text,model_a=l,model_b=r,winner=verdict"
    reading = ReadingOptions.parse([columns], ["1=model_a", "0=model_b", "beide  schlecht=both bad"])
    votes, _ = load_votes(path, reading=reading)
    assert votes_of(votes) == [(A, B, "model_a"), (A, B, "model_b"), (A, B, "both_bad")]
    reading = ReadingOptions.parse(["prompt=question", "response=meta.choices.0.text"])
    row = {"question": TREE, "answer": "gold", "meta": json.dumps({"choices": [{"text": OAK}]}), "output": "raw"}
    path = write(tmp_path / "b.jsonl", row)
    assert triples(load_responses(path, model="m", reading=reading)[0]) == [(TREE, "m", OAK)]
    assert [texts for _, *texts in iter_pairs(path, reading=reading)] == [[[TREE], [OAK]]]
    assert load_prompts(path, reading=reading)[0] == [TREE]
