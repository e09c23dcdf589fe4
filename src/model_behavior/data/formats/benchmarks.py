"""Outputs of evaluation harnesses: FastChat and Arena-Hard, lm-eval, HELM, inspect_ai, promptfoo, WildBench.

FastChat's answers name their question by its key alone, and judgments both the question and the answers: rows of these
are linked with the files that hold the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Links,
    Record,
    Response,
    Row,
    Side,
    Skip,
    Vote,
    build_response,
    build_vote,
    is_missing,
    join_records,
    model_name,
    parse_number,
    parse_outcome,
)
from model_behavior.data.formats.replies import read_reply, read_request
from model_behavior.data.formats.turns import Turn, encode_history, parse_text, pick_turn
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

QUESTION_KEYS = ("question_id", "uid", "custom_id")
_SWAPPED = {Outcome.MODEL_A: Outcome.MODEL_B, Outcome.MODEL_B: Outcome.MODEL_A}
_GAMES = {"model_1": Outcome.MODEL_A, "model_2": Outcome.MODEL_B, "tie": Outcome.TIE}


def question_key(row: Row) -> str:
    """What the rows of several files name one question by; "" where there is nothing of the kind."""
    return next((str(row[key]) for key in QUESTION_KEYS if not is_missing(row.get(key))), "")


def question_turns(question: Row) -> list[str | None]:
    """The user's messages of a question: texts, or {content}; or the request of a batch."""
    if isinstance(question.get("turns"), list):
        return [_turn_text(turn, "turns") for turn in question["turns"]]
    if "body" in question:
        return [read_request(question["body"], "body").prompt]
    return [read_request(question.get("prompt"), "prompt").prompt]


def answer_turns(answer: Row, question: Row | None) -> list[Turn]:
    """Every turn of an answer, with the turns before it as history. The first of several choices counts."""
    if "messages" in answer:
        return [pick_turn(answer["messages"], None, "messages")]
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(
        isinstance(c, Mapping) and isinstance(c.get("turns"), list) for c in choices
    ):
        raise DataError(f'choices is {shorten(choices)}. Allowed: a list like [{{"index": 0, "turns": ["text", …]}}].')
    replies = [_turn_text(turn, "choices[0].turns") for turn in choices[0]["turns"]] if choices else []
    prompts = question_turns(question or {})
    asked = list(zip(prompts, replies, strict=False))
    return [Turn(*turn, encode_history(asked[:index])) for index, turn in enumerate(asked)]


def _turn_text(turn: Any, place: str) -> str | None:
    return parse_text(turn.get("content") if isinstance(turn, Mapping) else turn, place)


def _needs_link(row: Row) -> Record:
    raise DataError(f"the texts of {question_key(row) or 'the row'} are in another file")


def _ask(row: Row) -> Record:
    turns = [turn for turn in question_turns(row) if turn is not None]
    return Response(turns[0], "", "", None) if turns else Skip("no prompt")


def _link_answer(row: Row, links: Links) -> Record:
    named = None if links.is_named_by_file else model_name(row.get("model_id"), "model_id")
    model = named or links.file_model
    question = links.question(question_key(row))
    if question is None:
        return Skip("no question of that key")
    turns = answer_turns(row, question)
    return join_records([build_response(turn.prompt, Side(model, turn.response, turn.history)) for turn in turns])


def _link_batch(row: Row, links: Links) -> Record:
    question = links.question(question_key(row))
    if question is None:
        return Skip("no request of that custom_id")
    request, reply = read_request(question.get("body"), "body"), read_reply(row.get("response"), "response")
    return build_response(request.prompt, Side(reply.model or request.model, reply.text, request.history))


def _sides(row: Row, links: Links, models: tuple[str | None, str | None]) -> list[list[Turn]] | Skip:
    found: list[list[Turn]] = []
    for model in models:
        answer = links.answer(model, question_key(row)) if model is not None else None
        if answer is None:
            return Skip("no model name" if model is None else "no answer of a judged model")
        found.append(answer_turns(*answer))
    return found


def _compare(
    sides: list[list[Turn]], models: tuple[str | None, str | None], turn: int, outcome: Outcome | None
) -> Vote | Skip:
    if any(len(side) < turn for side in sides):
        return Skip("no response")
    a, b = (side[turn - 1] for side in sides)
    if a.prompt != b.prompt:
        return Skip("prompts differ")
    return build_vote(a.prompt, Side(models[0], a.response, a.history), Side(models[1], b.response, b.history), outcome)


def _link_games(row: Row, links: Links) -> Record:
    """Arena-Hard's: in the first game the baseline is A, in the second B. Each game is a vote on the last turn."""
    games = row.get("games")
    if not isinstance(games, list):
        raise DataError(f'games is {shorten(games)}. Allowed: a list like [{{"score": "A>B"}}, {{"score": "B>A"}}].')
    named = model_name(row.get("baseline"), "baseline") or links.baseline()
    models = named, model_name(row.get("model"), "model") or links.file_model
    sides = _sides(row, links, models)
    if isinstance(sides, Skip):
        return sides
    turn = min(len(side) for side in sides)
    votes: list[Vote | Response | Skip] = []
    for number, game in enumerate(games):
        score = game.get("score") if isinstance(game, Mapping) else game
        outcome = parse_outcome(score, f"games[{number}].score")
        outcome = _SWAPPED.get(outcome, outcome) if outcome is not None and number % 2 else outcome
        votes.append(_compare(sides, models, turn, outcome))
    return join_records(votes) if votes else Skip("no outcome")


def _link_pair(row: Row, links: Links) -> Record:
    """FastChat's: two games with sides swapped; where they contradict each other, it is a tie, as in its tables."""
    models = model_name(row.get("model_1"), "model_1"), model_name(row.get("model_2"), "model_2")
    sides = _sides(row, links, models)
    verdicts = [_GAMES.get(str(row.get(game)).casefold()) for game in ("g1_winner", "g2_winner")]
    if isinstance(sides, Skip):
        return sides
    if None in verdicts:
        return Skip("no outcome")
    outcome = verdicts[0] if verdicts[0] == verdicts[1] else Outcome.TIE
    return _compare(sides, models, int(parse_number(row.get("turn")) or 1), outcome)


def _convert_lm_eval(row: Row) -> Record:
    """https://github.com/EleutherAI/lm-evaluation-harness, samples_TASK_DATE.jsonl; `filtered_resps` is an extract."""
    samples = row.get("resps")
    first = samples[0] if isinstance(samples, list) and samples else None
    text = first[0] if isinstance(first, list) and first else first
    if text is not None and not isinstance(text, str):
        return Skip("log-likelihoods of given answers, no text")
    arguments = row.get("arguments")
    if isinstance(arguments, Mapping):  # {"gen_args_0": {"arg_0": prompt, "arg_1": settings}}
        arguments = [list(each.values()) for each in arguments.values() if isinstance(each, Mapping)]
    asked = arguments[0] if isinstance(arguments, list) and arguments else None
    request = read_request(asked[0] if isinstance(asked, list) and asked else asked, "arguments")
    return build_response(request.prompt, Side(None, parse_text(text, "resps"), request.history))


def _convert_helm(row: Row) -> Record:
    """One of `request_states` in HELM's scenario_state.json."""
    request, result, instance = (row.get(key) or {} for key in ("request", "result", "instance"))
    if not all(isinstance(each, Mapping) for each in (request, result, instance)):
        raise DataError("request, result or instance is no object. Allowed: as in request_states of HELM.")
    if result.get("success") is False:
        return Skip("the request failed")
    completions = result.get("completions") or [{}]
    asked = read_request(request.get("messages") or request.get("prompt"), "request")
    prompt = asked.prompt or read_request((instance.get("input") or {}).get("text"), "instance.input").prompt
    model = model_name(request.get("model"), "request.model")
    return build_response(
        prompt, Side(model, parse_text(completions[0].get("text"), "result.completions"), asked.history)
    )


def _convert_inspect(row: Row) -> Record:
    """One of `samples` in a log of inspect_ai; `messages` also holds what tools said, so `output` is read."""
    request, reply = read_request(row.get("input"), "input"), read_reply(row.get("output"), "output")
    return build_response(request.prompt, Side(reply.model, reply.text, request.history))


def _convert_promptfoo(row: Row) -> Record:
    prompt, provider, response = row.get("prompt"), row.get("provider"), row.get("response")
    raw = prompt.get("raw") if isinstance(prompt, Mapping) else prompt
    if isinstance(provider, Mapping):
        provider = provider.get("label") or provider.get("id")
    output = response.get("output") if isinstance(response, Mapping) else response
    if isinstance(output, Mapping | list):
        return Skip("the response is no text")
    request = read_request(raw, "prompt.raw")
    side = Side(model_name(provider, "provider"), parse_text(output, "response.output"), request.history)
    return build_response(request.prompt, side)


def _convert_wildbench(row: Row) -> Record:
    chat, outputs = row.get("chat_history"), row.get("output")
    if isinstance(chat, list) and all(isinstance(text, str) for text in chat):
        chat = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(chat)]
    request, reply = read_request(chat, "chat_history"), read_reply(outputs, "output")
    return build_response(
        request.prompt, Side(model_name(row.get("generator"), "generator"), reply.text, request.history)
    )


QUESTIONS = Format("FastChat questions", "questions", ("question_id", "turns"), _ask)
PROMPT_QUESTIONS = Format("Arena-Hard questions", "questions", ("uid", "prompt"), _ask)
BATCH_INPUT = Format("OpenAI Batch input", "questions", ("custom_id", "body"), _ask, optional=("method", "url"))
ANSWERS = Format(
    "FastChat answers",
    "responses",
    ("question_id", "choices"),
    _needs_link,
    model_columns=("model_id",),
    names_models=True,
    needs="questions",
    link=_link_answer,
)
BATCH_OUTPUT = Format(
    "OpenAI Batch output",
    "responses",
    ("custom_id", "response"),
    _needs_link,
    optional=("error",),
    names_models=True,
    needs="questions",
    link=_link_batch,
)
GAMES = Format(
    "Arena-Hard judgments",
    "votes",
    ("model", "judge", "games"),
    _needs_link,
    optional=("question_id", "uid", "baseline"),
    needs="answers",
    link=_link_games,
)
PAIR_JUDGMENTS = Format(
    "MT-bench pair judgments",
    "votes",
    ("question_id", "model_1", "model_2", "g1_winner", "g2_winner"),
    _needs_link,
    optional=("turn",),
    needs="answers",
    link=_link_pair,
)
SCORES = Format(
    "MT-bench single scores",
    "votes",
    ("question_id", "model", "judge", "score"),
    _needs_link,
    optional=("turn",),
    needs="answers",
)
LM_EVAL = Format("lm-eval samples", "responses", ("doc", "arguments", "resps"), _convert_lm_eval)
HELM = Format(
    "HELM scenario state",
    "responses",
    ("request", "result"),
    _convert_helm,
    optional=("instance",),
    names_models=True,
)
INSPECT = Format(
    "inspect_ai samples",
    "responses",
    ("input", "target", "messages", "output"),
    _convert_inspect,
    unread=frozenset({"choices"}),
    names_models=True,
)
PROMPTFOO = Format(
    "promptfoo results",
    "responses",
    ("prompt", "provider", "response", "vars"),
    _convert_promptfoo,
    names_models=True,
)
WILDBENCH = Format(
    "WildBench outputs",
    "responses",
    ("session_id", "chat_history", "output"),
    _convert_wildbench,
    model_columns=("generator",),
)
BENCHMARKS = (
    QUESTIONS,
    PROMPT_QUESTIONS,
    BATCH_INPUT,
    ANSWERS,
    BATCH_OUTPUT,
    GAMES,
    PAIR_JUDGMENTS,
    SCORES,
    LM_EVAL,
    HELM,
    INSPECT,
    PROMPTFOO,
    WILDBENCH,
)
