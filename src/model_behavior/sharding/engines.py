"""Engines that process shards: this process, or the workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol, TypeAlias, final

from model_behavior.artifact import Artifact
from model_behavior.errors import MissingExtraError, ModelBehaviorError, UsageError
from model_behavior.sharding.worker import ShardTask, run_shard, run_shard_alone

OnRows: TypeAlias = Callable[[int], None]
"""Function called with the number of rows done."""

_RETRIES = 5  # of a shard whose worker was killed
_IN_FLIGHT = 1000  # shards that the cluster is told of at once


class Engine(Protocol):
    """Processes shards, in any order."""

    def run(self, tasks: Sequence[ShardTask], on_rows: OnRows) -> None:
        """Processes all shards.

        Raises:
            ModelBehaviorError: a shard cannot be processed. Finished shards are kept.
        """


@final
@dataclass(frozen=True)
class LocalEngine:
    """One shard after the other, in this process.

    Attributes:
        loaded: the artifact of the tasks' job.
    """

    loaded: Artifact

    def run(self, tasks: Sequence[ShardTask], on_rows: OnRows) -> None:
        """See `Engine`."""
        done = 0
        for task in tasks:
            before = done
            done += run_shard(task, self.loaded, lambda rows, before=before: on_rows(before + rows)).rows  # type: ignore[misc]
            on_rows(done)


@final
@dataclass(frozen=True)
class RayEngine:
    """Shards as tasks of a Ray cluster, one core each; a task whose worker dies is given to another.

    Attributes:
        address: address of the cluster, "auto" for the one on this machine; None starts one here for the run. All
            its machines must see artifact, input and output under the same paths.
    """

    address: str | None = None

    def run(self, tasks: Sequence[ShardTask], on_rows: OnRows) -> None:
        """See `Engine`.

        Raises:
            MissingExtraError: Ray is not installed.
        """
        done = 0
        with _cluster(self.address) as ray:
            remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(run_shard_alone)
            for report in _gather(ray, (remote.remote(task) for task in tasks)):
                done += report.rows
                on_rows(done)


@final
@dataclass(frozen=True)
class RayWorkers:
    """Calls of a function as tasks of a Ray cluster, one core each; a task whose worker dies is given to another.

    They count votes (`data.vote_counting.Workers`) and encode the features of a training (`Runtime.workers`).

    Attributes:
        address: address of the cluster, as in `RayEngine`.
    """

    address: str | None = None

    def check_folder(self, folder: Path) -> None:
        """Refuses a folder that a machine of the cluster does not see; of a cluster on this machine none is asked.

        Raises:
            UsageError: with the address of the machine.
            MissingExtraError: Ray is not installed.
        """
        if self.address is None:
            _import_ray()
            return
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".seen-by-all-") as mark, _cluster(self.address) as ray:
            look = ray.remote(num_cpus=0, max_retries=_RETRIES)(os.path.exists)
            working = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
            asked = [
                look.options(
                    scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                        node["NodeID"], soft=False
                    )
                ).remote(mark.name)
                for node in working
            ]
            blind = [node for node, sees in zip(working, ray.get(asked), strict=True) if not sees]
        if blind:
            raise UsageError(
                f"machine {blind[0]['NodeManagerAddress']} of the Ray cluster does not see the cache {folder}, where "
                "workers leave what they encode. Fix: --cache with a folder on a file system that all machines share"
            )

    def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """The results, in any order."""
        with _cluster(self.address) as ray:
            remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(work)
            yield from _gather(ray, (remote.remote(*call) for call in calls))


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected; its errors are told as ours."""
    ray = _import_ray()
    try:
        _connect(ray, address)
        yield ray
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ModelBehaviorError | OSError):
            raise error.cause from None
        raise ModelBehaviorError(f"a shard failed on the Ray cluster: {error.cause!r}") from error
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ModelBehaviorError(
            f"the Ray cluster (address {address!r}) failed: {error}. What is finished is kept. Fix: run the "
            "same command again"
        ) from error
    finally:
        ray.shutdown()


def _gather(ray: Any, started: Iterator[Any]) -> Iterator[Any]:
    """Results as they come, with a bounded number of tasks in the cluster."""
    waiting: list[Any] = []
    for task in started:
        waiting.append(task)
        if len(waiting) == _IN_FLIGHT:
            ready, waiting = ray.wait(waiting)
            yield from ray.get(ready)
    while waiting:
        ready, waiting = ray.wait(waiting)
        yield from ray.get(ready)


def _connect(ray: Any, address: str | None) -> None:
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return
    # One core stays free for this process and for Ray's own.
    cores = max((os.cpu_count() or 1) - 1, 1)
    try:
        ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises nothing narrower
        raise ModelBehaviorError(f"Ray cannot be started on this machine: {error}") from error


def _import_ray() -> Any:
    # Ray reports its use to its makers, and warns of a change that is about GPUs, unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingExtraError("--engine ray", "ray") from error
    return ray
