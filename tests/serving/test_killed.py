"""`kill -9` during an upload: the old catalog or the new one, never a broken one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from model_behavior.artifact import Artifact
from model_behavior.serving.service import Service

UPLOAD = """
import sys
from pathlib import Path
from model_behavior.serving.service import Service
service = Service(Path(sys.argv[1]))
log = Path(sys.argv[2])
print("ready", flush=True)
while True:
    service.upload(log, "newcomer", dry_run=False)
    service.remove("newcomer")
"""
KILLS = 8


def test_killed_uploads_leave_a_whole_catalog(folder: Path, log_file: Path, tmp_path: Path) -> None:
    old = set(Service(folder).snapshot.rows)
    seen = []
    command = [sys.executable, "-c", UPLOAD, str(folder), str(log_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for kill in range(KILLS):
            time.sleep(0.021 * kill)
            process.send_signal(signal.SIGSTOP)  # a folder in the state in which SIGKILL would leave it
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            copy = tmp_path / f"copy{kill}"
            shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy*", "*.lock"))
            if kill < KILLS - 1:
                process.send_signal(signal.SIGCONT)
                seen.append(frozenset(Artifact.load(copy / "arena").models.names))
        process.kill()
    service = Service(folder)  # the lock of a dead process is free
    seen.append(frozenset(service.snapshot.rows))
    assert set(seen) <= {frozenset(old), frozenset(old | {"newcomer"})}
    service.upload(log_file, "after", dry_run=False)
    assert "after" in Service(folder).snapshot.rows
