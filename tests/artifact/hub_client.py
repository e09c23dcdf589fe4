"""What the tests of the Hub run in a process of its own, whose environment says where the Hub is.

huggingface_hub reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE once, when it is imported.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_behavior import Artifact
from model_behavior.arrays import Float32Array
from model_behavior.data_models.scoring_types import RankedModel


@dataclass(frozen=True)
class Loaded:
    """What a test compares of an artifact.

    Attributes:
        ranks: models by rating; None where there is no scorer.
        names: names of the models.
        embeddings: embeddings of the models, [n_models, dim].
        vectors: vectors of two pairs, [2, dim].
        texts: number of responses that are kept as text.
    """

    ranks: list[RankedModel] | None
    names: tuple[str, ...]
    embeddings: Float32Array
    vectors: Float32Array
    texts: int


def set_environment(values: dict[str, str]) -> None:
    """Sets up the process, before huggingface_hub is imported, which waits a second before each of five more tries."""
    os.environ.update(values)
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(0.02)
    warnings.simplefilter("error")


def describe(artifact: Artifact) -> Loaded:
    """See `Loaded`."""
    samples = artifact.catalog.samples
    texts = sum(map(len, (*samples.exemplars, *samples.answers)))
    ranks = None if artifact.scorer is None else artifact.rank()
    vectors = artifact.encode(["Is 7 prime?", "Name a river."], ["Yes.", "The *Rhine*, of course!"])
    return Loaded(ranks, artifact.models.names, artifact.models.mean, vectors, texts)


def load(address: str, token: str | None) -> Loaded:
    """Loads an artifact with the token that `hf auth login` would have stored."""
    if token is None:
        os.environ.pop("HF_TOKEN", None)
    else:
        os.environ["HF_TOKEN"] = token
    return describe(Artifact.load(address))


def push(folder: Path, name: str, options: dict[str, Any]) -> str:
    """Uploads the artifact in a folder."""
    os.environ.pop("HF_TOKEN", None)
    return Artifact.load(folder).push_to_hub(name, **options)


def follow(examples: list[str], folder: Path, token: str) -> dict[str, str]:
    """Runs examples one after the other in a folder; returns what their names stand for, as text."""
    os.environ["HF_TOKEN"] = token
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for example in examples:
            exec(example, names)
    finally:
        os.chdir(before)
    return {name: str(value) for name, value in names.items() if not name.startswith("__")}
