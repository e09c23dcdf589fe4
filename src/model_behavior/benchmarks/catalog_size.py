"""Benchmark of catalogs: cost of adding one model to an artifact with a growing number of others, and of serving them.

The others are made of the models of a trained artifact: their embeddings moved by noise, their sampled responses
repeated to the number that a catalog keeps, to prompts of their own. Each measurement runs in a process of its own:
`python -m model_behavior.benchmarks.catalog_size change|serve FOLDER RESPONSES` prints what it has cost, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model_behavior.arrays import Int64Array
from model_behavior.artifact import Artifact
from model_behavior.benchmarks.scale_probe import peak_memory
from model_behavior.catalog import Catalog, EnrolmentConfig, ModelEmbeddings, merge_catalogs
from model_behavior.catalog.samples import ModelSamples, VectorSample, select_samples
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.errors import ModelBehaviorError
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.serving.service import Service

_NOISE = 0.05  # of an embedding's coordinates, standard deviation
_MIB = 1 << 20
_IO = Path("/proc/self/io")
_INTRODUCTION = """\
# One model more in a catalog of thousands

Written by `{command}`.
The other models are copies of those in {source}, moved by noise, each with the responses that a catalog keeps of a
model. Loading the artifact, enrolling one model and writing the artifact are measured, each row in a process of its
own, after the libraries were loaded ({start:,.0f} MiB).

- *Written*: bytes that the process wrote, the index and the small files included.
- *Memory*: highest resident memory beyond that of the libraries, mapped files included.

| models | samples, MiB | load: CPU s | enrol: CPU s | save: CPU s | all: CPU s | written, MiB | memory, MiB |
|---|---|---|---|---|---|---|---|
"""
_SERVING = """
## Served

The same folders behind the service, without HTTP: its start, and one answer of each kind. An upload reads the file in a
process of its own, whose time is not counted, enrols the model, writes the folder and places the model on the map.

| models | start: CPU s | rank: CPU s | rank on a prompt: CPU s | map: CPU s | upload: CPU s | memory, MiB |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class ChangeCost:
    """Cost of adding one model.

    Attributes:
        models: number of models before.
        sample_bytes: size of the samples on disk.
        seconds: CPU time of loading, enrolling and saving.
        written_bytes: bytes written; None where the system does not tell.
        start_bytes: highest resident memory before.
        peak_bytes: highest resident memory afterwards.
    """

    models: int
    sample_bytes: int
    seconds: tuple[float, float, float]
    written_bytes: int | None
    start_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class ServeCost:
    """Cost of serving a catalog.

    Attributes:
        models: number of models.
        seconds: CPU time of start, ranking, ranking on a prompt, map and upload.
        start_bytes: highest resident memory before.
        peak_bytes: highest resident memory afterwards.
    """

    models: int
    seconds: tuple[float, float, float, float, float]
    start_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class CatalogCost:
    """Costs of a catalog of one size."""

    change: ChangeCost
    serve: ServeCost


def measure_catalogs(
    loaded: Artifact, responses: Path, sizes: Sequence[int], seed: int, progress: Callable[[int, int], None]
) -> list[CatalogCost]:
    """Makes an artifact of every size in a temporary folder, adds a model to each, and serves it.

    Raises:
        ModelBehaviorError: a measurement failed.
    """
    costs = []
    for done, size in enumerate(sorted(sizes)):
        progress(done, len(sizes))
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "catalog"
            enlarge(loaded, size, seed).save(folder)
            change, serve = (_run(kind, folder, responses) for kind in ("change", "serve"))
            costs.append(CatalogCost(ChangeCost(**change), ServeCost(**serve)))
    progress(len(sizes), len(sizes))
    return costs


def write_catalog_report(costs: Sequence[CatalogCost], source: str, command: str) -> str:
    """The Markdown."""
    lines, served = [], []
    for cost in costs:
        each = cost.change
        written = "" if each.written_bytes is None else f"{each.written_bytes / _MIB:,.1f}"
        seconds = " | ".join(f"{value:.2f}" for value in (*each.seconds, sum(each.seconds)))
        memory = (each.peak_bytes - each.start_bytes) / _MIB
        lines.append(f"| {each.models:,} | {each.sample_bytes / _MIB:,.0f} | {seconds} | {written} | {memory:,.0f} |")
        seconds = " | ".join(f"{value:.2f}" for value in cost.serve.seconds)
        memory = (cost.serve.peak_bytes - cost.serve.start_bytes) / _MIB
        served.append(f"| {cost.serve.models:,} | {seconds} | {memory:,.0f} |")
    head = _INTRODUCTION.format(command=command, source=source, start=costs[0].change.start_bytes / _MIB)
    return head + "\n".join([*lines, _SERVING + "\n".join([*served, ""])])


def enlarge(loaded: Artifact, n_models: int, seed: int = 0) -> Artifact:
    """An artifact with as many models, those that it has included."""
    rng = np.random.default_rng(seed)
    models, samples = loaded.models, loaded.catalog.samples
    n_new = max(n_models - len(models), 0)
    like = rng.integers(0, len(models), n_new)
    names = tuple(f"copy-{number:06d} of {models.names[row]}" for number, row in enumerate(like.tolist()))
    moved = models.mean[like] + _NOISE * rng.standard_normal((n_new, models.mean.shape[1]))
    count = np.full(n_new, EnrolmentConfig().max_vectors)
    new = ModelEmbeddings(names, moved.astype(np.float32), count, models.spread[like])
    copies = replace(select_samples([_fill(samples, rng)], [samples.names[row] for row in like.tolist()]), names=names)
    scorers = [_follow(scorer, loaded, new) for scorer in (loaded.scorer, loaded.training_scorer)]
    merged = merge_catalogs(loaded.catalog, Catalog(new, copies))
    return replace(loaded, models=merged.models, samples=merged.samples, scorer=scorers[0], training_scorer=scorers[1])


def _fill(samples: ModelSamples, rng: np.random.Generator) -> ModelSamples:
    """As many responses of each model as a catalog keeps, to other prompts."""
    n = EnrolmentConfig().max_vectors

    def fill(sample: VectorSample) -> VectorSample:
        rows: list[Int64Array] = []
        for row in range(len(samples.names)):
            part = sample.rows_of(row)
            own = np.arange(part.start, part.stop)
            rows.append(np.resize(own, n if len(own) else 0))
        keys = [np.sort(rng.integers(0, 2**63, len(each)).astype(np.uint64)) for each in rows]
        offsets = np.concatenate([[0], np.cumsum([len(each) for each in rows])]).astype(np.int64)
        return VectorSample(sample.vectors[np.concatenate(rows)], np.concatenate(keys), offsets)

    return replace(samples, embedded=fill(samples.embedded), styles=fill(samples.styles), words=fill(samples.words))


def _follow(scorer: DenseNetworkModel | None, loaded: Artifact, new: ModelEmbeddings) -> DenseNetworkModel | None:
    """A scorer that has enrolled the models by their embeddings alone."""
    if scorer is None:
        return None
    other = copy(scorer)
    identity = loaded.encoder.config.features.identity_weight
    embedding = np.ascontiguousarray(loaded.encoder.identity_of(new.mean)) if identity else new.mean
    other.enrol(ModelTable(new.names, embedding, new.count, new.spread))
    return other


def _run(kind: str, folder: Path, responses: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, kind, str(folder), str(responses)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        tail = finished.stderr.strip().splitlines()[-1:] or ["no message; it may have run out of memory"]
        raise ModelBehaviorError(f"measuring {folder} ended with code {finished.returncode}: {tail[0]}")
    value: dict[str, Any] = json.loads(finished.stdout)
    return {**value, "seconds": tuple(value["seconds"])}


def _written() -> int | None:
    if not _IO.exists():
        return None
    fields = dict(line.split(": ", 1) for line in _IO.read_text("utf-8").splitlines())
    return int(fields["wchar"])


def measure_change(folder: Path, responses: Path) -> ChangeCost:
    """Adds a model to the artifact in a folder, by the responses in a file."""
    size = sum(each.stat().st_size for each in os.scandir(folder / "samples"))
    start, before, marks = peak_memory(), _written(), [time.process_time()]
    loaded = Artifact.load(folder)
    marks.append(time.process_time())
    grown = loaded.onboard(responses, "one-more")
    marks.append(time.process_time())
    grown.save(folder)
    marks.append(time.process_time())
    after = _written()
    written = None if before is None or after is None else after - before
    seconds = (marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2])
    return ChangeCost(len(loaded.models), size, seconds, written, start, peak_memory())


def measure_serving(folder: Path, responses: Path) -> ServeCost:
    """Serves the artifact in a folder, and uploads a model to it."""
    start, marks = peak_memory(), [time.process_time()]
    service = Service(folder)
    n_models = len(service.snapshot.rows)
    marks.append(time.process_time())
    for ask in (
        service.rank,
        partial(service.rank, "Which river is the longest?"),
        service.map,
        partial(service.upload, responses, "uploaded", False),
    ):
        ask()
        marks.append(time.process_time())
    service.uploads.close()
    a, b, c, d, e = np.diff(marks).tolist()
    return ServeCost(n_models, (a, b, c, d, e), start, peak_memory())


if __name__ == "__main__":
    import scipy.optimize  # noqa: F401  what a change needs, so that it is no part of the cost
    import sklearn.preprocessing  # noqa: F401

    paths = Path(sys.argv[2]), Path(sys.argv[3])
    print(json.dumps(asdict(measure_change(*paths) if sys.argv[1] == "change" else measure_serving(*paths))))
