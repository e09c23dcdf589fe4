"""The folder format of an artifact.

A folder is verified when read, and it is complete or absent: `exchange` has how it changes.

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
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from model_behavior.arrays import Arrays
from model_behavior.artifact.card import write_card
from model_behavior.artifact.config_file import (
    BEFORE_SEGMENTS,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    current,
    digest,
    read_config,
    read_verified,
    write_config,
    write_json,
)
from model_behavior.artifact.exchange import LOCK, PART, exchange, open_state
from model_behavior.artifact.segments import FOLDER as SEGMENTS
from model_behavior.artifact.segments import Layout, read_places, read_samples, write_samples
from model_behavior.catalog import Catalog, ModelEmbeddings, ModelSamples
from model_behavior.catalog.asking import PromptBook, book_from_stored, book_to_arrays, book_to_json
from model_behavior.catalog.revisions import Revisions, revisions_from_stored, revisions_to_json
from model_behavior.catalog.samples import samples_from_stored
from model_behavior.data_models.vote_ledger import VoteLedger
from model_behavior.data_models.votes import TrainingRecord, ValidationSplit
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.files import check_writable, copy_rights, open_to_others, sync
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel

CARD, ENCODER = "README.md", "encoder.safetensors"
_TIMES = "times.json"
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
    if not path.is_dir() or not (current(path) / CONFIG).is_file():
        raise UsageError(f"{path} exists and is not a model-behavior artifact. Fix: choose another --output")
    if not overwrite:
        raise UsageError(f"{path} holds an artifact already. Fix: choose another --output{hint}")


def is_free(path: Path) -> bool:
    """Tells if there is nothing there but an empty folder, or what a killed process has left in one."""
    ours = (LOCK, "lost+found")  # the second is in every new file system, which may be mounted there
    return not path.exists() or (
        path.is_dir() and all(each.name in ours or each.name.startswith(PART) for each in path.iterdir())
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
    exchange(path, WRITTEN, partial(_write_aside, contents))


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


def read_folder(path: Path, runtime: Runtime | None = None) -> Contents:
    """Reads and verifies a folder; samples of its models are read and verified when they are asked for.

    Args:
        path: folder to read.
        runtime: cache, monitor and backend of the encoder; the scorer uses cache and backend, too.

    Raises:
        ArtifactError: the folder is missing, not an artifact, of another version, or incomplete or altered.
    """
    runtime = runtime if runtime is not None else Runtime()
    with open_state(path, WRITTEN, (_TIMES,)) as opened:
        config = opened.config
        digests = config.get("files")
        digests = digests if isinstance(digests, dict) else {}
        present = [group for group in _OPTIONAL if any(name in digests for name in group)]
        old = config["format_version"] == BEFORE_SEGMENTS
        verified = [_EXEMPLARS if old and name == _SAMPLES_STATE else name for name in _VERIFIED]
        raw = {}
        for name in (*verified, *(name for group in present for name in group)):
            raw[name] = read_verified(path / name, opened.files.get(name), digests.get(name))
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


def _keep_card(old: Path, new: Path) -> None:
    """Copies an edited card to the new folder, if the encoder is the same."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        recorded = json.loads((old / CONFIG).read_text("utf-8"))["files"]
        if recorded[CARD] != digest(old / CARD) and recorded[ENCODER] == digest(new / ENCODER):
            shutil.copyfile(old / CARD, new / CARD)
