"""Where the command starts: settings made before the heavy libraries are loaded, and a Ctrl-C that is never lost.

Python raises KeyboardInterrupt wherever the program is. Where that is inside a destructor, a weak reference's callback
or a library that clears every error, the exception is dropped and the program goes on. So the signal is remembered
too, and `Progress`, which every long task passes again and again, raises it once more.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_interrupted = False


@contextmanager
def remembering_interrupts() -> Iterator[None]:
    """Within the block, an interrupt is remembered. One that the parent process had ignored stays ignored."""
    global _interrupted
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _interrupted = False


def raise_lost_interrupt() -> None:
    """Raises KeyboardInterrupt where there was one and the program has gone on."""
    if _interrupted:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command line and exits with 0 ok, 1 failure, 2 usage, 3 unusable data, 130 interrupted."""
    # OpenMP threads that spin while they wait slow training many times over when the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A plain end by `kill` or `timeout` cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with remembering_interrupts():
            from model_behavior.cli.app import run

            code = run()
    except KeyboardInterrupt:  # before the command has begun
        code = 128 + signal.SIGINT
    sys.exit(code)
