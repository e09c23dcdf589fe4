"""The folder format of an artifact.

A folder is verified when read, and it is complete or absent. A new one is written under a temporary name, and renamed.
Where there is one already, the new files are written to a temporary folder in it, which is renamed to `.next` once they
are on the disk. From that moment readers take them from there, until they have replaced the old ones and `.next` is
gone; whoever writes next finishes what a killed process has not. The folder itself stays, with its owner, its rights,
and the files that the user has added, and it may be a mount point.

    config.json           format and version, encoder configuration, SHA-256 of the other files
    encoder.safetensors   weights of the encoder's trained part
    models.safetensors    model embeddings: mean, count, spread; hashes of the training prompts
    models.json           names of the models, in row order
    samples.safetensors   style profile of each model, and where the samples of its responses lie
    samples.json          what these samples are
    samples/              segments: sampled vectors with hashes of prompts, typical responses as text
    revisions.json        changes of each model since the training; absent if there were none
    prompts.*             prompts worth asking a new model, with the known models' readings; absent without texts
    history.json          one record per trained epoch
    scorer.safetensors    stage 2, arrays; absent if no scorer was trained
    scorer.json           stage 2, the rest of its state
    votes.safetensors     votes behind the ratings, by hashes of prompts; absent if no scorer was trained
    scorer-training.*     the same as scorer.* for stage 2 fitted to the training votes only, which `evaluate` measures
    times.json            seconds of each epoch; the one file that a second training with the same seed writes otherwise
    README.md             model card; an edited card is kept when the folder is written again
    .lock                 locked by whoever writes
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from model_behavior.arrays import Arrays
from model_behavior.artifact.card import write_card
from model_behavior.artifact.segments import FOLDER as SEGMENTS
from model_behavior.artifact.segments import Layout, read_places, read_samples, write_samples
from model_behavior.catalog import Catalog, ModelEmbeddings, ModelSamples
from model_behavior.catalog.asking import PromptBook, book_from_stored, book_to_arrays, book_to_json
from model_behavior.catalog.revisions import Revisions, revisions_from_stored, revisions_to_json
from model_behavior.catalog.samples import samples_from_stored
from model_behavior.catalog.stored_rows import Segment
from model_behavior.data_models.vote_ledger import VoteLedger
from model_behavior.data_models.votes import TrainingRecord, ValidationSplit
from model_behavior.errors import ArtifactError, UsageError, check_version
from model_behavior.files import (
    check_writable,
    copy_rights,
    make_folder,
    open_to_others,
    sync,
    temporary_folder,
)
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.entry_file import digest_of

FORMAT = "model-behavior"
FORMAT_VERSION = 3
_BEFORE_SEGMENTS = 2  # all samples in one file; read, and written as the present version

CONFIG, CARD, ENCODER = "config.json", "README.md", "encoder.safetensors"
_SELF = "config_digest"
_NEXT, _PART, _LOCK = ".next", ".new.", ".lock"
_TIMES = "times.json"
_PATIENCE_SECONDS = 30.0  # for a generation that stays while its files are opened
_MODELS = "models.safetensors"
_NAMES, _HISTORY = "models.json", "history.json"
_SAMPLES, _SAMPLES_STATE = "samples.safetensors", "samples.json"
_EXEMPLARS = "exemplars.json"  # of version 2
_REVISIONS = "revisions.json"
_SCORER, _SCORER_STATE = "scorer.safetensors", "scorer.json"
_TRAINING_SCORER, _TRAINING_SCORER_STATE = "scorer-training.safetensors", "scorer-training.json"
_VOTES = "votes.safetensors"
_VERIFIED = (ENCODER, _MODELS, _NAMES, _HISTORY, _SAMPLES, _SAMPLES_STATE)
_WITH_PROMPTS = ("prompts.safetensors", "prompts.json")
_WITH_SCORER = (_SCORER, _SCORER_STATE)
_WITH_TRAINING_SCORER = (_TRAINING_SCORER, _TRAINING_SCORER_STATE)
_OPTIONAL = (_WITH_SCORER, _WITH_TRAINING_SCORER, _WITH_PROMPTS, (_REVISIONS,), (_VOTES,))
WRITTEN = (*_VERIFIED, *(name for group in _OPTIONAL for name in group), _EXEMPLARS, _TIMES, CARD, CONFIG)


@dataclass(frozen=True, eq=False)
class Contents:
    """Contents of a folder: a trained encoder, the embeddings of its models, and the scorer that predicts votes.

    Attributes:
        encoder: stage 1, trained.
        models: embeddings of the models.
        samples: samples of their responses, in the same rows; None if no responses are kept.
        scorer: stage 2, fitted to all votes, with all the models enrolled; None before it is trained.
        training_scorer: stage 2 fitted to the training votes only, for unbiased results on the validation votes; None
            if it is not kept.
        training: record of the encoder's training split; None if unknown.
        revisions: changes of the models since the training.
        votes: votes behind the ratings of `scorer`; None before it is trained, and in artifacts of earlier releases.
        book: prompts worth asking a new model; None before stage 2 is trained, and where no texts are kept.
    """

    encoder: ModelBehaviorEncoder
    models: ModelEmbeddings
    samples: ModelSamples | None = None
    scorer: DenseNetworkModel | None = None
    training: TrainingRecord | None = None
    revisions: Revisions = field(default_factory=dict)
    training_scorer: DenseNetworkModel | None = None
    votes: VoteLedger | None = None
    book: PromptBook | None = None

    @property
    def measured_scorer(self) -> DenseNetworkModel | None:
        """Stage 2 that has seen no validation vote."""
        return self.scorer if self.scorer is None or self.training_scorer is None else self.training_scorer

    @property
    def catalog(self) -> Catalog:
        """Embeddings and samples together."""
        return Catalog.of_embeddings(self.models) if self.samples is None else Catalog(self.models, self.samples)


def check_output(path: Path, overwrite: bool, hint: str = "") -> None:
    """Checks before any work that an artifact can be written there.

    Args:
        path: folder to write.
        overwrite: allow an artifact to be replaced.
        hint: addition to the error's fix if an artifact may not be replaced.

    Raises:
        UsageError: the folder exists and may not be replaced, is not an artifact, or cannot be written.
    """
    if path.is_dir():
        check_writable(path, f"--output {path}")
    else:
        check_writable(path.resolve().parent, f"--output {path}")
    if is_free(path):
        return
    if not path.is_dir() or not (_current(path) / CONFIG).is_file():
        raise UsageError(f"{path} exists and is not a model-behavior artifact. Fix: choose another --output")
    if not overwrite:
        raise UsageError(f"{path} holds an artifact already. Fix: choose another --output{hint}")


def is_free(path: Path) -> bool:
    """Tells if there is nothing there but an empty folder, or what a killed process has left in one."""
    ours = (_LOCK, "lost+found")  # the second is in every new file system, which may be mounted there
    return not path.exists() or (
        path.is_dir() and all(each.name in ours or each.name.startswith(_PART) for each in path.iterdir())
    )


def write_folder(contents: Contents, path: Path, texts: bool = True) -> None:
    """Writes the folder; an older artifact there is replaced only once the new one is complete and on the disk.

    Args:
        contents: contents to write.
        path: folder to write.
        texts: include the sampled responses as text.

    Raises:
        UsageError: the folder exists and is not an artifact.
        OSError: the folder cannot be written; an older artifact there stays unchanged.
    """
    check_output(path, overwrite=True)
    path = path.resolve()
    contents = contents if texts else without_texts(contents)
    with locked(path):
        if path.exists():
            _finish(path)
            with temporary_folder(path, _PART) as parent:
                aside = _write_aside(contents, parent, path)
                aside.rename(path / _NEXT)
                sync(path)
            with contextlib.suppress(OSError):  # what is left is done by whoever writes next
                _finish(path)
        else:
            with temporary_folder(path.parent, f".{path.name[:100]}.") as parent:
                _write_aside(contents, parent, None).rename(path)
                sync(path.parent)


def _write_aside(contents: Contents, parent: Path, old: Path | None) -> Path:
    """The complete new folder, on the disk; it keeps an edited card and the rights of the old files."""
    folder = parent / "content"
    folder.mkdir()
    try:
        _write_files(contents, folder, old)
    except SafetensorError as error:
        raise OSError(f"{parent.parent} cannot be written: {error}") from error
    if old is not None:
        _keep_card(old, folder)
    segments = list((folder / SEGMENTS).iterdir()) if (folder / SEGMENTS).is_dir() else []
    for path in (*segments, *folder.iterdir()):
        if old is not None and (old / CONFIG).exists() and path.is_file():
            copy_rights(old / path.name if (old / path.name).is_file() else old / CONFIG, path)
        sync(path)
    sync(folder)
    sync(parent)
    return folder


def _finish(path: Path) -> None:
    """Puts the files of a complete `.next` in the place of the old ones; does nothing where there is none."""
    after = path / _NEXT
    if not after.is_dir():
        return
    with temporary_folder(path, _PART) as parent:
        for name in WRITTEN:
            if (after / name).exists():
                _link(after / name, parent / name)
                (parent / name).replace(path / name)
            else:
                (path / name).unlink(missing_ok=True)
        _finish_segments(path, after, parent)
        sync(path)
        after.rename(parent / _NEXT)
        sync(path)


def _finish_segments(path: Path, after: Path, parent: Path) -> None:
    """Puts new segments beside those that stay, and removes the others."""
    place = path / SEGMENTS
    if (after / SEGMENTS).is_dir():
        if not place.exists():
            place.mkdir()
            copy_rights(path, place)
        for new in sorted((after / SEGMENTS).iterdir()):
            _link(new, parent / new.name)
            (parent / new.name).replace(place / new.name)
    if place.is_dir():
        named = read_config(path).get("segments", {})
        for old in place.iterdir():
            if old.name not in named and is_segment(f"{SEGMENTS}/{old.name}"):
                old.unlink()
        sync(place)


def is_segment(name: str) -> bool:
    """Tells if a name, relative to an artifact, is one that a segment has."""
    folder, _, own = name.partition("/")
    return folder == SEGMENTS and len(own) == 32 and not set(own) - set("0123456789abcdef")


def _link(old: Path, new: Path) -> None:
    """A second name for a file, or a copy where the file system has no second names."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)
        copy_rights(old, new)
        sync(new)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the same folder; waits for them. A thread may lock what it has locked.

    Raises:
        OSError: the folder cannot be written.
    """
    path = path.resolve()
    while True:
        inside = path.is_dir()
        if not inside:
            make_folder(path.parent)
        place = path / _LOCK if inside else path.with_name(f".{path.name}.lock")
        try:
            lock = FileLock(place, is_singleton=True)
            lock.acquire()
        except OSError as error:
            raise OSError(error.errno, f"{path} cannot be changed: {error.strerror}") from error
        try:
            if path.is_dir() == inside:  # where it has been made meanwhile, its own lock is the one to wait for
                yield
                return
        finally:
            lock.release()
            if not inside and path.is_dir():  # from now on the lock in it counts
                with contextlib.suppress(OSError):
                    place.unlink(missing_ok=True)


def _current(path: Path) -> Path:
    """The folder to read: the one itself, or its next state once that is complete."""
    return path / _NEXT if (path / _NEXT).is_dir() else path


def _state_of(path: Path) -> tuple[str, int, int] | None:
    """Differs after every write, and from the state in which its files have not come to their places."""
    try:
        folder = _current(path)
        status = (folder / CONFIG).stat()
    except OSError:
        return None
    return folder.name, status.st_ino, status.st_mtime_ns


@dataclass(frozen=True, eq=False)
class _Opened:
    """Files of one write; none of them changes once it is open.

    Attributes:
        config: verified content of `config.json`.
        files: other files by name, open.
        segments: mapped segments by name.
    """

    config: dict[str, Any]
    files: Mapping[str, IO[bytes]]
    segments: Mapping[str, Segment]


@contextlib.contextmanager
def _open_all(path: Path, config_alone: bool = False) -> Iterator[_Opened]:
    """All files of one write, or `config.json` alone."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        state, failure = _state_of(path), None
        with contextlib.ExitStack() as stack:
            folder = _current(path)
            try:
                config = read_config(path)
                digests, sizes = ({} if config_alone else config.get(each) or {} for each in ("files", "segments"))
                named = [name for name in WRITTEN if name in digests or name == _TIMES]
                files: dict[str, IO[bytes]] = {
                    name: stack.enter_context((folder / name).open("rb")) for name in named if (folder / name).is_file()
                }
                opened = _Opened(config, files, _open_segments(path, folder, sizes))
            except (ArtifactError, OSError) as error:
                failure = error
            if _state_of(path) == state or time.monotonic() > until:
                if failure is not None:
                    raise failure
                yield opened
                return


def _open_segments(path: Path, folder: Path, sizes: Mapping[str, int]) -> dict[str, Segment]:
    """The segments of a folder; while `folder` is its next state, those that stay are in `path`."""
    found = {}
    for name, size in sizes.items():
        places = [each for each in (folder / SEGMENTS / name, path / SEGMENTS / name) if each.is_file()]
        if not places:
            raise ArtifactError(
                f"{path / SEGMENTS / name} is missing. Fix: restore the folder from a copy, or train again"
            )
        with places[0].open("rb") as file:
            found[name] = Segment(path / SEGMENTS / name, file, size)
    return found


def fingerprint(path: Path) -> str:
    """Hash of the whole content of a folder: that of `config.json`, which holds the digests of all other files.

    Raises:
        ArtifactError: `config.json` is missing, altered, or of another version.
    """
    with _open_all(path, config_alone=True) as opened:
        return digest_of(json.dumps(opened.config, sort_keys=True))


def read_folder(path: Path, runtime: Runtime | None = None) -> Contents:
    """Reads and verifies a folder; samples of its models are read and verified when they are asked for.

    Args:
        path: folder to read.
        runtime: cache, monitor and backend of the encoder; the scorer uses cache and backend, too.

    Raises:
        ArtifactError: the folder is missing, not an artifact, of another version, or incomplete or altered.
    """
    runtime = runtime if runtime is not None else Runtime()
    with _open_all(path) as opened:
        config = opened.config
        digests = config.get("files")
        digests = digests if isinstance(digests, dict) else {}
        present = [group for group in _OPTIONAL if any(name in digests for name in group)]
        old = config["format_version"] == _BEFORE_SEGMENTS
        verified = [_EXEMPLARS if old and name == _SAMPLES_STATE else name for name in _VERIFIED]
        raw = {}
        for name in (*verified, *(name for group in present for name in group)):
            raw[name] = _read_verified(path / name, opened.files.get(name), digests.get(name))
        times = _read_times(opened.files.get(_TIMES))
    try:
        history = json.loads(raw[_HISTORY])
        state: dict[str, Any] = {
            **config["encoder"],
            "tensors": load(raw.pop(ENCODER)),
            "history": _with_times(history, times.get(_HISTORY)),
        }
        table = load(raw[_MODELS])
        names = tuple(json.loads(raw[_NAMES]))
        models = ModelEmbeddings(names, table["mean"], table["count"], table["spread"])
        index = load(raw.pop(_SAMPLES))
        if old:
            samples = samples_from_stored(names, index, json.loads(raw[_EXEMPLARS]))
        else:
            samples = read_samples(names, index, json.loads(raw[_SAMPLES_STATE]), opened.segments)
        scorer, measured = (
            _read_scorer(raw, group, times, runtime) if group in present else None
            for group in (_WITH_SCORER, _WITH_TRAINING_SCORER)
        )
        revisions = revisions_from_stored(json.loads(raw[_REVISIONS])) if (_REVISIONS,) in present else {}
        votes = VoteLedger.from_arrays(load(raw.pop(_VOTES))) if (_VOTES,) in present else None
        tensors, texts = _WITH_PROMPTS
        book = book_from_stored(load(raw[tensors]), json.loads(raw[texts])) if _WITH_PROMPTS in present else None
        split = config["split"]
        record = None if split is None else TrainingRecord(_read_split(split), table["training_prompts"])
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{path} is incomplete: {error!r}. Fix: restore it from a copy, or train again") from error
    encoder = ModelBehaviorEncoder.load_state_dict(state)
    encoder.runtime = runtime
    for text_encoder in encoder.text_encoders:
        text_encoder.use_backend(runtime.backend)
    return Contents(encoder, models, samples, scorer, record, revisions, measured, votes, book)


def without_texts(contents: Contents) -> Contents:
    """The contents without any prompt or response as text, for users who may not share responses."""
    samples, contents = contents.samples, replace(contents, book=None)
    if samples is None:
        return contents
    nothing: tuple[()] = ()
    empty = replace(samples, exemplars=tuple(nothing for _ in samples.names), answers=tuple({} for _ in samples.names))
    return replace(contents, samples=empty)


def _write_files(contents: Contents, folder: Path, old: Path | None) -> None:
    state = contents.encoder.get_state_dict()
    models = contents.models
    save_file(state.pop("tensors"), folder / ENCODER)
    record = contents.training
    prompts = record.prompts if record is not None else np.zeros(0, np.uint64)
    table: Arrays = {"mean": models.mean, "count": models.count, "spread": models.spread, "training_prompts": prompts}
    save_file(table, folder / _MODELS)
    write_json(folder / _NAMES, list(models.names))
    place = (folder if old is None else old) / SEGMENTS
    index, kinds, layout = write_samples(contents.catalog.samples, folder / SEGMENTS, _read_layout(old), place)
    save_file(index, folder / _SAMPLES)
    write_json(folder / _SAMPLES_STATE, kinds)
    times: dict[str, list[float]] = {}
    write_json(folder / _HISTORY, _without_times(state.pop("history"), times.setdefault(_HISTORY, [])))
    (folder / CARD).write_text(write_card(contents.encoder, models, contents.scorer), "utf-8")
    written: tuple[str, ...] = (*_VERIFIED, CARD)
    if contents.revisions:
        write_json(folder / _REVISIONS, revisions_to_json(contents.revisions))
        written = (*written, _REVISIONS)
    scorers = {_WITH_SCORER: contents.scorer, _WITH_TRAINING_SCORER: contents.training_scorer}
    for (tensors, rest), scorer in scorers.items():
        if scorer is not None and contents.scorer is not None:
            values = scorer.get_state_dict()
            save_file(values.pop("tensors"), folder / tensors)
            values["history"] = _without_times(values["history"], times.setdefault(rest, []))
            write_json(folder / rest, values)
            written = (*written, tensors, rest)
    if contents.votes is not None and contents.scorer is not None:
        save_file(contents.votes.to_arrays(), folder / _VOTES)
        written = (*written, _VOTES)
    if contents.book is not None and contents.scorer is not None:
        save_file(book_to_arrays(contents.book), folder / _WITH_PROMPTS[0])
        write_json(folder / _WITH_PROMPTS[1], book_to_json(contents.book))
        written = (*written, *_WITH_PROMPTS)
    write_json(folder / _TIMES, times)
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder": state,
        "split": None if record is None else asdict(record.split),
        "files": {name: digest(folder / name) for name in written},
        "segments": dict(layout.sizes),
    }
    write_config(folder, config)
    for name in written:
        if name.endswith(".safetensors"):
            open_to_others(folder / name)


def _read_layout(path: Path | None) -> Layout:
    """Where the samples of the artifact in a folder lie; nowhere where there is none, or one that is damaged."""
    if path is not None:
        with contextlib.suppress(ArtifactError, OSError, KeyError, ValueError, TypeError, IndexError, SafetensorError):
            config = read_config(path)
            sizes = config["segments"]
            content = (path / _SAMPLES).read_bytes()
            if hashlib.sha256(content).hexdigest() == config["files"][_SAMPLES]:
                return Layout(read_places(load(content), sorted(sizes)), sizes)
    return Layout()


def _without_times(history: list[dict[str, Any]], times: list[float]) -> list[dict[str, Any]]:
    """The logs without their seconds, which go to `times`: what is verified depends on votes and seed alone."""
    times.extend(round(log["seconds"], 3) for log in history)
    return [{name: value for name, value in log.items() if name != "seconds"} for log in history]


def _with_times(history: list[dict[str, Any]], times: Any) -> list[dict[str, Any]]:
    """The inverse of `_without_times`; where the times are not known, they are 0."""
    known = times if isinstance(times, list) and len(times) == len(history) else [0.0] * len(history)
    return [{"seconds": seconds, **log} for log, seconds in zip(history, known, strict=True)]


def _read_times(file: IO[bytes] | None) -> Mapping[str, Any]:
    """Seconds of each epoch by file of its history; nothing where the file is missing or damaged."""
    with contextlib.suppress(ValueError):
        found = json.load(file) if file is not None else {}
        return found if isinstance(found, dict) else {}
    return {}


def _read_scorer(
    raw: Mapping[str, bytes], files: tuple[str, ...], times: Mapping[str, Any], runtime: Runtime
) -> DenseNetworkModel:
    tensors, rest = files
    state = json.loads(raw[rest])
    state["history"] = _with_times(state["history"], times.get(rest))
    scorer = DenseNetworkModel.load_state_dict({**state, "tensors": load(raw[tensors])}, runtime.cache)
    scorer.use_backend(runtime.backend)
    return scorer


def _read_split(values: dict[str, Any]) -> ValidationSplit:
    return ValidationSplit(**{**values, "held_out_models": tuple(values["held_out_models"])})


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes `config.json` with a digest of itself."""
    write_json(path / CONFIG, config | {_SELF: digest_of(json.dumps(config, sort_keys=True))})


def _keep_card(old: Path, new: Path) -> None:
    """Copies an edited card to the new folder, if the encoder is the same."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        recorded = json.loads((old / CONFIG).read_text("utf-8"))["files"]
        if recorded[CARD] != digest(old / CARD) and recorded[ENCODER] == digest(new / ENCODER):
            shutil.copyfile(old / CARD, new / CARD)


def read_config(path: Path) -> dict[str, Any]:
    """The verified content of `config.json`."""
    if not path.is_dir():
        if "hf:" in path.parts:
            raise ArtifactError(
                f"{path} is not a folder. A Hub address must be passed to Artifact.load as a string. Fix: "
                "Artifact.load('hf://owner/name').save(FOLDER), then name that folder"
            )
        raise ArtifactError(
            f"{path} is not a folder. An artifact is a folder with {CONFIG}, as written by train or train-encoder"
        )
    try:
        config: dict[str, Any] = json.loads((_current(path) / CONFIG).read_text("utf-8"))
        written_by, version = config["format"], config["format_version"]
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} has no {CONFIG}, so it is not a model-behavior artifact") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / CONFIG} is damaged ({error}). Fix: restore it, or train again") from error
    if written_by != FORMAT:
        raise ArtifactError(f"{path / CONFIG} has format {written_by!r}; expected {FORMAT!r}")
    if version != _BEFORE_SEGMENTS:
        check_version(f"{path}: format", version, FORMAT_VERSION)
    if config.pop(_SELF, None) != digest_of(json.dumps(config, sort_keys=True)):
        raise ArtifactError(f"{path / CONFIG} was altered. Fix: restore the folder from a copy, or train again")
    return config


def _read_verified(path: Path, file: IO[bytes] | None, recorded: str | None) -> bytes:
    """Content of an open file; refuses one whose SHA-256 differs from the recorded one."""
    if file is None:
        raise ArtifactError(f"{path} is missing. Fix: restore the folder from a copy, or train again")
    content = file.read()
    if hashlib.sha256(content).hexdigest() != recorded:
        raise ArtifactError(
            f"{path} was altered or truncated: its SHA-256 differs from the one in {CONFIG}. "
            "Fix: restore the folder from a copy, or train again"
        )
    return content


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes JSON, an entry a line, without NaN and infinity, which JSON does not have.

    Python's encoder indents many times slower than it writes lines: with 2,000 models that was most of a save.
    """
    write = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    if isinstance(value, Mapping):
        entries = [f"{write(key)}: {write(entry)}" for key, entry in value.items()]
    else:
        entries = [write(entry) for entry in value]
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    path.write_text("\n".join([opening, ",\n".join(entries), closing, ""]), "utf-8")
