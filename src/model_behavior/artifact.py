"""The folder that a trained encoder lives in.

    config.json           format and version, encoder configuration, SHA-256 of the other files
    encoder.safetensors   weights of the encoder's trained part
    models.safetensors    model embeddings: mean, count, spread
    models.json           names of the models, in row order
    samples.safetensors   what is kept of each model's responses: style profile, sampled vectors with hashes of prompts
    exemplars.json        typical responses of each model, as text
    history.json          one record per trained epoch
    README.md             a card for people; may be edited, and is then kept when the folder is written again

A folder is written aside and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model_behavior.catalog import Catalog, ModelEmbeddings, ModelSamples
from model_behavior.catalog.storage import samples_from_stored, samples_to_arrays, samples_to_json
from model_behavior.data.prompt_keys import PromptKeys
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.files import name_aside, open_to_others
from model_behavior.model_card import write_card
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.entry_file import digest_of

FORMAT = "model-behavior"
FORMAT_VERSION = 2

_CONFIG, _ENCODER, _MODELS = "config.json", "encoder.safetensors", "models.safetensors"
_NAMES, _HISTORY, _CARD = "models.json", "history.json", "README.md"
_SAMPLES, _EXEMPLARS = "samples.safetensors", "exemplars.json"
_VERIFIED = (_ENCODER, _MODELS, _NAMES, _HISTORY, _SAMPLES, _EXEMPLARS)
_SELF = "config_digest"
_WRITTEN = (_CONFIG, *_VERIFIED, _CARD)


@dataclass(frozen=True, eq=False)
class Artifact:
    """A trained encoder with the models that it has embedded.

    Attributes:
        encoder: trained.
        models: embeddings of the models.
        samples: what is kept of their responses, same rows; None where that is nothing.
    """

    encoder: ModelBehaviorEncoder
    models: ModelEmbeddings
    samples: ModelSamples | None = None
    scorer: DenseNetworkModel | None = None
    training_prompts: PromptKeys | None = None

    @property
    def catalog(self) -> Catalog:
        """Embeddings and samples together."""
        return Catalog.of_embeddings(self.models) if self.samples is None else Catalog(self.models, self.samples)

    def with_catalog(self, catalog: Catalog) -> Artifact:
        """The same encoder with another catalog."""
        return Artifact(self.encoder, catalog.models, catalog.samples, self.scorer, self.training_prompts)


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
    if not (path / _CONFIG).is_file():
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
        _keep_what_is_the_users(path, aside)
        _swap(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the same folder between a load and a save; waits for them."""
    path = path.resolve()
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def load(path: Path) -> Artifact:
    """Reads and verifies a folder.

    Raises:
        ArtifactError: it is missing, no artifact, of a newer version, or a file in it is missing or altered.
    """
    config = _read_config(path)
    digests = config.get("files")
    for name in _VERIFIED:
        _verify(path / name, digests.get(name) if isinstance(digests, dict) else None)
    try:
        state: dict[str, Any] = {
            **config["encoder"],
            "tensors": load_file(path / _ENCODER),
            "history": json.loads((path / _HISTORY).read_text("utf-8")),
        }
        table = load_file(path / _MODELS)
        names = tuple(json.loads((path / _NAMES).read_text("utf-8")))
        models = ModelEmbeddings(names, table["mean"], table["count"], table["spread"])
        exemplars = json.loads((path / _EXEMPLARS).read_text("utf-8"))
        samples = samples_from_stored(names, load_file(path / _SAMPLES), exemplars)
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{path} is incomplete: {error!r}. Fix: restore it from a copy, or train again") from error
    return Artifact(ModelBehaviorEncoder.load_state_dict(state), models, samples, None, table.get("training_prompts"))


def _write_files(artifact: Artifact, folder: Path) -> None:
    state = artifact.encoder.get_state_dict()
    models = artifact.models
    save_file(state.pop("tensors"), folder / _ENCODER)
    table: dict[str, Any] = {"mean": models.mean, "count": models.count, "spread": models.spread}
    if artifact.training_prompts is not None:
        table["training_prompts"] = artifact.training_prompts
    save_file(table, folder / _MODELS)
    _write_json(folder / _NAMES, list(models.names))
    samples = artifact.catalog.samples
    save_file(samples_to_arrays(samples), folder / _SAMPLES)
    _write_json(folder / _EXEMPLARS, samples_to_json(samples))
    _write_json(folder / _HISTORY, state.pop("history"))
    (folder / _CARD).write_text(write_card(artifact.encoder, models), "utf-8")
    digests = {name: _digest(folder / name) for name in (*_VERIFIED, _CARD)}
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, "encoder": state, "files": digests}
    _write_json(folder / _CONFIG, config | {_SELF: digest_of(json.dumps(config, sort_keys=True))})
    for name in (_ENCODER, _MODELS, _SAMPLES):
        open_to_others(folder / name)


def _keep_what_is_the_users(old: Path, new: Path) -> None:
    """Carries over what a user put into the folder, and an edited card where the encoder stays the same."""
    if not old.exists():
        return
    for path in old.iterdir():
        if path.name not in _WRITTEN:
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, new / path.name, symlinks=True)
            elif path.is_file() or path.is_symlink():
                shutil.copy2(path, new / path.name, follow_symlinks=False)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        recorded = json.loads((old / _CONFIG).read_text("utf-8"))["files"]
        if recorded[_CARD] != _digest(old / _CARD) and recorded[_ENCODER] == _digest(new / _ENCODER):
            shutil.copy2(old / _CARD, new / _CARD)


def _swap(aside: Path, path: Path) -> None:
    if not path.exists():
        aside.rename(path)
        return
    # A folder cannot be renamed over a full one; the old one steps aside and comes back if that fails.
    old = name_aside(path)
    path.rename(old)
    try:
        aside.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ArtifactError(
            f"{path} is not a folder. A trained encoder is a folder with {_CONFIG}, as train-encoder writes"
        )
    try:
        config: dict[str, Any] = json.loads((path / _CONFIG).read_text("utf-8"))
        written_by, version = config["format"], config["format_version"]
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} has no {_CONFIG}, so it is no model-behavior artifact") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / _CONFIG} is damaged ({error}). Fix: restore it, or train again") from error
    if written_by != FORMAT:
        raise ArtifactError(f"{path / _CONFIG} is of format {written_by!r}, not {FORMAT!r}")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        fix = "upgrade model-behavior" if newer else "train again"
        raise ArtifactError(f"{path} has format version {version!r}; this release reads {FORMAT_VERSION}. Fix: {fix}")
    if config.pop(_SELF, None) != digest_of(json.dumps(config, sort_keys=True)):
        raise ArtifactError(f"{path / _CONFIG} was altered. Fix: restore the folder from a copy, or train again")
    return config


def _verify(path: Path, digest: str | None) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing. Fix: restore the folder from a copy, or train again")
    if _digest(path) != digest:
        raise ArtifactError(
            f"{path} was altered or cut off: its SHA-256 is not the one in {_CONFIG}. "
            "Fix: restore the folder from a copy, or train again"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
