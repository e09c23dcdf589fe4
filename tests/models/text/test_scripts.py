from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.benchmarks.languages import WORDS, translate
from model_behavior.data.arena import build_arena
from model_behavior.models.behavior.text.scripts import count_in_scripts, fold_marks, part_words
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.style_features import ENGLISH, FEATURES, GROUPS
from model_behavior.models.behavior.text.tokens import tokenize
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.settings import check_tokens

SENTENCES = [
    ("zh", "当然可以！人工智能正在改变我们的生活方式，例如在医疗领域。", 15, 2),
    ("ja", "もちろんです。人工知能は生活を変えています。", 11, 2),
    ("th", "แน่นอนครับ ปัญญาประดิษฐ์กำลังเปลี่ยนแปลงวิถีชีวิตของเรา", 9, 1),
    ("km", "ភាសាខ្មែរគឺជាភាសាផ្លូវការ។", 3, 1),
    ("lo", "ພາສາລາວເປັນພາສາທາງການ", 5, 0),
    ("my", "မြန်မာဘာသာစကားသည်", 3, 0),
    ("ar", "نعم، هذا صحيح؟ بالطبع.", 4, 2),
    ("hi", "यह अच्छा है। धन्यवाद।", 4, 2),
    ("ru", "Конечно! Вот ответ.", 3, 2),
    ("fr", "Bien sûr ! C'est très naïf.", 6, 2),
    ("ko", "물론입니다! 예를 들어 의료입니다.", 4, 2),
    ("en", "Well-known, isn't it? Yes.", 6, 2),
]


def feature(name: str, text: str) -> float:
    return float(StyleEncoder().encode(["q"], [text], 1)[0, StyleEncoder.feature_names.index(name)])


@pytest.mark.parametrize(("language", "text", "words", "sentences"), SENTENCES)
def test_words_and_sentences_are_those_of_the_script(language: str, text: str, words: int, sentences: int) -> None:
    counts = count_in_scripts([text], [part_words(text)])
    assert counts.words[0] == pytest.approx(words, abs=1)  # dictionaries differ by a word between releases of ICU
    assert counts.sentences[0] == sentences
    assert np.expm1(feature("log_characters_per_word", text)) < 10


CHARACTERS = st.text(st.one_of(st.characters(), st.sampled_from("a.!? \n\t\x0b_。！？។๚กข ป，：“é́")), max_size=20)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(CHARACTERS, min_size=1, max_size=4))
def test_counts_are_those_of_plain_patterns(texts: list[str]) -> None:
    marks = "".join(re.escape(chr(code)) for code in range(0x80, 0x10000) if unicodedata.category(chr(code))[0] == "M")
    ends = "[.!?](?=[\t\n\f\r ]|\\Z)|[。！？｡।॥؟۔።។။]+|(?<=[\u0e00-\u0eff]) (?=[\u0e00-\u0eff])"
    wide = "[\uff01-\uff0f\uff1a-\uff20\u3001\u3002\u300c-\u300f]"
    counts = count_in_scripts(texts, texts)
    assert counts.words.tolist() == [len(re.findall(f"[\\w{marks}]+", text)) for text in texts]
    assert counts.sentences.tolist() == [len(re.findall(ends, text)) for text in texts]
    assert counts.wide.tolist() == [len(re.findall(wide, text)) for text in texts]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(CHARACTERS)
def test_marks_stand_apart(text: str) -> None:
    if not re.search(
        "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]", text
    ):
        expected = (f" {mark} " if ord(mark) > 127 and _is_mark(mark) else mark for mark in text)
        assert part_words(text) == "".join(expected)


def _is_mark(character: str) -> bool:
    in_plane = ord(character) < 0x10000 and unicodedata.category(character)[0] in "PS"
    return in_plane or 0x1F000 <= ord(character) < 0x1FB00


def test_ascii_text_is_parted_by_itself() -> None:
    assert part_words("It's 3.14, isn't it?") == "It's 3.14, isn't it?"


@pytest.mark.parametrize("text", ["你好，世界", "мир»,", "¿Qué?", "a…b"])
def test_marks_are_tokens_of_their_own(text: str) -> None:
    marks = [mark for mark in "，»,¿?…" if mark in text]
    own = set(tokenize([text]).hashes.tolist())
    assert own >= {int(tokenize([mark]).hashes[0]) for mark in marks}


def test_marks_of_other_scripts_count_as_the_same_marks() -> None:
    assert fold_marks("好，好、好。好！好？（好）：「好」") == '好,好,好.好!好?(好):"好"'
    assert feature("comma", "好，好、") == feature("comma", "好,好,")
    assert feature("ends_with_question_mark", "هل هذا صحيح؟") == 1


@pytest.mark.parametrize(
    "text",
    [
        "La maison est dans la rue, et le chat dort avec les enfants: or this.",
        "The 这是一个很好的想法，我们应该这样做。",
        "Это of the",
    ],
)
def test_english_words_count_in_english_alone(text: str) -> None:
    row = StyleEncoder().encode(["q"], [text], 1)[0]
    assert not row[ENGLISH].any()
    assert row[-len(GROUPS) :].any()


def test_english_text_has_no_groups_of_words() -> None:
    texts = build_arena(0, 4, 3).votes.pairs.responses.to_pylist()
    rows = StyleEncoder().encode(["q"] * len(texts), texts, 64)
    assert not rows[:, -len(GROUPS) :].any()
    assert rows[:, ENGLISH].any(axis=1).all()
    assert {FEATURES[row].name for row in ENGLISH} >= {"article", "hedge", "opens_as_ai", "ends_with_offer"}


@pytest.mark.parametrize("language", WORDS)
def test_a_language_is_described_like_english(language: str) -> None:
    texts = build_arena(0, 6, 3).votes.pairs.responses.to_pylist()[:12]
    names = StyleEncoder.feature_names
    english, other = (
        np.expm1(StyleEncoder().encode(["q"] * len(texts), each, 64).mean(axis=0))
        for each in (texts, [translate(text, language) for text in texts])
    )
    words, length = names.index("words_per_sentence"), names.index("log_characters_per_word")
    assert 0.5 < other[words] / english[words] < 3
    assert 1 < other[length] < 14


def test_tokens_are_counted_as_a_tokenizer_would() -> None:
    with pytest.raises(RefusalError, match="tokens"):
        check_tokens(["人工智能正在改变生活" * 20], 100)
    with pytest.raises(RefusalError, match="tokens"):
        check_tokens(["x" * 1000], 200)
    check_tokens(["word " * 100], 130)
