"""Where the command starts: settings that must be made before the heavy libraries are loaded."""

from __future__ import annotations

import os
import signal
import sys

from model_behavior.cli.interruption import remembering_interrupts


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
