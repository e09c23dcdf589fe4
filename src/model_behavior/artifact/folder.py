"""The folder format of an artifact.

A folder is written under a temporary name and then swapped in, so it is complete or absent. It is verified when read.
Files that the user has added are kept.

    config.json           format and version, encoder configuration, SHA-256 of the other files
    encoder.safetensors   weights of the encoder's trained part
    models.safetensors    model embeddings: mean, count, spread; hashes of the training prompts
    models.json           names of the models, in row order
    samples.safetensors   samples of each model's responses: style profile, vectors with hashes of prompts
    exemplars.json        typical responses of each model, as text
    revisions.json        changes of each model since the training; absent if there were none
    prompts.*             prompts worth asking a new model, with the known models' readings; absent without texts
    history.json          one record per trained epoch
    scorer.safetensors    stage 2, arrays; absent if no scorer was trained
    scorer.json           stage 2, the rest of its state
    scorer-training.*     the same for stage 2 fitted to the training votes only, which `evaluate` measures
    README.md             model card; an edited card is kept when the folder is written again
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model_behavior.arrays import Arrays
from model_behavior.artifact.card import write_card
from model_behavior.catalog import Catalog, ModelEmbeddings, ModelSamples
from model_behavior.catalog.asking import PromptBook, book_from_stored, book_to_arrays, book_to_json
from model_behavior.catalog.revisions import Revisions, revisions_from_stored, revisions_to_json
from model_behavior.catalog.samples import samples_from_stored, samples_to_arrays, samples_to_json
from model_behavior.data_models.votes import TrainingRecord, ValidationSplit
from model_behavior.errors import ArtifactError, UsageError, check_version
from model_behavior.files import name_aside, open_to_others
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import digest_of

FORMAT = "model-behavior"
FORMAT_VERSION = 2

CONFIG, CARD, ENCODER = "config.json", "README.md", "encoder.safetensors"
_SELF = "config_digest"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
_MODELS = "models.safetensors"
_NAMES, _HISTORY = "models.json", "history.json"
_SAMPLES, _EXEMPLARS = "samples.safetensors", "exemplars.json"
_REVISIONS = "revisions.json"
_SCORER, _SCORER_STATE = "scorer.safetensors", "scorer.json"
_TRAINING_SCORER, _TRAINING_SCORER_STATE = "scorer-training.safetensors", "scorer-training.json"
_VERIFIED = (ENCODER, _MODELS, _NAMES, _HISTORY, _SAMPLES, _EXEMPLARS)
_WITH_PROMPTS = ("prompts.safetensors", "prompts.json")
_WITH_SCORER = (_SCORER, _SCORER_STATE)
_WITH_TRAINING_SCORER = (_TRAINING_SCORER, _TRAINING_SCORER_STATE)
_OPTIONAL = (_WITH_SCORER, _WITH_TRAINING_SCORER, _WITH_PROMPTS, (_REVISIONS,))
WRITTEN = (CONFIG, *_VERIFIED, *(name for group in _OPTIONAL for name in group), CARD)


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
        book: prompts worth asking a new model; None before stage 2 is trained, and where no texts are kept.
    """

    encoder: ModelBehaviorEncoder
    models: ModelEmbeddings
    samples: ModelSamples | None = None
    scorer: DenseNetworkModel | None = None
    training: TrainingRecord | None = None
    revisions: Revisions = field(default_factory=dict)
    training_scorer: DenseNetworkModel | None = None
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
        UsageError: the folder exists and may not be replaced, or is not an artifact.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / CONFIG).is_file():
        raise UsageError(f"{path} exists and is not a model-behavior artifact. Fix: choose another --output")
    if not overwrite:
        raise UsageError(f"{path} holds an artifact already. Fix: choose another --output{hint}")


def write_folder(contents: Contents, path: Path, texts: bool = True) -> None:
    """Writes the folder; an older artifact there is replaced only once the new one is complete.

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
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = name_aside(path)
    aside.mkdir()
    try:
        _write_files(contents if texts else without_texts(contents), aside)
        keep_what_is_the_users(path, aside, WRITTEN)
        swap(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the same folder between a load and a save; waits for them."""
    path = path.resolve()
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def fingerprint(path: Path) -> str:
    """Hash of the whole content of a folder: that of `config.json`, which holds the digests of all other files.

    Raises:
        ArtifactError: `config.json` is missing, altered, or of another version.
    """
    read_config(path)
    return digest(path / CONFIG)


def read_folder(path: Path, runtime: Runtime | None = None) -> Contents:
    """Reads and verifies a folder.

    Args:
        path: folder to read.
        runtime: cache and monitor of the encoder; the scorer uses the cache, too.

    Raises:
        ArtifactError: the folder is missing, not an artifact, of another version, or incomplete or altered.
    """
    restore(path.resolve())
    config = read_config(path)
    digests = config.get("files")
    digests = digests if isinstance(digests, dict) else {}
    present = [group for group in _OPTIONAL if any(name in digests for name in group)]
    for name in (*_VERIFIED, *(name for group in present for name in group)):
        verify(path / name, digests.get(name))
    try:
        state: dict[str, Any] = {
            **config["encoder"],
            "tensors": load_file(path / ENCODER),
            "history": json.loads((path / _HISTORY).read_text("utf-8")),
        }
        table = load_file(path / _MODELS)
        names = tuple(json.loads((path / _NAMES).read_text("utf-8")))
        models = ModelEmbeddings(names, table["mean"], table["count"], table["spread"])
        exemplars = json.loads((path / _EXEMPLARS).read_text("utf-8"))
        samples = samples_from_stored(names, load_file(path / _SAMPLES), exemplars)
        cache = None if runtime is None else runtime.cache
        scorer, measured = (
            _read_scorer(path, group, cache) if group in present else None
            for group in (_WITH_SCORER, _WITH_TRAINING_SCORER)
        )
        stored = json.loads((path / _REVISIONS).read_text("utf-8")) if (_REVISIONS,) in present else None
        revisions = {} if stored is None else revisions_from_stored(stored)
        book = None
        if _WITH_PROMPTS in present:
            texts = json.loads((path / _WITH_PROMPTS[1]).read_text("utf-8"))
            book = book_from_stored(load_file(path / _WITH_PROMPTS[0]), texts)
        split = config["split"]
        record = None if split is None else TrainingRecord(_read_split(split), table["training_prompts"])
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{path} is incomplete: {error!r}. Fix: restore it from a copy, or train again") from error
    encoder = ModelBehaviorEncoder.load_state_dict(state)
    if runtime is not None:
        encoder.runtime = runtime
    return Contents(encoder, models, samples, scorer, record, revisions, measured, book)


def without_texts(contents: Contents) -> Contents:
    """The contents without any prompt or response as text, for users who may not share responses."""
    samples, contents = contents.samples, replace(contents, book=None)
    if samples is None:
        return contents
    nothing: tuple[()] = ()
    empty = replace(samples, exemplars=tuple(nothing for _ in samples.names), answers=tuple({} for _ in samples.names))
    return replace(contents, samples=empty)


def _write_files(contents: Contents, folder: Path) -> None:
    state = contents.encoder.get_state_dict()
    models = contents.models
    save_file(state.pop("tensors"), folder / ENCODER)
    record = contents.training
    prompts = record.prompts if record is not None else np.zeros(0, np.uint64)
    table: Arrays = {"mean": models.mean, "count": models.count, "spread": models.spread, "training_prompts": prompts}
    save_file(table, folder / _MODELS)
    write_json(folder / _NAMES, list(models.names))
    samples = contents.catalog.samples
    save_file(samples_to_arrays(samples), folder / _SAMPLES)
    write_json(folder / _EXEMPLARS, samples_to_json(samples))
    write_json(folder / _HISTORY, state.pop("history"))
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
            write_json(folder / rest, values)
            written = (*written, tensors, rest)
    if contents.book is not None:
        save_file(book_to_arrays(contents.book), folder / _WITH_PROMPTS[0])
        write_json(folder / _WITH_PROMPTS[1], book_to_json(contents.book))
        written = (*written, *_WITH_PROMPTS)
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder": state,
        "split": None if record is None else asdict(record.split),
        "files": {name: digest(folder / name) for name in written},
    }
    write_config(folder, config)
    for name in written:
        if name.endswith(".safetensors"):
            open_to_others(folder / name)


def _read_scorer(path: Path, files: tuple[str, ...], cache: ContentCache | None) -> DenseNetworkModel:
    tensors, rest = files
    state = json.loads((path / rest).read_text("utf-8"))
    return DenseNetworkModel.load_state_dict({**state, "tensors": load_file(path / tensors)}, cache)


def _read_split(values: dict[str, Any]) -> ValidationSplit:
    return ValidationSplit(**{**values, "held_out_models": tuple(values["held_out_models"])})


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes `config.json` with a digest of itself."""
    write_json(path / CONFIG, config | {_SELF: digest_of(json.dumps(config, sort_keys=True))})


def keep_what_is_the_users(old: Path, new: Path, ours: Collection[str]) -> None:
    """Copies the user's own files, and an edited card if the encoder is the same, to the new folder.

    Args:
        old: folder that is replaced.
        new: folder that takes its place.
        ours: names of files that belong to the format.
    """
    if not old.exists():
        return
    for path in old.iterdir():
        if path.name not in ours:
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, new / path.name, symlinks=True)
            elif path.is_file() or path.is_symlink():
                shutil.copy2(path, new / path.name, follow_symlinks=False)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        recorded = json.loads((old / CONFIG).read_text("utf-8"))["files"]
        if recorded[CARD] != digest(old / CARD) and recorded[ENCODER] == digest(new / ENCODER):
            shutil.copy2(old / CARD, new / CARD)


def swap(aside: Path, path: Path) -> None:
    """Replaces `path` by the new folder `aside`, atomically if the system can exchange two folders.

    If it cannot, the old folder is first renamed, and `restore` finds it if the process is killed in between.
    """
    if not path.exists():
        aside.rename(path)
        return
    if exchange(aside, path):
        shutil.rmtree(aside, ignore_errors=True)
        return
    old = _parked(path)
    shutil.rmtree(old, ignore_errors=True)
    try:
        path.rename(old)
        aside.rename(path)
    except BaseException:  # an interrupt, too, at any point
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def restore(path: Path) -> None:
    """Restores the old folder that a killed `swap` has left under its temporary name."""
    if not path.exists() and _parked(path).is_dir():
        _parked(path).rename(path)


def _parked(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.previous")


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two names atomically (renameat2, Linux 3.15); False if the system or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


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
        config: dict[str, Any] = json.loads((path / CONFIG).read_text("utf-8"))
        written_by, version = config["format"], config["format_version"]
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} has no {CONFIG}, so it is not a model-behavior artifact") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / CONFIG} is damaged ({error}). Fix: restore it, or train again") from error
    if written_by != FORMAT:
        raise ArtifactError(f"{path / CONFIG} has format {written_by!r}; expected {FORMAT!r}")
    check_version(f"{path}: format", version, FORMAT_VERSION)
    if config.pop(_SELF, None) != digest_of(json.dumps(config, sort_keys=True)):
        raise ArtifactError(f"{path / CONFIG} was altered. Fix: restore the folder from a copy, or train again")
    return config


def verify(path: Path, recorded: str | None) -> None:
    """Refuses a file whose SHA-256 differs from the recorded one."""
    if not path.is_file():
        raise ArtifactError(f"{path} is missing. Fix: restore the folder from a copy, or train again")
    if digest(path) != recorded:
        raise ArtifactError(
            f"{path} was altered or truncated: its SHA-256 differs from the one in {CONFIG}. "
            "Fix: restore the folder from a copy, or train again"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
