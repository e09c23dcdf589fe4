"""Several worker processes behind one address: started, replaced when they end, and stopped together.

The parent listens and answers nothing. Every worker is the same command again; it inherits the listening socket and
the table that they share, and takes connections from the one queue of the system.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from model_behavior.serving.settings import MetricFiles
from model_behavior.serving.shared_table import SharedTable

VARIABLE = "MODEL_BEHAVIOR_SERVE_WORKER"
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_RESTART_SECONDS = 1.0
_PATIENCE_SECONDS = 15.0  # beyond the time that requests have to finish
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Inherited:
    """What a worker has of its parent.

    Attributes:
        listener: listening socket.
        shared: table that all workers share.
        ready: pipe to write to once it answers.
        metrics: files of its metrics.
    """

    listener: socket.socket
    shared: SharedTable
    ready: int
    metrics: MetricFiles

    def tell(self) -> None:
        """Tells the parent that this worker answers."""
        os.write(self.ready, b".")
        os.close(self.ready)


def inherited() -> Inherited | None:
    """What the parent has left to this process; None where it is no worker."""
    value = os.environ.pop(VARIABLE, "")
    if not value:
        return None
    listener, table, ready, place = map(int, value.split(","))
    metrics = MetricFiles(Path(os.environ[_METRICS]), place)
    return Inherited(socket.socket(fileno=listener), SharedTable(table), ready, metrics)


@final
class Workers:
    """The processes.

    Args:
        number: number of processes.
        command: command of each, after the interpreter.
        listener: listening socket.
        shutdown_seconds: time that running requests have to finish.
    """

    def __init__(self, number: int, command: Sequence[str], listener: socket.socket, shutdown_seconds: float) -> None:
        self._number, self._command = number, list(command)
        self._listener, self._shared = listener, SharedTable()
        self._patience = shutdown_seconds + _PATIENCE_SECONDS
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()
        self._metrics = ""

    def run(self, on_ready: Callable[[], None]) -> int:
        """Runs until SIGINT or SIGTERM, or until a worker cannot even start; returns the exit status.

        Args:
            on_ready: callback, called once all workers answer.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        read, write = os.pipe()
        self._metrics = tempfile.mkdtemp(prefix="model-behavior-metrics-")
        try:
            self._running = [self._start(place, write) for place in range(self._number)]
            if not self._await(read):
                return 0 if self._stopping.is_set() else 1
            on_ready()
            while not self._stopping.wait(_POLL_SECONDS):
                for place, process in enumerate(self._running):
                    if process.poll() is not None:
                        print(f"a worker ended with {process.returncode}; starting another", file=sys.stderr)
                        time.sleep(_RESTART_SECONDS)
                        self._running[place] = self._start(place, write)
            return 0
        finally:
            self._stop()
            os.close(read)
            os.close(write)
            shutil.rmtree(self._metrics, ignore_errors=True)

    def _start(self, place: int, ready: int) -> subprocess.Popen[bytes]:
        handed = (self._listener.fileno(), self._shared.descriptor, ready)
        environment = {**os.environ, VARIABLE: ",".join(map(str, (*handed, place))), _METRICS: self._metrics}
        command = [sys.executable, "-m", "model_behavior", *self._command]
        # A session of its own, so that Ctrl-C reaches the parent alone.
        return subprocess.Popen(command, env=environment, pass_fds=handed, start_new_session=True)

    def _await(self, read: int) -> bool:
        """Waits until all workers answer; False where one has ended before, or the service is stopped."""
        os.set_blocking(read, False)
        ready = 0
        while ready < self._number:
            if self._stopping.wait(_POLL_SECONDS) or any(each.poll() is not None for each in self._running):
                return False
            try:
                ready += len(os.read(read, self._number))
            except BlockingIOError:
                continue
        return True

    def _stop(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + self._patience
        for process in self._running:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
