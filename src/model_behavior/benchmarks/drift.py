"""Benchmark of drift: power against swaps of models, and false alarms under changes of the harness.

Every trial enrols a model from some of its responses, and tests others, of which a share is another model's. There is
one response of each model to each prompt, so that "no change" can only be tried on other prompts than the enrolled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, IntArray, UInt64Array
from model_behavior.artifact import Artifact
from model_behavior.benchmarks.harnesses import CUT, UNSEEN, change_unseen
from model_behavior.catalog import Catalog, ModelEmbeddings, merge_catalogs, remove
from model_behavior.catalog.drift import DriftConfig, Sides, compare_sides, line_up
from model_behavior.catalog.embeddings import average, encode_parts, usable_pairs
from model_behavior.catalog.enrolment import prompt_keys
from model_behavior.catalog.relabelling import combine, relabel
from model_behavior.catalog.samples import VectorSample, empty_samples
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError
from model_behavior.names import family_of

SHARES = (1.0, 0.5, 0.1, 0.05)
KINDS = ("sibling", "smaller size", "another family")
OURS = "drift"
MEANS, MIXTURES = "of it, means", "of it, mixtures"
LONGER, SHORTER = "longer prompts than the enrolled ones", "shorter prompts than the enrolled ones"
_BATCH, _RIDGE = 512, 0.3
_PARAMETERS = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_LEAST_ENROLLED = 16


HARNESSES: Mapping[str, Callable[[str], str] | None] = {
    "none, other prompts": None,
    **{name: UNSEEN[name] for name in ("a line feed after each", "curly apostrophes", "an end token")},
    "all that nobody sees": change_unseen,
    **CUT,
}
"""Changes of the harness: what it does to each response."""


@dataclass(frozen=True)
class DriftPlan:
    """Settings of the benchmark.

    Attributes:
        swaps: most pairs of models of each kind.
        draws: draws of prompts for each pair of models.
        permutations: relabellings of every test.
        seed: seed of pairs, prompts and relabellings.
        sizes: numbers of new responses.
    """

    swaps: int = 12
    draws: int = 4
    permutations: int = 199
    seed: int = 0
    sizes: tuple[int, ...] = (32, 64, 256)


@dataclass(frozen=True)
class Swap:
    """A model, and the one that answers in its place."""

    kind: str
    model: str
    foreign: str


@dataclass(frozen=True)
class Cell:
    """Shares of trials in which a change was found.

    Attributes:
        kind: kind of the swap, or of the change of the harness.
        share: share of foreign responses; 0 for a change of the harness.
        n: number of new responses.
        same_prompts: True where the enrolled model had answered the same prompts.
        found: share of trials in which a test found a change, by test.
        trials: number of trials.
    """

    kind: str
    share: float
    n: int
    same_prompts: bool
    found: Mapping[str, float]
    trials: int


@dataclass(frozen=True, eq=False)
class Bank:
    """Encoded responses, one of each model to each prompt at most.

    Attributes:
        models: names of the models.
        owner: model of each response, [n].
        keys: key of the prompt of each, [n].
        vectors: vectors of each, [n, dim].
        styles: style features of each, [n, n_features].
        lengths: characters of each prompt, [n].
        texts: prompt and response of each.
    """

    models: tuple[str, ...]
    owner: IntArray
    keys: UInt64Array
    vectors: Float32Array
    styles: Float32Array
    lengths: IntArray
    texts: Sequence[tuple[str, str]]

    def rows_of(self, model: str) -> dict[int, int]:
        """Rows of a model's responses by key of the prompt."""
        rows = np.flatnonzero(self.owner == self.models.index(model))
        return dict(zip(self.keys[rows].tolist(), rows.tolist(), strict=True))

    def enrol(self, model: str, rows: Sequence[int], vectors: Float32Array | None = None) -> Catalog:
        """A catalog of one model from some responses."""
        chosen = np.array(rows)[np.argsort(self.keys[np.array(rows)], kind="stable")]
        own = self.vectors[chosen] if vectors is None else vectors
        offsets = np.array([0, len(chosen)])
        embeddings: ModelEmbeddings = average(
            (model,), own.sum(axis=0, dtype=np.float64)[None], np.array([len(chosen)])
        )
        samples = replace(
            empty_samples((model,), own.shape[1]),
            embedded=VectorSample(own.astype(np.float16), self.keys[chosen], offsets),
            styles=VectorSample(self.styles[chosen].astype(np.float16), self.keys[chosen], offsets),
        )
        return Catalog(embeddings, samples)


def run_drift_benchmark(
    artifact: Artifact, pairs: PairTable, plan: DriftPlan, progress: Callable[[str, int, int], None]
) -> list[Cell]:
    """Measures power and false alarms.

    Args:
        artifact: trained artifact; prompts that it was trained on are left out.
        pairs: responses of many models to many prompts.
        plan: settings.
        progress: function called with (what, draws of a swap or model done, draws in all).

    Raises:
        DataError: there are too few models, or too few prompts that two models answer.
    """
    rng = np.random.default_rng(plan.seed)
    bank = fill_bank(artifact, pairs)
    swaps = find_swaps(bank.models, plan.swaps, rng)
    if not swaps:
        raise DataError(
            "the responses are of fewer than two models. Fix: responses of several models to the same prompts"
        )
    known = artifact.catalog
    for name in sorted({name for swap in swaps for name in (swap.model, swap.foreign)}):
        known = merge_catalogs(known, bank.enrol(name, list(bank.rows_of(name).values())))
    bench = Bench(artifact, bank, known, plan)
    models = sorted({swap.model for swap in swaps})
    tries: dict[tuple[str, float, int, bool], list[Mapping[str, bool]]] = {}
    tried_on: list[Swap | str] = [*swaps, *models]
    turns = [tried for tried in tried_on for _ in range(plan.draws)]
    for done, tried in enumerate(turns):
        own = np.random.default_rng([plan.seed, done])
        if isinstance(tried, Swap):
            for (share, n, same), found in bench.try_swap(tried, own).items():
                tries.setdefault((tried.kind, share, n, same), []).append(found)
        else:
            for (kind, n), found in bench.try_harness(tried, own).items():
                tries.setdefault((kind, 0.0, n, False), []).append(found)
        progress("trials", done + 1, len(turns))
    return [
        Cell(*key, {test: float(np.mean([each[test] for each in found])) for test in found[0]}, len(found))
        for key, found in tries.items()
    ]


def fill_bank(artifact: Artifact, pairs: PairTable) -> Bank:
    """Encodes the responses to prompts that the encoder was not trained on."""
    keys = prompt_keys(pairs)
    training = artifact.training.prompts if artifact.training is not None else np.zeros(0, np.uint64)
    rows = np.flatnonzero(usable_pairs(pairs) & ~np.isin(keys, training))
    _, first = np.unique(np.stack([pairs.model_index[rows].astype(np.uint64), keys[rows]]), axis=1, return_index=True)
    rows = rows[np.sort(first)]
    prompts = list(LazyTexts(pairs.prompts, pairs.prompt_index[rows]))
    responses = list(LazyTexts(pairs.responses, rows))
    parts = list(encode_parts(artifact.encoder, prompts, responses, _BATCH))
    return Bank(
        pairs.models,
        pairs.model_index[rows].astype(np.int64),
        keys[rows],
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.styles for part in parts]),
        np.array([len(text) for text in prompts]),
        list(zip(prompts, responses, strict=True)),
    )


def find_swaps(models: Sequence[str], most: int, rng: np.random.Generator) -> list[Swap]:
    """Pairs of models of each kind, at most `most` of each, by their names."""
    found: dict[str, list[Swap]] = {kind: [] for kind in KINDS}
    for model in models:
        for foreign in models:
            if model != foreign:
                kind = kind_of(model, foreign)
                if kind is not None:
                    found[kind].append(Swap(kind, model, foreign))
    return [swaps[row] for swaps in found.values() for row in np.sort(rng.permutation(len(swaps))[:most]).tolist()]


def kind_of(model: str, foreign: str) -> str | None:
    """The kind of a swap; None for one to a larger size of the same."""
    if family_of(model) != family_of(foreign):
        return KINDS[2]
    size, other = _parameters(model), _parameters(foreign)
    if size is None or other is None or size == other:
        return KINDS[0]
    return KINDS[1] if other < size else None


def _parameters(name: str) -> float | None:
    """Number of parameters in billions, as the name says it."""
    found = _PARAMETERS.search(name)
    return None if found is None else float(found[1] or 1) * float(found[2])


@dataclass(frozen=True, eq=False)
class Bench:
    """What trials are made of.

    Attributes:
        artifact: trained artifact.
        bank: responses.
        known: catalog of the artifact's models and of those in the bank that are swapped.
        plan: settings.
    """

    artifact: Artifact
    bank: Bank
    known: Catalog
    plan: DriftPlan

    def try_swap(self, swap: Swap, rng: np.random.Generator) -> dict[tuple[float, int, bool], dict[str, bool]]:
        """Tests by share of foreign responses, number of responses, and whether the same prompts were enrolled."""
        own, foreign = self.bank.rows_of(swap.model), self.bank.rows_of(swap.foreign)
        prompts = rng.permutation(np.array(sorted(own.keys() & foreign.keys()), np.uint64)).tolist()
        others = remove(self.known, [swap.model])
        found = {}
        for n in self.plan.sizes:
            asked, enrolled = prompts[:n], prompts[max(self.plan.sizes) :]
            if len(asked) < n:
                continue
            for share in SHARES:
                n_foreign = round(share * n)
                rows = [(foreign if place < n_foreign else own)[key] for place, key in enumerate(asked)]
                for same in (False, True):
                    before = [own[key] for key in (asked if same else enrolled)]
                    if len(before) >= _LEAST_ENROLLED:
                        found[share, n, same] = self._test(others, swap.model, before, self.bank.enrol("new", rows))
        return found

    def try_harness(self, model: str, rng: np.random.Generator) -> dict[tuple[str, int], dict[str, bool]]:
        """Tests responses of the enrolled model to other prompts, by what the harness does to them, and number."""
        own = self.bank.rows_of(model)
        prompts = rng.permutation(np.array(sorted(own), np.uint64)).tolist()
        by_length = sorted(prompts, key=lambda key: int(self.bank.lengths[own[key]]))
        others = remove(self.known, [model])
        found = {}
        for n in self.plan.sizes:
            asked, before = [own[key] for key in prompts[:n]], [own[key] for key in prompts[max(self.plan.sizes) :]]
            if len(asked) < n or len(before) < _LEAST_ENROLLED:
                continue
            for kind, change in HARNESSES.items():
                found[kind, n] = self._test(others, model, before, self._changed(asked, change))
            half = len(by_length) // 2
            halves = [[own[key] for key in part] for part in (by_length[:half], by_length[half:])]
            for kind, (before, other) in ((LONGER, halves), (SHORTER, halves[::-1])):
                if len(other) >= n:
                    drawn = [other[place] for place in rng.permutation(len(other))[:n].tolist()]
                    found[kind, n] = self._test(others, model, before, self.bank.enrol("new", drawn))
        return found

    def _changed(self, rows: Sequence[int], change: Callable[[str], str] | None) -> Catalog:
        """The catalog of some responses, their texts changed and encoded again."""
        if change is None:
            return self.bank.enrol("new", rows)
        texts = [self.bank.texts[row] for row in rows]
        prompts, responses = [prompt for prompt, _ in texts], [change(response) for _, response in texts]
        (*parts,) = encode_parts(self.artifact.encoder, prompts, responses, _BATCH)
        changed = replace(
            self.bank,
            keys=self.bank.keys[rows],
            vectors=np.concatenate([part.vectors for part in parts]),
            styles=np.concatenate([part.styles for part in parts]),
        )
        return changed.enrol("new", range(len(rows)))

    def _test(self, others: Catalog, model: str, before: Sequence[int], new: Catalog) -> dict[str, bool]:
        """Whether each test finds a change."""
        catalog = merge_catalogs(others, self.bank.enrol(model, before))
        config = DriftConfig(permutations=self.plan.permutations, seed=self.plan.seed)
        row = catalog.models.names.index(model)
        sides = line_up(catalog, row, new, config)
        found = compare_sides(catalog, row, sides, config)
        parts = {MEANS: found.p_mean, MIXTURES: found.p_mixture if found.p_mixture is not None else 1.0}
        p_values = {OURS: found.p_value, **parts, **other_tests(sides, self.plan)}
        return {test: p_value <= config.alpha for test, p_value in p_values.items()}


def other_tests(sides: Sides, plan: DriftPlan) -> dict[str, float]:
    """P-values of the best known tests, with the same vectors and relabellings."""
    contrasts = np.concatenate(list(relabel(sides.is_new, sides.stratum, plan.permutations, plan.seed)))
    products = (centred := sides.vectors - sides.vectors.mean(axis=0)) @ centred.T
    square = np.diag(products)
    distances = np.sqrt(np.maximum(square[:, None] + square - 2 * products, 0))
    positive = distances[distances > 0]
    width = np.median(positive) if len(positive) else 1.0
    statistics = {
        "energy distance": -np.einsum("pi,pi->p", contrasts @ distances, contrasts),
        "maximum mean discrepancy": (
            np.einsum("pi,pi->p", contrasts @ np.exp(-np.square(distances / width)), contrasts)
        ),
        "classifier": _classify(products, contrasts > 0),
    }
    return {test: combine([each], [1.0])[0] for test, each in statistics.items()}


def _classify(products: Float64Array, labels: BoolArray) -> Float64Array:
    """Correlation of each labelling with what ridge regression predicts of each response from all others."""
    ridge = _RIDGE * len(products)
    hat = products @ np.linalg.inv(products + ridge * np.eye(len(products)))
    own = np.diag(hat)
    target = labels - labels.mean(axis=1, keepdims=True)
    predicted = (target @ hat.T - target * own) / (1 - own)
    lengths = np.sqrt(np.square(predicted).sum(axis=1) * np.square(target).sum(axis=1))
    correlations: Float64Array = (predicted * target).sum(axis=1) / np.maximum(lengths, 1e-12)
    return correlations


_INTRODUCTION = """\
# Drift: power, and false alarms

Written by `{command}`. {n_models} models of {source}, prompts that the encoder was not trained on. A model is enrolled
from its responses to some prompts, and n others are tested at alpha = 0.05, of which a share is another model's. Cells
are the share of trials in which a change was found.

- *{ours}*: the test of the library. *{means}*, *{mixtures}*: its two parts alone.
- *energy distance* (Székely and Rizzo 2013), *maximum mean discrepancy* (Gaussian kernel of the median distance;
  Gretton et al. 2012) and *classifier* (ridge regression, left one out; Lopez-Paz and Oquab 2017) have the same
  vectors, with the same relabellings.
- *Other prompts*: the enrolled and the new responses answer different prompts. *Same prompts*: the same ones, and the
  responses that are not foreign are the enrolled ones themselves, as of an API at temperature 0.
"""


def write_drift_report(
    cells: Sequence[Cell], source: str, n_models: int, command: str
) -> tuple[str, Mapping[str, str]]:
    """The Markdown; it has no pictures."""
    lines = [
        _INTRODUCTION.format(
            command=command, source=source, n_models=n_models, ours=OURS, means=MEANS, mixtures=MIXTURES
        )
    ]
    for title, chosen in (
        ("False alarms by change of the harness", [cell for cell in cells if not cell.share]),
        ("Power, other prompts", [cell for cell in cells if cell.share and not cell.same_prompts]),
        ("Power, same prompts", [cell for cell in cells if cell.share and cell.same_prompts]),
    ):
        lines += [f"## {title}", "", *_table(chosen), ""]
    return "\n".join(lines), {}


def _table(cells: Sequence[Cell]) -> list[str]:
    if not cells:
        return ["Too few responses to measure it."]
    tests = list(cells[0].found)
    lines = [f"| change | n | trials | {' | '.join(tests)} |", f"|{'---|' * (len(tests) + 3)}"]
    order = list(dict.fromkeys((cell.kind, cell.share) for cell in cells))
    for cell in sorted(cells, key=lambda each: (-each.share, order.index((each.kind, each.share)), each.n)):
        what = f"{cell.share:.0%}: {cell.kind}" if cell.share else cell.kind
        shares = " | ".join(f"{cell.found[test]:.2f}" for test in tests)
        lines.append(f"| {what} | {cell.n} | {cell.trials} | {shares} |")
    return lines
