"""More responses of a model that is in the catalog already: its row as if all of them had been enrolled at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.embeddings import EncodedPart, ModelEmbeddings, average, usable_pairs
from model_behavior.catalog.enrolment import Catalog, EnrolmentConfig, enrol, enrol_encoded, merge_catalogs, prompt_keys
from model_behavior.catalog.exemplars import join_answers
from model_behavior.catalog.samples import Exemplar, ModelSamples, VectorSample, select_samples
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.style_encoder import StyleEncoder
from model_behavior.preprocessing.feature_cache import encode_through_cache

_SAME = 2e-3  # Kept vectors are rounded to float16, and a batch of another size changes the last digits.


def extend_catalog(
    catalog: Catalog,
    encoder: ModelBehaviorEncoder,
    pairs: PairTable,
    batch_size: int,
    parts: Iterable[EncodedPart] | None = None,
) -> Catalog:
    """Adds responses to the models that have them behind their rows; a model that is new is enrolled.

    Mean, spread, counts, style moments, sampled vectors and answers are those of one enrolment of everything. Typical
    responses are chosen among those that either enrolment has chosen. A response to the same prompt that the sample of
    the model holds already is not counted again.

    Args:
        catalog: of `encoder`.
        encoder: trained.
        pairs: answers of any number of models.
        batch_size: pairs encoded at once.
        parts: the pairs, where they are encoded already.

    Raises:
        DataError: no usable pair at all.
    """
    fresh = ~find_repeats(catalog, encoder, pairs, batch_size)
    if usable_pairs(pairs).any() and not usable_pairs(pairs, fresh).any():
        return catalog
    new = enrol(encoder, pairs, batch_size, fresh) if parts is None else enrol_encoded(pairs, parts, fresh)
    known = [name for name in new.models.names if name in catalog.models.names]
    rows = [_combine(_row(catalog, name), _row(new, name), encoder, batch_size) for name in known]
    grown = merge_catalogs(catalog, new)
    for row in rows:
        grown = merge_catalogs(grown, row)
    return grown


def find_repeats(
    catalog: Catalog, encoder: ModelBehaviorEncoder, pairs: PairTable, batch_size: int
) -> npt.NDArray[np.bool_]:
    """Pairs that the catalog's samples hold already: same model, prompt and, by its vectors, response. [n_pairs]."""
    keys = prompt_keys(pairs)
    held = {name: _by_prompt(catalog.samples, row) for row, name in enumerate(catalog.samples.names)}
    candidates = [
        index
        for index in np.flatnonzero(usable_pairs(pairs)).tolist()
        if int(keys[index]) in held.get(pairs.models[pairs.model_index[index]], {})
    ]
    repeats = np.zeros(len(pairs), dtype=bool)
    prompts = [pairs.prompts[int(pairs.prompt_index[index])].as_py() for index in candidates]
    texts = encoder.clean(prompts, [pairs.responses[index].as_py() for index in candidates])
    vectors = encoder.encode_clean(*texts, batch_size)
    styles = encode_through_cache(StyleEncoder(), *texts, encoder.runtime.cache, batch_size)
    for place, index in enumerate(candidates):
        old_styles, old_vectors = held[pairs.models[pairs.model_index[index]]][int(keys[index])]
        same_style = any(np.array_equal(each, styles[place].astype(np.float16)) for each in old_styles)
        # Of a model that was trained on, only some responses are kept as vectors.
        near = [bool(np.abs(each.astype(np.float32) - vectors[place]).max() < _SAME) for each in old_vectors]
        repeats[index] = same_style and (any(near) or not near)
    return repeats


def _by_prompt(
    samples: ModelSamples, row: int
) -> dict[int, tuple[list[npt.NDArray[np.float16]], list[npt.NDArray[np.float16]]]]:
    """The style and the embedding vectors that are kept of a model, by prompt key."""
    found: dict[int, tuple[list[npt.NDArray[np.float16]], list[npt.NDArray[np.float16]]]] = defaultdict(
        lambda: ([], [])
    )
    for kind, sample in enumerate((samples.styles, samples.embedded)):
        part = sample.rows_of(row)
        for key, vector in zip(sample.prompt_keys[part].tolist(), sample.vectors[part], strict=True):
            found[key][kind].append(vector)
    return found


def _row(catalog: Catalog, name: str) -> Catalog:
    row = catalog.models.names.index(name)
    return Catalog(catalog.models.select([row]), select_samples([catalog.samples], (name,)))


def _combine(old: Catalog, new: Catalog, encoder: ModelBehaviorEncoder, batch_size: int) -> Catalog:
    """Two rows of the same model as one."""
    config = EnrolmentConfig()
    models = _add_embeddings(old.models, new.models)
    mean, deviation, count = _add_moments(old.samples, new.samples)
    exemplars = (*old.samples.exemplars[0], *new.samples.exemplars[0])
    return Catalog(
        models,
        ModelSamples(
            names=models.names,
            style_mean=mean,
            style_deviation=deviation,
            style_count=count,
            embedded=_add_samples(old.samples.embedded, new.samples.embedded, config.max_vectors),
            styles=_add_samples(old.samples.styles, new.samples.styles, config.max_vectors),
            words=_add_samples(old.samples.words, new.samples.words, config.max_vectors),
            exemplars=(_choose_exemplars(exemplars, encoder, models.mean[0], batch_size)[: config.n_exemplars],),
            answers=(join_answers(old.samples.answers[0], new.samples.answers[0], config.n_answers),),
        ),
    )


def _add_embeddings(old: ModelEmbeddings, new: ModelEmbeddings) -> ModelEmbeddings:
    sums = [models.mean.astype(np.float64) * models.count[:, None] for models in (old, new)]
    return average(old.names, sums[0] + sums[1], old.count + new.count)


def _add_moments(old: ModelSamples, new: ModelSamples) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Pooled mean and deviation (Chan, Golub and LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115)."""
    n_old, n_new = old.style_count[:, None], new.style_count[:, None]
    n_all = n_old + n_new
    shift = new.style_mean.astype(np.float64) - old.style_mean
    mean = old.style_mean + shift * n_new / np.maximum(n_all, 1)
    within = sum(
        np.square(each.style_deviation.astype(np.float64)) * np.maximum(each.style_count[:, None] - 1, 0)
        for each in (old, new)
    )
    square = within + np.square(shift) * n_old * n_new / np.maximum(n_all, 1)
    deviation = np.sqrt(square / np.maximum(n_all - 1, 1))
    return mean.astype(np.float32), deviation.astype(np.float32), old.style_count + new.style_count


def _add_samples(old: VectorSample, new: VectorSample, n: int) -> VectorSample:
    keys = np.concatenate([old.prompt_keys, new.prompt_keys])
    kept = np.argsort(keys, kind="stable")[:n]
    return VectorSample(np.concatenate([old.vectors, new.vectors])[kept], keys[kept], np.array([0, len(kept)]))


def _choose_exemplars(
    exemplars: tuple[Exemplar, ...], encoder: ModelBehaviorEncoder, mean: FloatArray, batch_size: int
) -> tuple[Exemplar, ...]:
    """Nearest to the embedding first, each prompt once."""
    prompts, responses = [each.prompt for each in exemplars], [each.response for each in exemplars]
    nearness = encoder.encode(prompts, responses, batch_size) @ mean
    ordered = [exemplars[index] for index in np.argsort(-nearness, kind="stable").tolist()]
    return tuple({each.prompt: each for each in reversed(ordered)}.values())[::-1]
