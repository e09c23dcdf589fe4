"""Options that several commands share."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from model_behavior.artifact import Artifact, check_output, fingerprint, locked
from model_behavior.cli.console import ConsoleMonitor, stderr
from model_behavior.errors import UsageError
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.execution import BACKEND_VARIABLE, Backend
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.sharding.engines import LocalEngine, RayEngine
from model_behavior.sharding.runs import ShardedRun
from model_behavior.sharding.worker import JobKind, ShardJob


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a TOML file's values the defaults of the command: flag > environment > file > default."""
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path}: {error}") from error
    options = {p.name: p for p in context.command.params if p.name and p.param_type_name == "option"}
    known = set(options) - {"help", "config"}
    table = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(table) - known)
    if unknown:
        raise UsageError(f"--config {path}: unknown setting {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
    for name, value in table.items():
        if getattr(options[name], "multiple", False) and isinstance(value, str):
            table[name] = [value]
    context.default_map = {**(context.default_map or {}), **table}
    return path


ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with values for these options.", is_eager=True, callback=load_config),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
BatchSize: TypeAlias = Annotated[int, typer.Option(min=1, help="Pairs encoded at once.")]
CacheFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--cache", help="Cache folder. [default: $MODEL_BEHAVIOR_CACHE, else ~/.cache/model-behavior]"),
]
VoteSources: TypeAlias = Annotated[list[str], typer.Argument(help="Files, folders of shards, or hf://owner/name.")]
NewFolder: TypeAlias = Annotated[Path, typer.Option(help="Folder to write.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
TextEncoders: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Text encoder: style, lexical, semantic or finetuned; repeatable. [default: style, lexical]"),
]
ValidationFraction: TypeAlias = Annotated[float, typer.Option(help="Share of prompts kept for validation.")]
HoldOut: TypeAlias = Annotated[list[str] | None, typer.Option(help="Model kept out of training; repeatable.")]
MinComparisons: TypeAlias = Annotated[int, typer.Option(min=0, help="Models with fewer votes are left out.")]
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace an artifact at --output.")]
BackendChoice: TypeAlias = Annotated[
    Backend,
    typer.Option(envvar=BACKEND_VARIABLE, help="What runs transformers: the fastest that is installed, or this one."),
]
ArtifactFolder: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that train-encoder wrote.")]


EngineName: TypeAlias = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Who does the shards: this process, or a Ray cluster.")
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster, or auto for the one on this machine. [default: one is started for the run]"),
]
ShardRows: TypeAlias = Annotated[int, typer.Option(min=1, help="Rows of a shard.")]


def open_cache(path: Path | None) -> ContentCache:
    """The cache at `path`, or the default one."""
    return ContentCache(path)


def open_artifact(folder: Path, cache: Path | None, backend: Backend = "auto") -> Artifact:
    """The artifact in a folder, ready to encode with progress on stderr."""
    loaded = Artifact.load(folder, Runtime(open_cache(cache), ConsoleMonitor()))
    for encoder in loaded.encoder.text_encoders:
        encoder.use_backend(backend)
    return loaded


def check_target(folder: Path, output: Path | None) -> Path:
    """The folder that a change of `folder` goes to; one that cannot be written is said before any work."""
    if output is not None:
        check_output(output, overwrite=False)
    return output if output is not None else folder


class Change:
    """A change of the artifact in a folder that other processes may change meanwhile.

    The lock is held to write alone. What is written is based on what is there at that moment: where the folder has
    changed since it was read, the change is made again.

    Args:
        folder: read.
        target: written.
        load: reads the folder.
    """

    def __init__(self, folder: Path, target: Path, load: Callable[[], Artifact]) -> None:
        self._folder, self._target, self._load = folder, target, load
        self._read()

    def _read(self) -> None:
        self.version = fingerprint(self._folder)
        self.before = self._load()

    def apply(self, compute: Callable[[Artifact], Artifact]) -> Artifact:
        """Writes what `compute` makes of the artifact, and returns it."""
        while True:
            after = compute(self.before)
            with locked(self._target):
                if self._target != self._folder or fingerprint(self._folder) == self.version:
                    after.save(self._target)
                    return after
            stderr().print(f"{self._folder} has changed meanwhile; doing it again on what is there now", markup=False)
            self._read()


@dataclass(frozen=True)
class Sharding:
    """What a command was told of shards."""

    engine: Literal["local", "ray"]
    address: str | None
    rows: int

    def __post_init__(self) -> None:
        if self.address is not None and self.engine != "ray":
            raise UsageError(f"--address {self.address} is of a Ray cluster. Fix: add --engine ray")

    def plan(self, kind: JobKind, folder: Path, loaded: Artifact, batch_size: int, cache: Path | None) -> ShardedRun:
        """The run over an artifact's folder, which `loaded` was read from."""
        job = ShardJob(kind, folder.resolve(), fingerprint(folder), batch_size, cache and cache.resolve())
        return ShardedRun(job, LocalEngine(loaded) if self.engine == "local" else RayEngine(self.address), self.rows)
