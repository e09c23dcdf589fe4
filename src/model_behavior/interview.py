"""Asks a model at an OpenAI-compatible endpoint the prompts that tell most about it.

Each answer is one line of a JSONL file, written as soon as it is there, with all that is needed to enrol it: prompt,
model, response, and how it was asked. A file that holds answers already is gone on with; what it holds is not asked
again. Failures that pass (no connection, 408, 409, 429, 5xx) are tried again after a growing pause, or after the one
that the server asks for (Retry-After, RFC 9110, 10.2.3).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import ModuleType
from typing import Any, final

from model_behavior.artifact import Artifact
from model_behavior.catalog.asking import SuggestedPrompt
from model_behavior.errors import DataError, MissingExtraError, ModelBehaviorError, UsageError

_PASSING = frozenset((408, 409, 425, 429, *range(500, 600)))
_LONGEST_PAUSE = 120.0
_ROUND = 4  # answers between two looks at the interval
_SHOWN = 300
_LARGEST_ANSWER = 64 << 20

Progress = Callable[[int, int], None]


class EndpointError(ModelBehaviorError):
    """The endpoint refuses requests, or does not answer."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how a model is asked.

    Attributes:
        base_url: URL up to and including `/v1`.
        model: name of the model at the endpoint.
        api_key: key sent as a bearer token; "" for none.
        temperature: sampling temperature; None for the endpoint's default.
        system: system prompt; None for none.
        max_tokens: longest answer in tokens; None for the endpoint's default.
        concurrency: requests under way at once.
        attempts: attempts at one prompt.
        first_pause: seconds before the second attempt; doubles with each further one.
        timeout_seconds: longest wait for an answer.
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    temperature: float | None = None
    system: str | None = None
    max_tokens: int | None = None
    concurrency: int = 4
    attempts: int = 6
    first_pause: float = 1.0
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise UsageError(f"base URL {self.base_url!r} is not an http(s) URL, such as http://localhost:8000/v1")

    @property
    def asked_with(self) -> dict[str, Any]:
        """What an answer depends on besides the prompt, as it is recorded."""
        return {"temperature": self.temperature, "system": self.system, "max_tokens": self.max_tokens}

    def request(self, prompt: str) -> dict[str, Any]:
        """Body of the request for one prompt."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        body: dict[str, Any] = {"model": self.model, "messages": [*system, {"role": "user", "content": prompt}]}
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return body | {name: value for name, value in given.items() if value is not None}


@final
class AnswerFile:
    """Answers of one model as JSONL, in the order in which they came.

    Args:
        path: file to go on with, or to begin.
        name: name of the model in it.
        endpoint: how the model is asked.

    Attributes:
        rows: answers, those of earlier runs first.

    Raises:
        DataError: the file holds something else than such answers.
        UsageError: its answers are of another model, or were asked for otherwise.
    """

    def __init__(self, path: Path, name: str, endpoint: Endpoint) -> None:
        self.path, self._name, self._endpoint = path, name, endpoint
        self.rows: list[dict[str, Any]] = []
        whole = path.read_text("utf-8") if path.exists() else ""
        lines = whole.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                self._check(row)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if number == len(lines) and not whole.endswith("\n"):
                    break  # the line that a killed process was writing
                raise DataError(
                    f"{path}, line {number}: not an answer of `ask` ({error!r}). Fix: another --output"
                ) from error
            self.rows.append(row)
        if whole and not whole.endswith("\n"):
            kept = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
            path.write_text(kept, "utf-8")

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the prompts that are answered."""
        return frozenset(row["prompt_id"] for row in self.rows)

    def add(self, prompt: SuggestedPrompt, reply: dict[str, Any]) -> None:
        """Writes one answer."""
        choice = reply["choices"][0]
        row = {
            "prompt_id": prompt.key,
            "prompt": prompt.prompt,
            "model": self._name,
            "response": choice["message"]["content"],
            "asked_model": self._endpoint.model,
            **self._endpoint.asked_with,
            "finish_reason": choice.get("finish_reason"),
            "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows.append(row)

    def _check(self, row: dict[str, Any]) -> None:
        _ = row["prompt_id"], row["prompt"], row["response"]
        expected = {"model": self._name, "asked_model": self._endpoint.model, **self._endpoint.asked_with}
        for name, value in expected.items():
            if row[name] != value:
                raise UsageError(
                    f"{self.path} holds answers with {name}={row[name]!r}, not {value!r}. Fix: another --output, or "
                    "ask as before"
                )


@dataclass(frozen=True)
class Interview:
    """An interview of one model, by prompts that an artifact chooses.

    Attributes:
        artifact: artifact that chooses the prompts and rates the model.
        endpoint: endpoint of the model.
        file: file of the answers.
        name: name of the model in the artifact.
        number: number of answers, those of earlier runs included.
        half_width: half-width of the rating's 95 % interval, in Elo, at which to stop early; None to ask all.
        progress: callback, called with (answers, number).
    """

    artifact: Artifact
    endpoint: Endpoint
    file: AnswerFile
    name: str
    number: int
    half_width: float | None = None
    progress: Progress | None = None

    def run(self) -> None:
        """Asks until all prompts are answered, or the rating is certain enough.

        Raises:
            EndpointError: the endpoint refuses, or a prompt is still unanswered after all attempts; answers that came
                are in the file.
        """
        with open_client(self.endpoint) as client:
            while len(self.file.rows) < self.number and not self._is_certain():
                prompts = self._next_prompts()
                if not prompts:
                    break
                self._ask(client, prompts)

    def rated(self) -> Artifact:
        """The artifact with the model as far as it has answered."""
        return self.artifact.onboard(self.file.rows, self.name)

    def _is_certain(self) -> bool:
        if self.half_width is None or not self.file.rows:
            return False
        (sure,) = self.rated().certainty([self.name], scale="elo")
        return sure.rating is not None and sure.rating.half_width <= self.half_width

    def _next_prompts(self) -> list[SuggestedPrompt]:
        """All prompts at once, or the next few where each round says whether it was the last."""
        answered = self.file.keys
        if self.half_width is None:
            found = self.artifact.prompts(self.number)
        else:
            source = self.rated() if answered else self.artifact
            found = source.prompts(self.number, self.name if answered else None)
        free = [prompt for prompt in found if prompt.key not in answered][: self.number - len(answered)]
        return free if self.half_width is None else free[: max(_ROUND, self.endpoint.concurrency)]

    def _ask(self, client: Client, prompts: Sequence[SuggestedPrompt]) -> None:
        failed: list[str] = []
        pool = ThreadPoolExecutor(self.endpoint.concurrency)
        pending: dict[Future[dict[str, Any]], SuggestedPrompt] = {}
        try:
            pending = {pool.submit(client.answer, prompt.prompt): prompt for prompt in prompts}
            for future in as_completed(pending):
                self._keep(future, pending[future], failed)
        except BaseException:
            client.stop()
            pool.shutdown(cancel_futures=True)  # what is under way is paid for: it is waited for, and kept
            kept = self.file.keys
            for future, prompt in pending.items():
                if prompt.key not in kept and future.done() and not future.cancelled() and not future.exception():
                    self.file.add(prompt, future.result())
            raise
        pool.shutdown()
        if failed:
            raise EndpointError(
                f"{len(failed)} of {len(prompts)} prompts are unanswered; the first: {failed[0]}. "
                f"{len(self.file.rows)} answers are in {self.file.path}. Fix: run the same command again"
            )

    def _keep(self, future: Future[dict[str, Any]], prompt: SuggestedPrompt, failed: list[str]) -> None:
        try:
            self.file.add(prompt, future.result())
        except PassingError as error:
            failed.append(str(error))
        if self.progress is not None:
            self.progress(len(self.file.rows), self.number)


class PassingError(EndpointError):
    """A failure that another attempt may get around."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


@final
class Client:
    """Asks for chat completions, and tries again where that may help."""

    def __init__(self, endpoint: Endpoint, http: Any, httpx: ModuleType) -> None:
        self._endpoint, self._http, self._httpx = endpoint, http, httpx
        self._stopped = threading.Event()

    def stop(self) -> None:
        """No further attempts."""
        self._stopped.set()

    def answer(self, prompt: str) -> dict[str, Any]:
        """The completion of one prompt.

        Raises:
            PassingError: every attempt has failed.
            EndpointError: the endpoint refuses the request.
        """
        for attempt in range(self._endpoint.attempts):
            try:
                return self._once(prompt)
            except PassingError as error:
                if attempt + 1 == self._endpoint.attempts:
                    raise
                # Full jitter keeps clients that failed together from coming back together.
                pause = self._endpoint.first_pause * 2**attempt * (0.5 + random.random() / 2)
                if self._stopped.wait(min(pause if error.pause is None else error.pause, _LONGEST_PAUSE)):
                    raise
        raise AssertionError("at least one attempt is made")

    def _once(self, prompt: str) -> dict[str, Any]:
        try:
            with self._http.stream("POST", "chat/completions", json=self._endpoint.request(prompt)) as response:
                body = self._read(response)
        except self._httpx.TransportError as error:
            raise PassingError(f"{self._endpoint.base_url}: {type(error).__name__}: {error}") from error
        if response.status_code in _PASSING:
            raise PassingError(self._describe(response, body), _retry_after(response.headers.get("retry-after")))
        if response.status_code != 200:
            raise EndpointError(f"{self._describe(response, body)}. Fix: check the URL, the key and the model's name")
        try:
            reply: dict[str, Any] = json.loads(body)
            text = reply["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise EndpointError(f"{self._endpoint.base_url}: not a chat completion: {body[:_SHOWN]!r}") from error
        if not isinstance(text, str) or not text.strip():
            raise PassingError(f"{self._endpoint.base_url}: an empty answer")
        return reply

    def _read(self, response: Any) -> str:
        """The body, of bounded size and time: a server may send compressed bombs, or never end."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise EndpointError(f"{self._endpoint.base_url}: a compressed answer, though none was asked for")
        deadline, body = time.monotonic() + self._endpoint.timeout_seconds, bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _LARGEST_ANSWER:
                raise EndpointError(f"{self._endpoint.base_url}: an answer of more than {_LARGEST_ANSWER:,} bytes")
            if time.monotonic() > deadline:
                raise PassingError(f"{self._endpoint.base_url}: no end within {self._endpoint.timeout_seconds:g} s")
        return body.decode("utf-8", "replace")

    def _describe(self, response: Any, body: str) -> str:
        return f"{self._endpoint.base_url}: {response.status_code} {response.reason_phrase}: {body[:_SHOWN]}"


@contextmanager
def open_client(endpoint: Endpoint) -> Iterator[Client]:
    """A client with its connections.

    Raises:
        MissingExtraError: httpx is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("ask", "ask") from error
    headers = {"Accept-Encoding": "identity"}
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    timeout = httpx.Timeout(endpoint.timeout_seconds, connect=10.0)
    url = endpoint.base_url.rstrip("/") + "/"
    with httpx.Client(base_url=url, headers=headers, timeout=timeout, follow_redirects=False) as http:
        yield Client(endpoint, http, httpx)


def to_batch(prompts: Sequence[SuggestedPrompt], model: str) -> list[dict[str, Any]]:
    """Requests in the format of OpenAI's Batch API, one per prompt."""
    return [
        {
            "custom_id": prompt.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": prompt.prompt}]},
        }
        for prompt in prompts
    ]


def to_messages(prompts: Sequence[SuggestedPrompt]) -> list[dict[str, Any]]:
    """Chat messages, one conversation per prompt."""
    return [{"prompt_id": each.key, "messages": [{"role": "user", "content": each.prompt}]} for each in prompts]


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for; None without one that can be read."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None
