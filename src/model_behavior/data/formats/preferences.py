"""Preferences that are no flat table: chosen and rejected, ranked answers, scores of several, feedback on a chat."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from model_behavior.data.byte_streams import shorten
from model_behavior.data.formats.records import (
    Format,
    Record,
    Response,
    Row,
    Side,
    Skip,
    Vote,
    build_vote,
    is_missing,
    join_records,
    model_name,
    parse_number,
)
from model_behavior.data.formats.replies import read_reply, read_request
from model_behavior.data.formats.turns import encode_history, message_role, message_text, parse_column
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_LABELS = {0: Outcome.TIE, 1: Outcome.MODEL_A, 2: Outcome.MODEL_B}


def _convert_chosen(row: Row) -> Record:
    sides = []
    prompt, history = None, ""
    for kind in ("chosen", "rejected"):
        reply = read_reply(row.get(kind), kind)
        sides.append(Side(model_name(row.get(f"{kind}_model"), f"{kind}_model"), reply.text))
        if isinstance(row.get(kind), list):
            request = read_request(row[kind], kind)
            prompt, history = request.prompt, request.history
    if not is_missing(row.get("prompt")):
        asked = read_request(row["prompt"], "prompt")
        prompt, history = asked.prompt, asked.history
    winner, loser = (Side(side.model, side.response, history) for side in sides)
    return build_vote(prompt, winner, loser, Outcome.MODEL_A)


def _convert_ultrafeedback(row: Row) -> Record:
    """https://huggingface.co/datasets/openbmb/UltraFeedback: the higher `overall_score` of each two answers wins."""
    prompt = parse_column(row.get("instruction"), "instruction")
    answers = _answers(row.get("completions"), "completions", ("model", "response", "overall_score"))
    sides = [Side(model_name(a["model"], "model"), parse_column(a["response"], "response")) for a in answers]
    return _compare_all(prompt, sides, [parse_number(answer["overall_score"]) for answer in answers])


def _convert_nectar(row: Row) -> Record:
    """https://huggingface.co/datasets/berkeley-nest/Nectar: of each two answers the one of lower rank wins."""
    answers = _answers(row.get("answers"), "answers", ("model", "answer", "rank"))
    prompt, history = _split_transcript(parse_column(row.get("prompt"), "prompt"))
    sides = [Side(model_name(a["model"], "model"), parse_column(a["answer"], "answer"), history) for a in answers]
    ranks = [parse_number(answer["rank"]) for answer in answers]
    return _compare_all(prompt, sides, [None if rank is None else -rank for rank in ranks])


def _answers(value: Any, column: str, keys: tuple[str, ...]) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(a, Mapping) and set(keys) <= set(a) for a in value):
        raise DataError(
            f"{column} is {shorten(value)}. Allowed: a list of objects with {', '.join(keys)}. Fix: write one row for "
            "each comparison, with prompt, model_a, response_a, model_b, response_b, winner."
        )
    return value


def _compare_all(prompt: str | None, sides: Sequence[Side], scores: Sequence[float | None]) -> Record:
    votes: list[Vote | Response | Skip] = []
    for (side_a, score_a), (side_b, score_b) in combinations(zip(sides, scores, strict=True), 2):
        outcome = None
        if score_a is not None and score_b is not None:
            better = Outcome.MODEL_A if score_a > score_b else Outcome.MODEL_B
            outcome = Outcome.TIE if score_a == score_b else better
        votes.append(build_vote(prompt, side_a, side_b, outcome))
    return join_records(votes)


def _split_transcript(text: str | None) -> tuple[str | None, str]:
    """The last message of a transcript of Human and Assistant, and the turns before it; other text as it is."""
    if text is None or not text.startswith("\n\nHuman:"):
        return text, ""
    parts = [part.strip() for part in _SPEAKER.split(text)]
    spoken = list(zip(parts[1::2], parts[2::2], strict=True))
    if spoken[-1] == ("Assistant", ""):
        spoken.pop()
    asked = max(index for index, (speaker, _) in enumerate(spoken) if speaker == "Human")
    turns: list[tuple[str | None, str | None]] = []
    for speaker, said in spoken[:asked]:
        if speaker == "Human":
            turns.append((said, None))
        else:
            turns[-1] = (turns[-1][0], said)
    return spoken[asked][1], encode_history(turns)


def _convert_pandalm(row: Row) -> Record:
    """https://github.com/WeOpenML/PandaLM, testset-v1.json: `cmp_key` is MODEL1_MODEL2; each annotator has a vote."""
    names = str(row.get("cmp_key") or "").split("_")
    if len(names) != 2:
        return Skip("no model name")
    task, material = (parse_column(row.get(column), column) for column in ("instruction", "input"))
    prompt = None if task is None else "\n\n".join(text for text in (task, material) if text)
    side_a, side_b = (
        Side(model_name(name, "cmp_key"), parse_column(row.get(f"response{end}"), f"response{end}"))
        for end, name in enumerate(names, 1)
    )
    votes: list[Vote | Response | Skip] = []
    for column in _ANNOTATORS:
        label = parse_number(row.get(column))
        if label is not None and label not in _LABELS:
            raise DataError(
                f"{column} is {shorten(row.get(column))}. Allowed: 0 for a tie, 1 for response1, 2 for response2."
            )
        outcome = None if label is None else _LABELS[int(label)]
        if outcome is not None:
            votes.append(build_vote(prompt, side_a, side_b, outcome))
    return join_records(votes) if votes else Skip("no outcome")


def _convert_open_webui(row: Row) -> Record:
    """Feedback of Open WebUI: the rated answer won or lost against every answer that was shown beside it."""
    data, meta = _object(row.get("data")), _object(row.get("meta"))
    rating = parse_number(data.get("rating"))
    if not rating:
        return Skip("no outcome")
    if abs(rating) != 1:
        raise DataError(
            f"data.rating is {shorten(data.get('rating'))}. Allowed: 1 or -1. Fix: export the feedback anew."
        )
    siblings = [
        name for name in (model_name(n, "data.sibling_model_ids") for n in data.get("sibling_model_ids") or []) if name
    ]
    if not siblings:
        return Skip("no other model beside it")
    messages = _find_messages(row.get("snapshot"))
    rated = messages.get(str(meta.get("message_id") or row.get("message_id")))
    if rated is None:
        return Skip("the rated message is not in the snapshot")
    asked = messages.get(str(rated.get("parentId")))
    prompt = None if asked is None or message_role(asked) != "user" else message_text(asked, "snapshot")
    model = model_name(data.get("model_id"), "data.model_id")
    history = _history(messages, None if asked is None else asked.get("parentId"))
    side = Side(model, message_text(rated, "snapshot"), history)
    outcome = Outcome.MODEL_A if rating > 0 else Outcome.MODEL_B
    beside = [m for m in messages.values() if m is not rated and m.get("parentId") == rated.get("parentId")]
    votes: list[Vote | Response | Skip] = []
    for name in dict.fromkeys(filter(None, siblings)):
        other = next((m for m in beside if name in (m.get("selectedModelId"), m.get("model"))), None)
        text = None if other is None else message_text(other, "snapshot")
        votes.append(build_vote(prompt, side, Side(name, text, history), outcome))
    return join_records(votes)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _find_messages(snapshot: Any) -> dict[str, Mapping[str, Any]]:
    """The messages of a chat by their id; the chat is nested once or twice in a snapshot."""
    chat = snapshot
    while isinstance(chat, Mapping) and "history" not in chat and "chat" in chat:
        chat = chat["chat"]
    history = chat.get("history") if isinstance(chat, Mapping) else None
    found = history.get("messages") if isinstance(history, Mapping) else None
    return {str(key): message for key, message in found.items()} if isinstance(found, Mapping) else {}


def _history(messages: Mapping[str, Mapping[str, Any]], last: Any) -> str:
    """The turns before a user's message, whose parent is the answer `last`."""
    turns: list[tuple[str | None, str | None]] = []
    while (answer := messages.get(str(last))) is not None and len(turns) < len(messages):
        asked = messages.get(str(answer.get("parentId")))
        turns.append((None if asked is None else message_text(asked, "snapshot"), message_text(answer, "snapshot")))
        last = None if asked is None else asked.get("parentId")
    return encode_history(turns[::-1])


_ANNOTATORS = ("annotator1", "annotator2", "annotator3")
CHOSEN = Format(
    "chosen and rejected",
    "votes",
    ("chosen", "chosen_model", "rejected", "rejected_model"),
    _convert_chosen,
    optional=("prompt",),
)
ULTRAFEEDBACK = Format("UltraFeedback", "votes", ("instruction", "completions"), _convert_ultrafeedback)
NECTAR = Format("Nectar", "votes", ("prompt", "answers"), _convert_nectar)
PANDALM = Format(
    "PandaLM", "votes", ("instruction", "input", "response1", "response2", "cmp_key"), _convert_pandalm, _ANNOTATORS
)
OPEN_WEBUI = Format("Open WebUI feedback", "votes", ("data", "snapshot"), _convert_open_webui, ("meta",))
PREFERENCES = (CHOSEN, ULTRAFEEDBACK, NECTAR, PANDALM, OPEN_WEBUI)
