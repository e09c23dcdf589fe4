"""`python -m tests.faults [--output FILE] [--seed N] [--seconds N]`: the fault campaign, see `campaign`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes are copied, which threads would not survive


def main() -> int:
    """Runs every case; 0 where every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Breaks the program on purpose.")
    parser.add_argument("--output", type=Path, help="Markdown file that the table is written to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600.0, help="time after which cases are ended")
    parser.add_argument("--only", default="", help="run only cases whose names contain this text")
    options = parser.parse_args()
    import torch

    import model_behavior.cli.catalog_commands
    import model_behavior.cli.serve_commands
    import model_behavior.cli.train_commands
    import model_behavior.serving.app  # noqa: F401  what every process would import by itself

    torch.set_num_threads(1)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends the cases, too
    from tests.faults.campaign import run_campaign
    from tests.faults.serving_cases import serving_cases
    from tests.faults.storage_cases import storage_cases

    with tempfile.TemporaryDirectory(prefix="model-behavior-faults-") as place:
        folder = Path(place)
        os.environ["MODEL_BEHAVIOR_CACHE"] = str(folder / "cache")
        (folder / "material").mkdir()
        every = [*storage_cases(folder / "material"), *serving_cases(folder / "material" / "arena")]
        cases = [case for case in every if options.only in case.name]
        table, kept = run_campaign(cases, folder, options.seed, started + options.seconds - time.monotonic())
    sys.stdout.write(table + "\n")
    if options.output is not None:
        options.output.write_text(table + "\n", "utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
