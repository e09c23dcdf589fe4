"""What enrolment keeps, against plain loops over the arena's answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from model_behavior import pipeline
from model_behavior.artifact import Artifact
from model_behavior.catalog import Exemplar, enrol, merge_catalogs, remove
from model_behavior.catalog.enrolment import Catalog, EnrolmentConfig, prompt_keys
from model_behavior.catalog.samples import (
    VectorSample,
    first_to_each_prompt,
    join_answers,
    pair_answers,
    samples_from_stored,
)
from model_behavior.data.arena import Arena
from model_behavior.data.canonical_text import canonical_prompt, canonical_response
from model_behavior.data.split import hash_text, normalise_prompt
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError, UsageError
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.names import find_model, nearest_models
from tests.catalog.conftest import CONFIG
from tests.catalog.version_2 import samples_to_arrays, samples_to_json


@pytest.fixture(scope="module")
def new(known: Artifact, arena: Arena) -> Catalog:
    return enrol(known.encoder, arena.held_out_responses, 256)


def cut(text: str) -> str:
    return text if len(text) <= 600 else text[:599].rstrip() + "…"


def own_texts(pairs: PairTable, name: str) -> tuple[list[str], list[str]]:
    rows = [row for row in range(len(pairs)) if pairs.models[pairs.model_index[row]] == name]
    prompts = [pairs.prompts[int(pairs.prompt_index[row])].as_py() for row in rows]
    return prompts, [pairs.responses[row].as_py() for row in rows]


def test_rows_are_what_a_loop_over_the_answers_gives(known: Artifact, new: Catalog, arena: Arena) -> None:
    assert new.models.names == new.samples.names == arena.held_out
    for row, name in enumerate(arena.held_out):
        prompts, responses = own_texts(arena.held_out_responses, name)
        features = (
            StyleEncoder().encode(prompts, [canonical_response(text) for text in responses], 8).astype(np.float64)
        )
        np.testing.assert_allclose(new.samples.style_mean[row], features.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(new.samples.style_deviation[row], features.std(axis=0, ddof=1), atol=1e-4)
        assert new.samples.style_count[row] == new.models.count[row] == len(responses)
        vectors = known.encoder.encode(prompts, responses, 64)
        sampled = new.samples.embedded.vectors[new.samples.embedded.rows_of(row)].astype(np.float32)
        np.testing.assert_allclose(np.sort(sampled, axis=0), np.sort(vectors, axis=0), atol=1e-3)
        nearest = np.argsort(-(vectors @ vectors.mean(axis=0)))[:3]
        assert {each.response for each in new.samples.exemplars[row]} <= {cut(responses[i]) for i in nearest}


def test_answers_are_those_to_the_prompts_with_the_smallest_hashes(known: Artifact, new: Catalog, arena: Arena) -> None:
    # A training keeps its texts in the form that it has read; what is enrolled later stays as it came.
    trained = known.catalog, arena.votes.pairs, canonical_prompt, canonical_response
    for catalog, pairs, of_prompt, of_response in ((new, arena.held_out_responses, str, str), trained):
        for name, answers in zip(catalog.models.names, catalog.samples.answers, strict=True):
            texts: dict[int, tuple[str, str]] = {}
            for prompt, response in zip(*own_texts(pairs, name), strict=True):
                texts.setdefault(hash_text(normalise_prompt(prompt)), (of_prompt(prompt), of_response(response)))
            expected = [(key, *(cut(text) for text in texts[key])) for key in sorted(texts)[:6]]
            assert [(key, each.prompt, each.response) for key, each in answers.items()] == expected


def test_models_that_answered_the_same_prompts_can_be_read_side_by_side(known: Artifact, new: Catalog) -> None:
    samples = merge_catalogs(known.catalog, new).samples
    of_new = [samples.names.index(name) for name in new.models.names]
    for a, b in itertools.permutations(range(len(samples.names)), 2):
        found = pair_answers(samples, a, b)
        said = [{each.prompt: each.response for each in samples.answers[row].values()} for row in (a, b)]
        assert {each.prompt for each in found} == said[0].keys() & said[1].keys()
        assert all((each.response_a, each.response_b) == tuple(own[each.prompt] for own in said) for each in found)
        # All held-out models answered the same prompts, voted models a share of them.
        assert len(found) == 6 if {a, b} <= set(of_new) else found


def test_pairs_to_read_are_to_different_prompts_and_cut() -> None:
    table = PairTable(
        prompts=pa.array(["p" * 7, "q"], pa.large_string()),
        models=("m",),
        responses=pa.array(["first", "again", "a longer one"], pa.large_string()),
        histories=pa.array(["", "", ""], pa.large_string()),
        prompt_index=np.array([0, 0, 1], np.int32),
        model_index=np.zeros(3, np.int32),
    )
    keys = np.array([5, 5, 2**64 - 1], np.uint64)
    answers = first_to_each_prompt(table, keys, [1, 0, 2], 3, 6)
    assert answers == {5: Exemplar("ppppp…", "again"), 2**64 - 1: Exemplar("q", "a lon…")}
    assert list(first_to_each_prompt(table, keys, [2, 0], 1, 6)) == [2**64 - 1]
    other = {5: Exemplar("p", "other"), 7: Exemplar("r", "r")}
    assert join_answers(answers, other, 2) == {5: answers[5], 7: other[7]}


def test_a_trained_model_is_sampled_from_responses_that_it_was_not_trained_on(known: Artifact, arena: Arena) -> None:
    keys = prompt_keys(arena.votes.pairs)
    sampled = set(np.asarray(known.catalog.samples.embedded.prompt_keys).tolist())
    assert 0 < len(sampled) < len(set(keys.tolist())) / 2
    everything = known.catalog.samples.styles
    assert set(np.asarray(everything.prompt_keys).tolist()) == set(keys.tolist())
    assert len(everything.vectors) == len(arena.votes.pairs)


def test_prompts_are_known_by_their_normalised_text_and_history() -> None:
    table = PairTable(
        prompts=pa.array(["Hi  there", "hi there", "Bye"], pa.large_string()),
        models=("m",),
        responses=pa.array(["a", "b", "c", "d"], pa.large_string()),
        histories=pa.array(["", "", "", "[]"], pa.large_string()),
        prompt_index=np.array([0, 1, 2, 2], np.int32),
        model_index=np.zeros(4, np.int32),
    )
    first, second, third, fourth = prompt_keys(table).tolist()
    assert first == second and len({first, third, fourth}) == 3


def test_the_sample_is_bounded_and_shares_prompts_between_models(known: Artifact, arena: Arena) -> None:
    config = EnrolmentConfig(max_vectors=16, n_exemplars=1, max_characters=40, n_answers=0)
    small = enrol(known.encoder, arena.held_out_responses, 256, config=config)
    assert {len(answers) for answers in small.samples.answers} == {0}
    assert {len(exemplars) for exemplars in small.samples.exemplars} == {1}
    assert max(len(each.response) for (each,) in small.samples.exemplars) <= 40
    keys = prompt_keys(arena.held_out_responses)
    for row in range(len(small.models)):
        own = sorted(
            keys[
                arena.held_out_responses.model_index == arena.held_out_responses.models.index(small.models.names[row])
            ].tolist()
        )
        for sample in (small.samples.embedded, small.samples.styles):
            assert sorted(sample.prompt_keys[sample.rows_of(row)].tolist()) == own[:16]


def test_both_stages_keep_what_is_asked(known: Artifact, arena: Arena) -> None:
    enrolment = EnrolmentConfig(max_vectors=5, n_answers=2)
    pairs = arena.held_out_responses
    placed = known.onboard(pairs, config=enrolment)
    grown = known.onboard(pairs, add=True, config=enrolment)
    trained = pipeline.train_encoder(arena.votes, replace(CONFIG, epochs=1, enrolment=enrolment), known.encoder.runtime)
    for artifact, names in ((placed, arena.held_out), (grown, arena.held_out), (trained, trained.models.names)):
        samples = artifact.catalog.samples
        rows = [samples.names.index(name) for name in names]
        assert {int(np.diff(samples.styles.offsets)[row]) for row in rows} == {5}
        assert {len(samples.answers[row]) for row in rows} == {2}


@pytest.mark.parametrize("values", [{"max_vectors": 0}, {"n_exemplars": -1}, {"max_characters": 0}, {"n_answers": -1}])
def test_what_cannot_be_kept_is_refused(values: dict[str, int]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"{name}={values[name]}: at least {values[name] + 1} is needed"):
        EnrolmentConfig(**values)


def test_empty_answers_do_not_count_and_nothing_else_is_an_error(known: Artifact) -> None:
    def table(responses: list[str]) -> PairTable:
        return PairTable(
            prompts=pa.array(["p", "q"], pa.large_string()),
            models=("m",),
            responses=pa.array(responses, pa.large_string()),
            histories=pa.array(["", ""], pa.large_string()),
            prompt_index=np.array([0, 1], np.int32),
            model_index=np.zeros(2, np.int32),
        )

    one = enrol(known.encoder, table(["An answer.", " "]), 8)
    assert one.models.count.tolist() == one.samples.style_count.tolist() == [1]
    assert len(one.samples.embedded.vectors) == len(one.samples.styles.vectors) == 1
    assert [each.response for each in one.samples.exemplars[0]] == ["An answer."]
    with pytest.raises(DataError, match="no model to embed"):
        enrol(known.encoder, table(["", " "]), 8)


def test_merge_replaces_and_remove_is_its_inverse(known: Artifact, new: Catalog) -> None:
    old = known.catalog
    grown = merge_catalogs(old, new)
    assert grown.models.names == grown.samples.names == tuple(sorted([*old.models.names, *new.models.names]))
    again = merge_catalogs(grown, new)
    back = remove(again, new.models.names)
    assert back.models.names == old.models.names
    np.testing.assert_array_equal(back.models.mean, old.models.mean)
    for name, array in samples_to_arrays(old.samples).items():
        np.testing.assert_array_equal(samples_to_arrays(back.samples)[name], array)
    assert back.samples.exemplars == old.samples.exemplars and back.samples.answers == old.samples.answers
    row, source = grown.models.names.index(new.models.names[2]), new.samples
    for mine, theirs in ((grown.samples.embedded, source.embedded), (grown.samples.styles, source.styles)):
        np.testing.assert_array_equal(mine.vectors[mine.rows_of(row)], theirs.vectors[theirs.rows_of(2)])
    nothing = remove(new, new.models.names)
    assert len(nothing.models) == 0 and merge_catalogs(nothing, new).models.names == new.models.names


def test_an_unknown_name_lists_the_nearest() -> None:
    names = ("claude", "gpt-4o", "gpt4", "llama-2-7b", "vicuna-7b", "wizardlm-13b", "yi-34b")
    with pytest.raises(UsageError, match=r"'GPT-4'; nearest of the 7 known: gpt4, gpt-4o, .*Fix"):
        find_model(names, "GPT-4")
    assert nearest_models(names, "Meta-Llama-3-8B")[0] == "llama-2-7b"
    assert find_model(names, "claude") == 0
    with pytest.raises(UsageError, match="catalog is empty"):
        find_model((), "gpt4")
    with pytest.raises(UsageError, match="unknown model ''"):
        find_model(names, "")


def test_stored_samples_of_another_release_keep_what_fits(new: Catalog) -> None:
    arrays, value = samples_to_arrays(new.samples), samples_to_json(new.samples)
    same = samples_from_stored(new.samples.names, arrays, value)
    np.testing.assert_array_equal(same.styles.vectors, new.samples.styles.vectors)
    other = samples_from_stored(new.samples.names, arrays, value | {"style_features": ["comma"]})
    assert not other.style_count.any() and not len(other.styles.vectors)
    np.testing.assert_array_equal(other.embedded.vectors, new.samples.embedded.vectors)
    with pytest.raises(ValueError, match="samples of 6 models beside 1 names"):
        samples_from_stored(("a",), arrays, value)


def test_a_catalog_of_a_release_without_answers_loads_and_shares_no_prompts(new: Catalog) -> None:
    arrays, value = samples_to_arrays(new.samples), samples_to_json(new.samples)
    assert samples_from_stored(new.samples.names, arrays, value).answers == new.samples.answers
    del value["answers"]
    old = samples_from_stored(new.samples.names, arrays, value)
    assert old.exemplars == new.samples.exemplars and old.answers == ({},) * len(new.models)
    assert pair_answers(old, 0, 1) == ()
    both = merge_catalogs(Catalog(new.models, old), remove(new, new.models.names[1:]))
    assert both.samples.answers == (new.samples.answers[0], *old.answers[1:])


def test_owner_repeats_each_model_for_its_rows() -> None:
    sample = VectorSample(np.zeros((3, 2), np.float16), np.arange(3, dtype=np.uint64), np.array([0, 2, 2, 3]))
    assert sample.owner.tolist() == [0, 0, 2] and sample.rows_of(1) == slice(2, 2)
