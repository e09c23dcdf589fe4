"""Files of one benchmark: rows that name a question or an answer by its key, linked with the file that holds its text.

That is the file with which their path has most folders in common, or the questions that the caller names. What is read
of a folder that holds several things depends on what is wanted: its judgments as votes, its answers as responses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal, final

from model_behavior.data.byte_streams import NothingToReadError, shorten
from model_behavior.data.formats.benchmarks import (
    ANSWERS,
    PAIR_JUDGMENTS,
    QUESTION_KEYS,
    SCORES,
    question_key,
    question_turns,
)
from model_behavior.data.formats.records import Format, Links, Row, model_name, parse_number
from model_behavior.data.opening import OpenedSource, open_source
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
from model_behavior.data.sources import Source, data_extension, expand_sources, open_rows
from model_behavior.errors import DataError, UsageError

Purpose = Literal["votes", "responses", "prompts"]

_ARENA_HARD_BASELINE = "gpt-4-0314"
_REFERENCES = "reference_answer"
_ANSWER_FOLDER = "model_answer"  # whose files are named after the model, as FastChat reads them
_PEEKED_ROWS = 1000


def open_sources(
    sources: Sequence[Source],
    purpose: Purpose,
    reading: ReadingOptions = AS_IT_IS,
    part: range | None = None,
    also: Format | None = None,
) -> list[OpenedSource]:
    """The sources in order, without those that only hold texts for others.

    Args:
        sources: files, folders, datasets, and rows in memory.
        purpose: what is read of a folder that holds several things.
        reading: what the caller has said.
        part: rows to read of a single Parquet file, all by default.
        also: as in `open_source`.

    Raises:
        DataError: a source that cannot be read or has no known format, or rows whose texts are in no file given.
        UsageError: no source was given.
    """
    if not sources:
        raise UsageError(
            "no source was given. Allowed: files, folders of files, hf://owner/name, lists of dictionaries, and "
            "DataFrames."
        )
    opened: list[OpenedSource] = []
    left_out: list[str] = []
    for source in sources:
        found, passed = open_files(
            expand_sources(source), lambda each: open_source(open_rows(each, part), reading, also)
        )
        chosen = _choose(found, purpose, also)
        opened += chosen
        kept = {id(each) for each in chosen}
        left_out += [*passed, *(each.rows.name for each in found if id(each) not in kept)]
    return _note_files(link_sources(opened, purpose, reading), left_out)


def open_files(
    files: Sequence[Source], open_one: Callable[[Source], OpenedSource]
) -> tuple[list[OpenedSource], list[str]]:
    """The files of one folder, or the only one; and the names of those that hold nothing to read, with the reason.

    Raises:
        DataError: a file cannot be read; NothingToReadError of the first, where none holds anything.
    """
    opened: list[OpenedSource] = []
    passed: list[str] = []
    first: NothingToReadError | None = None
    for each in files:
        try:
            opened.append(open_one(each))
        except NothingToReadError as error:
            first = first or error
            passed.append(f"{each} ({error.reason})")
    if not opened and first is not None:
        raise first
    return [replace(each, is_part=len(files) > 1) for each in opened], passed


def _choose(opened: list[OpenedSource], purpose: Purpose, also: Format | None) -> list[OpenedSource]:
    """Of one folder, what has texts; and of votes beside the responses that were compared, the votes.

    So AlpacaEval's results have them, and Arena-Hard's folder has battles without texts beside its answers.
    """
    with_texts = [each for each in opened if each.format.family != "battles"]
    chosen = with_texts if with_texts and also is None else opened
    votes = [each for each in chosen if each.format.family == "votes"]
    needs_others = any(each.format.needs is not None for each in chosen)
    return votes if votes and purpose == "votes" and not needs_others else chosen


def link_sources(opened: list[OpenedSource], purpose: Purpose, reading: ReadingOptions) -> list[OpenedSource]:
    """The sources that are read for a purpose; those that name questions or answers by key with the files of these.

    Raises:
        DataError: rows whose texts are in no file given.
    """
    if all(each.format.needs is None and each.format.family != "questions" for each in opened):
        return opened
    questions = [each for each in opened if each.format.family == "questions"]
    if reading.questions is not None:
        questions = [open_source(open_rows(source)) for source in expand_sources(reading.questions)]
    return _link(opened, questions, purpose)


def _note_files(read: list[OpenedSource], left_out: list[str]) -> list[OpenedSource]:
    if not left_out:
        return read
    listed = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
    return [replace(read[0], notes=(*read[0].notes, f"files not read: {listed}")), *read[1:]]


def _link(opened: list[OpenedSource], questions: list[OpenedSource], purpose: Purpose) -> list[OpenedSource]:
    """The sources that are read for a purpose, with what they need of the others."""
    references = [each for each in opened if each.format is ANSWERS and _REFERENCES in Path(each.rows.name).parts]
    rest = [each for each in opened if each.format.family != "questions" and each not in references]
    judged = [each for each in rest if each.format.needs == "answers"]
    answers = [
        each for each in rest if each.format.family == "responses" and set(QUESTION_KEYS) & set(each.rows.columns)
    ]
    left_out = list(references)
    if purpose == "votes" and judged:
        rest = [each for each in rest if each not in answers]
        if any(each.format is not SCORES for each in judged):  # verdicts on pairs say more than scores
            left_out += [each for each in judged if each.format is SCORES]
    elif purpose != "votes" and (answers or not judged):
        left_out += judged
    read = [each for each in rest if each not in left_out]
    if not read and (purpose == "prompts" or any(each.format.family != "questions" for each in opened)):
        read = [each for each in opened if each.format.family == "questions"]
    if purpose == "prompts" and questions:
        read = [each for each in opened if each.format.needs is None]
        left_out = [each for each in opened if each.format.needs is not None]
    if not read:
        raise DataError(
            f"{opened[0].rows.name}: holds questions alone ({opened[0].format.name}). Fix: give the answers to them, "
            "too, or the folder that holds both."
        )
    linked = [_link_one(each, questions, answers, judged) for each in read]
    return _note_files(linked, [each.rows.name for each in left_out])


def _link_one(
    source: OpenedSource, questions: list[OpenedSource], answers: list[OpenedSource], judged: list[OpenedSource]
) -> OpenedSource:
    if source.format.needs is None:
        return source
    if source.format.needs == "answers" and not answers:
        raise DataError(
            f"{source.rows.name}: holds judgments ({source.format.name}), whose texts are in other files. Fix: give "
            "the folder that holds question.jsonl, model_answer/ and model_judgment/."
        )
    by_messages = bool(answers) and all("messages" in each.rows.columns for each in answers)
    if not questions and not (source.format.needs == "answers" and by_messages):
        raise DataError(_missing_questions(source))
    texts = _Texts(Path(source.rows.name), _nearest(source, questions), _nearest(source, answers), judged)
    model, notes = _stem(source.rows.name), source.notes
    is_named = source.format is ANSWERS and Path(source.rows.name).parent.name == _ANSWER_FOLDER
    if is_named:
        others = _other_names(source, model)
        is_named = len(others) < 2
        notes += (f"the model is called {model} by its file, and {others[0]} in it",) if len(others) == 1 else ()
    linked = replace(source, links=Links(texts.question, texts.answer, texts.baseline, model, is_named), notes=notes)
    return _pair_scores(linked) if source.format is SCORES else linked


def _other_names(source: OpenedSource, model: str) -> list[str]:
    """The names other than the file's that its first answers give the model."""
    rows = islice(_all_rows(source), _PEEKED_ROWS)
    names = {model_name(row.get("model_id"), "model_id") for row in rows} - {None, model}
    return sorted(name for name in names if name)


def _missing_questions(source: OpenedSource) -> str:
    path = Path(source.rows.name)
    near = next((file for folder in path.parents for file in (folder / "question.jsonl",) if file.is_file()), None)
    if source.format is ANSWERS or source.format.needs == "answers":
        example, what = str(near or "question.jsonl"), "question.jsonl"
    else:
        example, what = "requests.jsonl", "the batch's input file"
    return (
        f"{source.rows.name}: holds answers ({source.format.name}) whose prompts are in another file. Fix: give the "
        f"folder that holds {what} too, or --questions {example}."
    )


@final
class _Texts:
    """Questions and answers of a benchmark, read when they are first asked for."""

    def __init__(
        self, path: Path, questions: list[OpenedSource], answers: list[OpenedSource], judged: list[OpenedSource]
    ) -> None:
        self._path = path
        self._question_sources, self._answer_sources, self._judged = questions, answers, judged
        self._answers: dict[str, dict[str, Row]] = {}
        self._all_read = False

    @cached_property
    def _questions(self) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for source in self._question_sources:
            for row in _all_rows(source):
                key = question_key(row)
                if question_turns(found.setdefault(key, row)) != question_turns(row):
                    raise DataError(
                        f"{source.rows.name}: holds two different questions of the key {shorten(key)}, so that it is "
                        "not known which one was answered. Fix: give each question a key of its own, or only the file "
                        "that was asked, with --questions."
                    )
        return found

    def question(self, key: str) -> Row | None:
        return self._questions.get(key)

    def answer(self, model: str, key: str) -> tuple[Row, Row | None] | None:
        if model not in self._answers:
            self._read_answers(model)
        row = self._answers.get(model, {}).get(key)
        return None if row is None else (row, self.question(key))

    def _read_answers(self, model: str) -> None:
        named = [source for source in self._answer_sources if _stem(source.rows.name) == model]
        if named:
            self._answers[model] = {question_key(row): row for source in named for row in _all_rows(source)}
        elif not self._all_read:
            self._all_read = True
            for source in self._answer_sources:
                for row in _all_rows(source):
                    name = model_name(row.get("model_id", row.get("model")), "model") or _stem(source.rows.name)
                    self._answers.setdefault(name, {}).setdefault(question_key(row), row)

    def baseline(self) -> str:
        """The model with answers that was compared with none but as the baseline."""
        names = {_stem(source.rows.name) for source in self._answer_sources}
        folder = self._path.parent
        compared = {_stem(each.rows.name) for each in self._judged if Path(each.rows.name).parent == folder}
        left = sorted(names - compared)
        if _ARENA_HARD_BASELINE in left or len(left) != 1:
            left = [_ARENA_HARD_BASELINE] if _ARENA_HARD_BASELINE in names else left
        if len(left) != 1:
            raise DataError(
                "the row does not name the baseline that the model was compared with, and the folder does not say it: "
                f"answers without judgments are those of {', '.join(left) or 'no model'}. Fix: add a key baseline to "
                "the rows of the judgments."
            )
        return left[0]


def _all_rows(source: OpenedSource) -> Iterator[Row]:
    for rows in source.rows.rows(source.columns):
        for row in rows:
            yield source.view(row)


def _nearest(source: OpenedSource, others: list[OpenedSource]) -> list[OpenedSource]:
    """Those whose path has most folders in common with the source's."""

    def shared(other: OpenedSource) -> int:
        parts = [Path(each.rows.name).parent.parts for each in (source, other)]
        return next((i for i, (a, b) in enumerate(zip(*parts, strict=False)) if a != b), min(map(len, parts)))

    most = max(map(shared, others), default=0)
    return [other for other in others if shared(other) == most]


def _stem(name: str) -> str:
    """The name of a file without its endings, of which a model's name may hold some that look like one."""
    path = Path(name)
    while data_extension(path) is not None:
        path = path.with_suffix("")
    return path.name


def _pair_scores(source: OpenedSource) -> OpenedSource:
    """Scores of single answers as verdicts on each two models of a question."""

    def read(columns: Sequence[str], batch_rows: int) -> Iterator[list[dict[str, Any]]]:
        del columns
        scores: dict[tuple[str, Any], dict[str, float]] = {}
        for row in _all_rows(source):
            score = parse_number(row.get("score"))
            name = model_name(row.get("model"), "model")
            if name is not None and score is not None and score >= 0:
                scores.setdefault((question_key(row), row.get("turn")), {})[name] = score
        pairs = [_verdict(key, *pair) for key, scored in scores.items() for pair in combinations(scored.items(), 2)]
        for start in range(0, len(pairs), batch_rows):
            yield pairs[start : start + batch_rows]

    warning = "votes are made of scores of single answers: of each two models of a question the higher score wins"
    rows = replace(source.rows, read_rows=read, columns=("question_id", *PAIR_JUDGMENTS.required, "turn"), n_rows=None)
    return replace(source, rows=rows, format=replace(PAIR_JUDGMENTS, name=SCORES.name, warning=warning))


def _verdict(key: tuple[str, Any], first: tuple[str, float], second: tuple[str, float]) -> dict[str, Any]:
    better = "tie" if first[1] == second[1] else "model_1" if first[1] > second[1] else "model_2"
    games = {"g1_winner": better, "g2_winner": better}
    return {"question_id": key[0], "turn": key[1], "model_1": first[0], "model_2": second[0], **games}
