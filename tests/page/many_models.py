"""A catalog as large as a public arena's: the models of a small one, and others like them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, ModelEmbeddings, merge_catalogs
from model_behavior.catalog.samples import select_samples

_SHIFT = 0.05  # of an embedding's coordinates, standard deviation
_RESPONSES = 40


def enlarge(loaded: Artifact, n: int, seed: int) -> Artifact:
    """An artifact of `n` models: those of another one, and enrolled ones around them, each with what is kept of the
    responses of the model that it is like."""
    rng = np.random.default_rng(seed)
    models = loaded.models
    n_new = n - len(models)
    like = rng.integers(0, len(models), n_new)
    names = tuple(sorted(f"{'abcdefghijklmn'[i % 14] * 4}-of-some-length-{i:03}" for i in range(n_new)))
    mean = models.mean[like] + rng.normal(0, _SHIFT, (n_new, models.mean.shape[1])).astype(np.float32)
    new = ModelEmbeddings(names, mean, np.full(n_new, _RESPONSES), models.spread[like])
    samples = select_samples([loaded.catalog.samples], [models.names[row] for row in like])
    return loaded.with_catalog(merge_catalogs(loaded.catalog, Catalog(new, replace(samples, names=names))))
