"""Benchmark of catalogs: cost of adding one model to an artifact with a growing number of others.

The others are made of the models of a trained artifact: their embeddings moved by noise, their sampled responses
repeated to the number that a catalog keeps, to prompts of their own. Each change runs in a process of its own:
`python -m model_behavior.benchmarks.catalog_size FOLDER RESPONSES MODEL` prints what it has cost, as JSON.
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
from pathlib import Path

import numpy as np

from model_behavior.arrays import Int64Array
from model_behavior.artifact import Artifact
from model_behavior.benchmarks.scale_probe import peak_memory
from model_behavior.catalog import Catalog, EnrolmentConfig, ModelEmbeddings, merge_catalogs
from model_behavior.catalog.samples import ModelSamples, VectorSample, select_samples
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.errors import ModelBehaviorError
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel

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


def measure_catalogs(
    loaded: Artifact, responses: Path, sizes: Sequence[int], seed: int, progress: Callable[[int, int], None]
) -> list[ChangeCost]:
    """Makes an artifact of every size in a temporary folder, and adds a model to each.

    Raises:
        ModelBehaviorError: a measurement failed.
    """
    costs = []
    for done, size in enumerate(sorted(sizes)):
        progress(done, len(sizes))
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "catalog"
            enlarge(loaded, size, seed).save(folder)
            costs.append(_probe(folder, responses))
    progress(len(sizes), len(sizes))
    return costs


def write_catalog_report(costs: Sequence[ChangeCost], source: str, command: str) -> str:
    """The Markdown."""
    lines = []
    for each in costs:
        written = "" if each.written_bytes is None else f"{each.written_bytes / _MIB:,.1f}"
        seconds = " | ".join(f"{value:.2f}" for value in (*each.seconds, sum(each.seconds)))
        memory = (each.peak_bytes - each.start_bytes) / _MIB
        lines.append(f"| {each.models:,} | {each.sample_bytes / _MIB:,.0f} | {seconds} | {written} | {memory:,.0f} |")
    head = _INTRODUCTION.format(command=command, source=source, start=costs[0].start_bytes / _MIB)
    return head + "\n".join([*lines, ""])


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


def _probe(folder: Path, responses: Path) -> ChangeCost:
    command = [sys.executable, "-m", __name__, str(folder), str(responses), "one-more"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        tail = finished.stderr.strip().splitlines()[-1:] or ["no message; it may have run out of memory"]
        raise ModelBehaviorError(f"measuring {folder} ended with code {finished.returncode}: {tail[0]}")
    value = json.loads(finished.stdout)
    return ChangeCost(**{**value, "seconds": tuple(value["seconds"])})


def _written() -> int | None:
    if not _IO.exists():
        return None
    fields = dict(line.split(": ", 1) for line in _IO.read_text("utf-8").splitlines())
    return int(fields["wchar"])


def probe(folder: Path, responses: Path, model: str) -> ChangeCost:
    """Adds a model to the artifact in a folder, by the responses in a file."""
    import scipy.optimize  # noqa: F401  what a change needs, so that it is no part of the cost
    import sklearn.preprocessing  # noqa: F401

    size = sum(each.stat().st_size for each in os.scandir(folder / "samples"))
    start, before, marks = peak_memory(), _written(), [time.process_time()]
    loaded = Artifact.load(folder)
    marks.append(time.process_time())
    grown = loaded.onboard(responses, model)
    marks.append(time.process_time())
    grown.save(folder)
    marks.append(time.process_time())
    seconds = (marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2])
    after = _written()
    written = None if before is None or after is None else after - before
    return ChangeCost(len(loaded.models), size, seconds, written, start, peak_memory())


if __name__ == "__main__":
    print(json.dumps(asdict(probe(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))))
