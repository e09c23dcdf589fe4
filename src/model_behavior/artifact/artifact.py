"""The folder that a trained encoder lives in.

    config.json           format and version, encoder configuration, SHA-256 of the other files
    encoder.safetensors   weights of the encoder's trained part
    models.safetensors    model embeddings: mean, count, spread; hashes of the training prompts
    models.json           names of the models, in row order
    samples.safetensors   what is kept of each model's responses: style profile, sampled vectors with hashes of prompts
    exemplars.json        typical responses of each model, as text
    revisions.json        what became of each model; only where one was changed since the training
    history.json          one record per trained epoch
    scorer.safetensors    stage 2, arrays; only where a scorer was trained
    scorer.json           stage 2, the rest of its state
    README.md             a card for people; may be edited, and is then kept when the folder is written again

A folder is written aside and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model_behavior.arrays import Arrays
from model_behavior.artifact.card import write_card
from model_behavior.artifact.folder import (
    CARD,
    CONFIG,
    ENCODER,
    FORMAT,
    FORMAT_VERSION,
    digest,
    keep_what_is_the_users,
    read_config,
    restore,
    swap,
    verify,
    write_config,
    write_json,
)
from model_behavior.catalog import Catalog, ModelEmbeddings, ModelSamples
from model_behavior.catalog.agreement import model_table
from model_behavior.catalog.revisions import Revisions, record_changes, revisions_from_stored, revisions_to_json
from model_behavior.catalog.samples import samples_from_stored, samples_to_arrays, samples_to_json
from model_behavior.data_models.votes import TrainingRecord, ValidationSplit
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.files import name_aside, open_to_others
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.cache import ContentCache

_MODELS = "models.safetensors"
_NAMES, _HISTORY = "models.json", "history.json"
_SAMPLES, _EXEMPLARS = "samples.safetensors", "exemplars.json"
_REVISIONS = "revisions.json"
_SCORER, _SCORER_STATE = "scorer.safetensors", "scorer.json"
_VERIFIED = (ENCODER, _MODELS, _NAMES, _HISTORY, _SAMPLES, _EXEMPLARS)
_WITH_SCORER = (_SCORER, _SCORER_STATE)
_WRITTEN = (CONFIG, *_VERIFIED, _REVISIONS, *_WITH_SCORER, CARD)


@dataclass(frozen=True, eq=False)
class Artifact:
    """A trained encoder with the models that it has embedded, and what predicts votes between them.

    Attributes:
        encoder: trained.
        models: embeddings of the models.
        samples: what is kept of their responses, same rows; None where that is nothing.
        scorer: stage 2, which knows all the models; None before it is trained.
        training: what the encoder was trained on; None where that is not known.
        revisions: what became of the models since.
    """

    encoder: ModelBehaviorEncoder
    models: ModelEmbeddings
    samples: ModelSamples | None = None
    scorer: DenseNetworkModel | None = None
    training: TrainingRecord | None = None
    revisions: Revisions = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """Embeddings and samples together."""
        return Catalog.of_embeddings(self.models) if self.samples is None else Catalog(self.models, self.samples)

    def with_catalog(self, catalog: Catalog) -> Artifact:
        """The same encoder with another catalog, in which the scorer enrols the models that have no votes.

        What differs is recorded as revisions. This artifact and its scorer stay as they are.

        Raises:
            UsageError: a model that the scorer's votes are about is missing.
        """
        revisions = record_changes(self.revisions, self.catalog, catalog)
        scorer = copy(self.scorer)
        if scorer is not None:
            names = catalog.models.names
            scorer.remove(sorted(set(scorer.models) - set(names)))
            known = set(scorer.models)
            changed = [name for name in names if name not in known or revisions.get(name) != self.revisions.get(name)]
            if changed:
                scorer.enrol(model_table(self.encoder, catalog, scorer.voted_models, changed))
        return replace(self, models=catalog.models, samples=catalog.samples, scorer=scorer, revisions=revisions)


def check_output(path: Path, overwrite: bool, hint: str = "") -> None:
    """Says before any work whether an artifact can be written there.

    Args:
        path: the folder.
        overwrite: whether an artifact may be replaced.
        hint: added to the advice where it may not.

    Raises:
        UsageError: something is there and may not be replaced, or is no artifact.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / CONFIG).is_file():
        raise UsageError(f"{path} exists and is not a model-behavior artifact. Fix: choose another --output")
    if not overwrite:
        raise UsageError(f"{path} holds an artifact already. Fix: choose another --output{hint}")


def save(artifact: Artifact, path: Path) -> None:
    """Writes the folder; an artifact that was there is replaced only when the new one is whole.

    Raises:
        UsageError: something is there that is no artifact.
        OSError: the folder cannot be written; what was there before is still there.
    """
    check_output(path, overwrite=True)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = name_aside(path)
    aside.mkdir()
    try:
        _write_files(artifact, aside)
        keep_what_is_the_users(path, aside, _WRITTEN)
        swap(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the same folder between a load and a save; waits for them."""
    path = path.resolve()
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def fingerprint(path: Path) -> str:
    """Hash of the whole content of a folder, whose `config.json` has the digests of all other files.

    Raises:
        ArtifactError: as for `load`, but for other files than `config.json`.
    """
    read_config(path)
    return digest(path / CONFIG)


def load(path: Path, cache: ContentCache | None = None) -> Artifact:
    """Reads and verifies a folder.

    Args:
        path: the folder.
        cache: of the features of texts, for the encoder and the scorer; the default one otherwise.

    Raises:
        ArtifactError: it is missing, no artifact, of a newer version, or a file in it is missing or altered.
    """
    restore(path.resolve())
    config = read_config(path)
    digests = config.get("files")
    digests = digests if isinstance(digests, dict) else {}
    scored, changed = any(name in digests for name in _WITH_SCORER), _REVISIONS in digests
    for name in (*_VERIFIED, *(_WITH_SCORER if scored else ()), *((_REVISIONS,) if changed else ())):
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
        scorer = _read_scorer(path, cache) if scored else None
        revisions = revisions_from_stored(json.loads((path / _REVISIONS).read_text("utf-8"))) if changed else {}
        split = config["split"]
        record = None if split is None else TrainingRecord(_read_split(split), table["training_prompts"])
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{path} is incomplete: {error!r}. Fix: restore it from a copy, or train again") from error
    encoder = ModelBehaviorEncoder.load_state_dict(state)
    if cache is not None:
        encoder.runtime = Runtime(cache)
    return Artifact(encoder, models, samples, scorer, record, revisions)


def _write_files(artifact: Artifact, folder: Path) -> None:
    state = artifact.encoder.get_state_dict()
    models = artifact.models
    save_file(state.pop("tensors"), folder / ENCODER)
    record = artifact.training
    prompts = record.prompts if record is not None else np.zeros(0, np.uint64)
    table: Arrays = {"mean": models.mean, "count": models.count, "spread": models.spread, "training_prompts": prompts}
    save_file(table, folder / _MODELS)
    write_json(folder / _NAMES, list(models.names))
    samples = artifact.catalog.samples
    save_file(samples_to_arrays(samples), folder / _SAMPLES)
    write_json(folder / _EXEMPLARS, samples_to_json(samples))
    write_json(folder / _HISTORY, state.pop("history"))
    (folder / CARD).write_text(write_card(artifact.encoder, models), "utf-8")
    written: tuple[str, ...] = (*_VERIFIED, CARD)
    if artifact.revisions:
        write_json(folder / _REVISIONS, revisions_to_json(artifact.revisions))
        written = (*written, _REVISIONS)
    if artifact.scorer is not None:
        scorer = artifact.scorer.get_state_dict()
        save_file(scorer.pop("tensors"), folder / _SCORER)
        write_json(folder / _SCORER_STATE, scorer)
        written = (*written, *_WITH_SCORER)
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "encoder": state,
        "split": None if record is None else asdict(record.split),
        "files": {name: digest(folder / name) for name in written},
    }
    write_config(folder, config)
    for name in (ENCODER, _MODELS, _SAMPLES, *((_SCORER,) if artifact.scorer is not None else ())):
        open_to_others(folder / name)


def _read_scorer(path: Path, cache: ContentCache | None) -> DenseNetworkModel:
    state = json.loads((path / _SCORER_STATE).read_text("utf-8"))
    return DenseNetworkModel.load_state_dict({**state, "tensors": load_file(path / _SCORER)}, cache)


def _read_split(values: dict[str, Any]) -> ValidationSplit:
    return ValidationSplit(**{**values, "held_out_models": tuple(values["held_out_models"])})
