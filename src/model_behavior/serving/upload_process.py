"""Reads uploads in a process of its own, with limits on memory and time.

Parsers of Parquet, JSON and CSV are native code, and a client may send what they fail on. Here a parser that ends its
process, or takes too much, takes nobody else with it: the process is replaced, and the client is told.

Run as a program, this module is that process: it answers one line of JSON on standard input, an upload, with one line
on standard output, and leaves the rows in a file.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa

from model_behavior.data_models.votes import PairTable, SourceReport
from model_behavior.errors import DataError, ModelBehaviorError, UsageError
from model_behavior.serving.uploads import read_upload

ReadUpload = Callable[[Path, str | None, int], tuple[PairTable, SourceReport]]
"""Function with the arguments and the result of `read_upload`."""

_ERRORS: Final = {each.__name__: each for each in (DataError, UsageError)}
_TEXTS: Final = ("prompts", "responses", "histories")
_INDEX: Final = ("prompt_index", "model_index")
_MESSAGE: Final = 2_000  # longest message, in characters


class BusyError(ModelBehaviorError):
    """The machine has no room for the process that reads uploads."""


@dataclass(frozen=True)
class ReadingLimits:
    """Limits on the reading of one upload.

    Attributes:
        seconds: longest time.
        memory_bytes: most memory beyond what the process needs at rest.
    """

    seconds: float = 30.0
    memory_bytes: int = 1 << 30


@final
class UploadProcess:
    """A process that reads one upload at a time. It starts with the first upload, or with `start`."""

    def __init__(self, limits: ReadingLimits | None = None) -> None:
        self._limits = limits if limits is not None else ReadingLimits()
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process where it does not run, so that the first upload need not wait for it."""
        with self._one_at_a_time:
            self._running()

    def close(self) -> None:
        """Ends the process, whatever it does."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def read(self, file: Path, model: str | None, max_rows: int) -> tuple[PairTable, SourceReport]:
        """As `read_upload`.

        Raises:
            DataError: also where reading takes too much memory or time, or ends the process.
            BusyError: the process cannot be started.
        """
        with self._one_at_a_time, tempfile.TemporaryDirectory(prefix="model-behavior-read-") as folder:
            target = Path(folder) / "rows"
            question = {"file": str(file), "model": model, "max_rows": max_rows, "target": str(target)}
            answer = self._ask(json.dumps(question).encode() + b"\n")
            if "error" in answer:
                raise _ERRORS.get(answer["error"], DataError)(answer["message"])
            return _read_rows(target, tuple(answer["models"])), SourceReport(**answer["report"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-c", f"import {__name__} as reading; reading.main()"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            try:
                self._process = subprocess.Popen(
                    [*command, str(self._limits.memory_bytes)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # it could name texts
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the service, which ends it
                )
            except OSError as error:
                raise BusyError("the upload cannot be read now. Fix: try again in a while") from error
            weakref.finalize(self, _end, self._process)  # no process outlives its service
        return self._process

    def _ask(self, question: bytes) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        line = b""
        try:
            process.stdin.write(question)
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(self._limits.seconds):
                    seconds = self._limits.seconds
                    raise DataError(f"reading the upload takes more than {seconds:g} seconds. Fix: send it in parts")
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            if not line:
                self.close()
        if not line:
            limit = self._limits.memory_bytes >> 20
            raise DataError(
                f"the upload cannot be read: its parser failed, or needs more than {limit:,} MiB. "
                "Fix: send it in parts, written by a common library"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Reads uploads until standard input ends."""
    _limit_memory(int(sys.argv[1]))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer = _answer(Path(question["file"]), question["model"], question["max_rows"], Path(question["target"]))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _answer(file: Path, model: str | None, max_rows: int, target: Path) -> dict[str, Any]:
    try:
        pairs, report = read_upload(file, model, max_rows)
        _write_rows(pairs, target)
    except (DataError, UsageError) as error:
        return {"error": type(error).__name__, "message": str(error)[:_MESSAGE]}
    except MemoryError:
        return {"error": "DataError", "message": "the upload needs too much memory to be read. Fix: send it in parts"}
    except Exception as error:  # noqa: BLE001  its message may hold texts
        kind = type(error).__name__
        return {"error": "DataError", "message": f"the upload cannot be read ({kind}). Fix: check that it is whole"}
    return {"models": pairs.models, "report": asdict(report)}


def _limit_memory(more: int) -> None:
    """Limits what the process may allocate beyond what it has, and leaves no core file."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[5]) if sys.platform == "linux" else 0
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write_rows(pairs: PairTable, target: Path) -> None:
    texts = {name: getattr(pairs, name) for name in _TEXTS}
    columns = {**texts, **{name: pa.array(getattr(pairs, name)) for name in _INDEX}}
    with pa.OSFile(str(target), "wb") as file:
        for name, column in columns.items():
            batch = pa.record_batch([column], names=[name])
            with pa.ipc.new_stream(file, batch.schema) as stream:
                stream.write_batch(batch)


def _read_rows(target: Path, models: tuple[str, ...]) -> PairTable:
    columns: dict[str, pa.Array] = {}
    with pa.OSFile(str(target), "rb") as file:
        for name in (*_TEXTS, *_INDEX):
            (batch,) = list(pa.ipc.open_stream(file))
            columns[name] = batch.column(name)
    index = {name: np.asarray(columns.pop(name)).astype(np.int32) for name in _INDEX}
    return PairTable(models=models, **columns, **index)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
