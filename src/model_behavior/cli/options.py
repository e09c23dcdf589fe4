"""Options that several commands share, and the objects they give: votes, cache, artifact, change, shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from model_behavior.artifact import Artifact, check_output, fingerprint, is_free, locked
from model_behavior.cli.configuration import nearest_keys, read_toml
from model_behavior.cli.console import ConsoleMonitor, Progress, print_load_report, stderr
from model_behavior.data.hub_rows import HUB_PREFIX
from model_behavior.data.loading import load_votes
from model_behavior.data.reading import AS_IT_IS, ReadingOptions
from model_behavior.data_models.scoring_types import ScaleName
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.memory import parse_memory
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.execution import BACKEND_VARIABLE, Backend
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.sharding.engines import LocalEngine, RayEngine, RayWorkers
from model_behavior.sharding.runs import ShardedRun
from model_behavior.sharding.worker import JobKind, ShardJob, digest_of_reading


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a TOML file's values the defaults of the command: flag > environment > file > default."""
    if path is not None:
        set_defaults(context, path, read_toml(path))
    return path


def set_defaults(context: typer.Context, path: Path, values: Mapping[str, Any]) -> None:
    """Makes values of a file the defaults of the command's options.

    Raises:
        UsageError: there is no such option.
    """
    options = names_of_options(context)
    for name in values:
        if name not in options:
            nearest = ", ".join(nearest_keys(options, name))
            raise UsageError(f"--config {path}: unknown setting {name}; nearest: {nearest}")
    many = {name: [value] for name, value in values.items() if options[name].multiple and isinstance(value, str)}
    context.default_map = {**(context.default_map or {}), **values, **many}


def names_of_options(context: typer.Context) -> dict[str, Any]:
    """The options of the command that a file may set, by their names in it."""
    found = {each.name: each for each in context.command.params if each.name and each.param_type_name == "option"}
    return {name: each for name, each in found.items() if name not in ("help", "config", "show_config")}


RUNNING, _LARGE, _READING = "Running", "Large inputs", "Reading"

VoteSources: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="VOTES", help="Vote files, folders of shards, or hf://owner/name.")
]
ResponseSources: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="RESPONSES", help="Responses or votes: files, folders of shards, or hf://owner/name."),
]
ArtifactFolder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a trained artifact, as written by train.")
]
OtherFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--output", help="Folder to write instead of changing DIR; it must not exist.")
]
TableFile: TypeAlias = Annotated[Path, typer.Option("--output", help="Parquet file to write.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Random seed.")]
Columns: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="KNOWN=NAME",
        help="Name of a column, the same in all files, as in prompt=query,response=text; repeatable.",
        rich_help_panel=_READING,
    ),
]
Outcomes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--outcome",
        metavar="VALUE=OUTCOME",
        help="Outcome that a value of the file means: model_a, model_b, tie or both_bad, as in 1=model_a; repeatable.",
        rich_help_panel=_READING,
    ),
]
Questions: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--questions",
        help="File or folder with the prompts of answers that refer to them by id.",
        rich_help_panel=_READING,
    ),
]
BatchSize: TypeAlias = Annotated[int, typer.Option(min=1, help="Pairs encoded at once.", rich_help_panel=_LARGE)]
EngineName: TypeAlias = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine", help="Engine that processes the shards: this process, or a Ray cluster.", rich_help_panel=_LARGE
    ),
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Address of the Ray cluster, or auto for the one on this machine. [default: one started for the run]",
        rich_help_panel=_LARGE,
    ),
]
ShardRows: TypeAlias = Annotated[int, typer.Option(min=1, help="Rows per shard.", rich_help_panel=_LARGE)]
CacheFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder of the cache. [default: $MODEL_BEHAVIOR_CACHE, else ~/.cache/model-behavior]",
        rich_help_panel=RUNNING,
    ),
]
MemoryLimit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Limit on memory, such as 6G; a run that may need more is refused. [default: what is free]",
        rich_help_panel=RUNNING,
    ),
]
BackendChoice: TypeAlias = Annotated[
    Backend,
    typer.Option(
        "--backend",
        envvar=BACKEND_VARIABLE,
        help="Library that runs transformers; auto chooses the fastest one installed.",
        rich_help_panel=RUNNING,
    ),
]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with values for these options.",
        is_eager=True,
        callback=load_config,
        rich_help_panel=RUNNING,
    ),
]
ScaleOption: TypeAlias = Annotated[
    ScaleName,
    typer.Option("--scale", help="Scale of ratings: Elo (400 points are odds of 10 to 1) or log-odds."),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=RUNNING)
]


def digits_of(scale: ScaleName) -> int:
    """Digits after the point that ratings on a scale are shown with."""
    return 0 if scale == "elo" else 2


def open_cache(path: Path | None, memory: str | None = None) -> ContentCache:
    """The cache at `path`, or the default one, with the limit of `--memory`."""
    return ContentCache(path, memory=None if memory is None else parse_memory(memory))


def reading_options(
    columns: Sequence[str] | None, outcomes: Sequence[str] | None, questions: str | None = None
) -> ReadingOptions:
    """How to read the sources, from the values of `Columns`, `Outcomes` and `Questions`."""
    return ReadingOptions.parse(columns or (), outcomes or (), questions)


def read_votes(sources: Sequence[str], reading: ReadingOptions) -> TrainingData:
    """The votes, with progress and a report on stderr."""
    progress = Progress()
    data, report = load_votes(
        *sources, progress=lambda done, total: progress.show("reading votes", done, total), reading=reading
    )
    print_load_report(report)
    return data


def open_artifact(folder: Path, cache: Path | None, backend: Backend = "auto") -> Artifact:
    """The artifact in a folder, ready to encode with progress on stderr."""
    return Artifact.load(folder, Runtime(open_cache(cache), ConsoleMonitor(), backend=backend))


def open_scored(folder: Path, cache: Path | None, backend: Backend) -> Artifact:
    """The artifact in a folder, with a scorer.

    Raises:
        UsageError: it has none.
    """
    loaded = open_artifact(folder, cache, backend)
    if loaded.scorer is None:
        raise UsageError(f"{folder} has no scorer. Fix: model-behavior train-scorer {folder} VOTES")
    return loaded


class Change:
    """A change of the artifact in a folder that other processes may change meanwhile.

    The lock is held to write alone. What is written is based on what is there at that moment: where the folder has
    changed since it was read, the change is made again.

    Args:
        folder: folder that is read.
        output: folder to write instead, which must not exist; None to change `folder`.
        load: reads the folder.

    Attributes:
        target: folder that is written.
        before: artifact that the change is made of.
        version: fingerprint of the folder just before it was read.

    Raises:
        UsageError: `output` cannot be written, which is said before any work.
    """

    def __init__(self, folder: Path, output: Path | None, load: Callable[[], Artifact]) -> None:
        if output is not None:
            check_output(output, overwrite=False)
        self.target = folder if output is None else output
        self._folder, self._load = folder, load
        self._read()

    def _read(self) -> None:
        self.version = fingerprint(self._folder)
        self.before = self._load()

    def apply(self, compute: Callable[[Artifact], Artifact]) -> Artifact:
        """Writes what `compute` makes of the artifact, and returns it.

        Raises:
            UsageError: another process has written `output` meanwhile.
        """
        while True:
            after = compute(self.before)
            with locked(self.target):
                if self.target != self._folder:
                    check_output(self.target, overwrite=False)
                if self.target != self._folder or fingerprint(self._folder) == self.version:
                    after.save(self.target)
                    return after
            stderr().print(f"{self._folder} was changed by another process; repeating this change", markup=False)
            self._read()


class NewArtifact:
    """An artifact that will be trained and written to a folder, which other processes may write meanwhile.

    Args:
        output: folder to write.
        overwrite: allow the artifact that is there now to be replaced.
        hint: addition to the error's fix if it may not be replaced.

    Raises:
        UsageError: the folder cannot be written, which is said before any work.
    """

    def __init__(self, output: Path, overwrite: bool, hint: str = "") -> None:
        check_output(output, overwrite, hint)
        self.output = output
        self._version = _version_of(output)

    def write(self, trained: Artifact) -> None:
        """Writes the artifact.

        Raises:
            ArtifactError: another process has written the folder meanwhile. Its work is kept, and this one is beside.
        """
        with locked(self.output):
            if _version_of(self.output) == self._version:
                trained.save(self.output)
                return
        beside = self._write_beside(trained)
        raise ArtifactError(
            f"{self.output} was changed by another process during the training, so it was left as it is; this "
            f"training is in {beside}. Fix: use {beside}, or move it to {self.output}"
        )

    def _write_beside(self, trained: Artifact) -> Path:
        number = 2
        while True:
            beside = self.output.with_name(f"{self.output.name}-{number}")
            with locked(beside):
                if is_free(beside):
                    trained.save(beside)
                    return beside
            number += 1


def _version_of(folder: Path) -> str | None:
    """Fingerprint of a folder, None where there is no artifact; one that is damaged has none that stays."""
    if is_free(folder):
        return None
    try:
        return fingerprint(folder)
    except ArtifactError:
        return ""


def ray_workers(engine: Literal["local", "ray"], address: str | None) -> RayWorkers | None:
    """The workers of a Ray cluster, None where the engine is this process.

    Raises:
        UsageError: an address without Ray.
    """
    if engine == "ray":
        return RayWorkers(address)
    if address is not None:
        raise UsageError(f"--address {address} needs a Ray cluster. Fix: add --engine ray")
    return None


@dataclass(frozen=True)
class Sharding:
    """Shards of a large input, and the engine that processes them.

    Attributes:
        engine: name of the engine, for this process or a Ray cluster.
        address: address of the cluster.
        rows: rows of a shard.
    """

    engine: Literal["local", "ray"]
    address: str | None
    rows: int

    def __post_init__(self) -> None:
        ray_workers(self.engine, self.address)

    def is_needed(self, rows: int) -> bool:
        """Tells if an input has more than one shard, or is for a Ray cluster."""
        return self.engine != "local" or rows > self.rows

    def plan(self, job: ShardJob, loaded: Artifact) -> ShardedRun:
        """Plans the run of a job whose artifact is `loaded`."""
        return ShardedRun(job, LocalEngine(loaded) if self.engine == "local" else RayEngine(self.address), self.rows)


def describe_job(
    kind: JobKind,
    folder: Path,
    cache: Path | None,
    backend: Backend = "auto",
    batch_size: int = ShardJob.batch_size,
    reading: ReadingOptions = AS_IT_IS,
    strict: bool = False,
) -> ShardJob:
    """The job for every shard, with paths that other machines can use."""
    questions = reading.questions
    if questions is not None and not str(questions).startswith(HUB_PREFIX):
        reading = replace(reading, questions=str(Path(str(questions)).resolve()))
    return ShardJob(
        kind,
        folder.resolve(),
        fingerprint(folder),
        batch_size,
        cache and cache.resolve(),
        backend,
        strict,
        reading,
        digest_of_reading(reading),
    )
