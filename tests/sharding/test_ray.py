"""The shards on a Ray cluster that was started by hand: the same bytes, whatever becomes of its workers."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from model_behavior.cli.app import run
from model_behavior.sharding import engines
from model_behavior.sharding.engines import LocalEngine, RayEngine
from model_behavior.sharding.runs import ShardedRun
from tests.conftest import answer, one_thread
from tests.sharding.conftest import Material

pytestmark = [
    # A cluster needs the machine's cores for itself: beside other tests it takes ten times as long.
    pytest.mark.alone,
    # Ray reads its token where it is first imported, which is therefore left to the engine.
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    # It leaves sockets and child processes to the interpreter's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def same_bytes(one: Path, other: Path) -> bool:
    """Not asserted by `==` itself, since a difference of megabytes would be described for minutes."""
    return one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="package", autouse=True)
def starting() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A cluster of one core, which starts while the artifact is trained."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    paths = os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])
    # The cluster has a token of its own, so that none of the user's is asked for.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **token, "PYTHONPATH": paths, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    ray = str(Path(sys.executable).with_name("ray"))
    options = ["--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats", "--block"]
    command = [ray, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={address.rsplit(':', 1)[1]}", *options]
    head = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.items():
            patch.setenv(name, value)
        yield address, head
    head.terminate()
    head.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster(material: Material, starting: tuple[str, subprocess.Popen[str]]) -> str:
    """Address of the cluster, once it has started."""
    address, head = starting
    assert head.stdout is not None
    said = []
    for line in head.stdout:
        said.append(line)
        if "--block" in line:
            return address
    pytest.fail(f"the cluster has not started: {''.join(said)}")


def workers_of(address: str, work: str) -> list[int]:
    """The cluster's processes that do some work at this moment."""
    port = address.rsplit(":", 1)[1].encode()
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(f"ray::{work}".encode()):
                parent = (process / "status").read_text().split("PPid:", 1)[1].split()[0]
                if port in Path("/proc", parent, "cmdline").read_bytes():
                    found.append(int(process.name))
        except OSError:
            continue
    return found


@contextmanager
def one_worker_killed(address: str, work: str) -> Iterator[None]:
    """Kills the first worker that is seen at some work."""
    killed: list[int] = []
    ended = threading.Event()

    def kill_one() -> None:
        while not killed and not ended.is_set():
            for worker in workers_of(address, work)[:1]:
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one)
    killer.start()
    yield
    ended.set()
    killer.join()
    assert killed


def repeated(table: pa.Table, times: int) -> pa.Table:
    """The rows several times, each time with other prompts."""
    texts = table["prompt"].cast(pa.string())
    prompts = [pc.binary_join_element_wise(texts, str(number), " ") for number in range(times)]
    place = table.column_names.index("prompt")
    return pa.concat_tables([table.set_column(place, "prompt", each) for each in prompts])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds workers by /proc")
def test_a_killed_worker_costs_nothing(material: Material, cluster: str, tmp_path: Path) -> None:
    table = repeated(pq.read_table(material.responses), 8)
    pq.write_table(table, tmp_path / "more.parquet")
    local, ray = tmp_path / "local.parquet", tmp_path / "ray.parquet"
    job = replace(material.job("encode"), cache=tmp_path / "cache of local")
    ShardedRun(job, LocalEngine(material.loaded), 200).over_file(tmp_path / "more.parquet", local, lambda _: None)
    job = replace(job, cache=tmp_path / "cache of ray")
    with one_worker_killed(cluster, "run_shard"):
        report = ShardedRun(job, RayEngine(cluster), 200).over_file(tmp_path / "more.parquet", ray, lambda _: None)
    assert report.rows == report.used == len(table)
    assert same_bytes(ray, local)


_KILLED_RUN = """
import os, signal, sys
from model_behavior.cli.app import run
from model_behavior.cli.console import ConsoleMonitor

def die(monitor, task, done, total):
    if task == "features" and done > total // 3:
        os.kill(os.getpid(), signal.SIGKILL)

ConsoleMonitor.on_progress = die
run(sys.argv[1:])
"""
"""A training that is killed when a third of the features are there."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds workers by /proc")
def test_neither_a_killed_worker_nor_a_killed_run_changes_a_training(
    material: Material, cluster: str, tmp_path: Path
) -> None:
    votes = tmp_path / "votes.parquet"
    table = pq.read_table(material.votes)
    pq.write_table(repeated(table.take(list(range(0, len(table), 4))), 12), votes)
    options = ["train-encoder", str(votes), "--epochs", "1", "--validation-fraction", "0.3"]

    def into(name: str) -> list[str]:
        return [*options, "--output", str(tmp_path / name), "--cache", str(tmp_path / f"{name}-cache")]

    def features() -> dict[Path, int]:
        return {path: path.stat().st_ino for path in (tmp_path / "ray-cache").glob("v1/features-*/*/*.safetensors")}

    on_ray = [*into("ray"), "--engine", "ray", "--address", cluster]
    killed = subprocess.run([sys.executable, "-c", _KILLED_RUN, *on_ray], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    finished = features()
    with one_worker_killed(cluster, "encode_part"):
        assert run(on_ray) == 0
    assert finished and finished.items() <= features().items(), "what was finished is not encoded again"
    assert run(into("local")) == 0
    for file in ("encoder.safetensors", "models.safetensors", "samples.safetensors"):
        assert same_bytes(tmp_path / "ray" / file, tmp_path / "local" / file), file


def test_a_machine_that_does_not_see_the_cache_is_named_before_any_work(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def elsewhere(**_: object) -> Iterator[SimpleNamespace]:
        """A file on a disk that the machine does not have."""
        yield SimpleNamespace(name=str(tmp_path / "nowhere"))

    monkeypatch.setattr(engines, "NamedTemporaryFile", elsewhere)
    options = ["--output", str(tmp_path / "out"), "--cache", str(tmp_path), "--engine", "ray", "--address", cluster]
    assert run(["train", str(tmp_path / "no-votes.parquet"), *options]) == 2
    said = capsys.readouterr().err
    assert re.search(rf"machine [0-9.]+ of the Ray cluster does not see the cache {tmp_path}, .*Fix: --cache", said)


def test_commands_give_the_same_on_a_cluster(
    material: Material, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_ray = ("--engine", "ray", "--address", cluster, "--shard-rows", "60")
    for name, engine in (("local", ("--shard-rows", "60")), ("ray", on_ray)):
        predictions, grown = tmp_path / f"{name}.parquet", tmp_path / name
        answer(capsys, "predict", material.folder, material.votes, "--output", predictions, *engine)
        answer(capsys, "onboard", material.folder, material.responses, "--output", grown, *engine)
    assert same_bytes(tmp_path / "ray.parquet", tmp_path / "local.parquet")
    for file in ("models.safetensors", "samples.safetensors", "samples.json"):
        assert same_bytes(tmp_path / "ray" / file, tmp_path / "local" / file), file


def test_an_error_of_a_worker_is_the_error_of_the_run(
    material: Material, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("prompt,model_a,model_b\nHello?,nobody-knows-it,gpt-4\n")
    options = ["--output", str(tmp_path / "p.parquet"), "--engine", "ray", "--address", cluster, "--strict"]
    assert run(["predict", str(material.folder), str(table), *options]) == 2
    assert "nobody-knows-it" in capsys.readouterr().err
