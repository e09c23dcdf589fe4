from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.data import self_naming
from model_behavior.data.self_naming import STEMS, mask_self_naming

RESPONSES = Path(__file__).parents[2].parent / "shared" / "data" / "responses.parquet"
NAMING = [
    ("I'm Claude, made by Anthropic.", "I'm [MODEL], made by [MAKER]."),
    (
        "As an AI language model developed by OpenAI, I can't compare Google with Bing.",
        "As an AI language model developed by [MAKER], I can't compare Google with Bing.",
    ),
    (
        "My name is Vicuna, and I'm a language model trained by researchers from Large Model Systems Organization "
        "(LMSYS).",
        "My name is [MODEL], and I'm a language model trained by researchers from [MAKER].",
    ),
    ("Hi! I am ChatGPT.", "Hi! I am [MODEL]."),
    ("I’m GPT-4, a model by OpenAI", "I’m [MODEL], a model by [MAKER]"),
    ("Als KI-Modell von OpenAI kann ich das nicht.", "Als KI-Modell von [MAKER] kann ich das nicht."),
    ("Ich bin Claude.", "Ich bin [MODEL]."),
    (
        "Je suis ChatGPT, un modèle de langage développé par OpenAI.",
        "Je suis [MODEL], un modèle de langage développé par [MAKER].",
    ),
    ("Soy un modelo de lenguaje desarrollado por OpenAI.", "Soy un modelo de lenguaje desarrollado por [MAKER]."),
    ("我是由OpenAI开发的语言模型", "我是由[MAKER]开发的语言模型"),
    ("I am OpenAI's language model.", "I am [MAKER]'s language model."),
    (
        "I am Foo-7B, a large language model created by Bar Labs.",
        "I am [MODEL], a large language model created by [MAKER].",
    ),
    ("No, I am an AI assistant created by Jina AI", "No, I am an AI assistant created by [MAKER]"),
    ("As an AI developed by 01.AI, I agree.", "As an AI developed by [MAKER], I agree."),
    ("My creators at Anthropic say so.", "My creators at [MAKER] say so."),
    ("Yes: OpenAI created me.", "Yes: [MAKER] created me."),
    ("I am based on OpenAI's GPT-4 architecture.", "I am based on [MAKER]'s [MODEL] architecture."),
    ("As ChatGPT, I think so.", "As [MODEL], I think so."),
]

CONTENT = [
    "Llamas live in the Andes, and I'm fond of llamas.",
    "I'm reading about Claude Monet, the painter.",
    "I am Claude Monet, painter of light.",
    "ChatGPT is a language model developed by OpenAI.",
    "As an AI language model, I can tell you that GPT-4 was developed by OpenAI.",
    "As an AI language model, I don't know Google's stock price.",
    "I am writing a program that uses the OpenAI API.",
    "I'm an engineer using an AI model trained by Google.",
    "I'm glad you asked about ChatGPT, a language model developed by OpenAI.",
    "While I am a powerful tool, I am not as advanced as ChatGPT.",
    "I was made in Paris by Frank Wright.",
    "As an AI assistant developed by a different company, my answers differ.",
    "I am a Gemini and my moon is in Leo.",
    "Als Freunde von Google sehen wir das anders.",
    "I was born in 1990. OpenAI was founded in 2015.",
]


@pytest.mark.parametrize(("text", "masked"), NAMING, ids=[text[:30] for text, _ in NAMING])
def test_self_naming_is_masked(text: str, masked: str) -> None:
    assert mask_self_naming([text]) == ([masked], 1)
    assert mask_self_naming([masked]) == ([masked], 0)


@pytest.mark.parametrize("text", CONTENT, ids=[text[:30] for text in CONTENT])
def test_content_stays(text: str) -> None:
    assert mask_self_naming([text]) == ([text], 0)


def test_only_the_naming_changes_in_a_longer_text() -> None:
    text = "Here is the plan:\n1. Ask Google.\n\nI am Claude, made by Anthropic.\n\tEnd  "
    masked = "Here is the plan:\n1. Ask Google.\n\nI am [MODEL], made by [MAKER].\n\tEnd  "
    assert mask_self_naming([text, "", "plain"]) == ([masked, "", "plain"], 1)


PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "I am",
                "I'm",
                "I was",
                "As an",
                "as",
                "my name is",
                "call me",
                "a",
                "an",
                "the",
                "and",
                "by",
                "from",
                "of",
            ),
            *(
                "AI",
                "language model",
                "assistant",
                "created",
                "trained",
                "developed",
                "researchers",
                "team",
                "me",
                "my",
            ),
            *(
                "Claude",
                "ChatGPT",
                "GPT-4",
                "Llama 2",
                "OpenAI",
                "Anthropic",
                "Google",
                "Acme Labs",
                "(LMSYS)",
                "based on",
            ),
            *(
                "[MODEL]",
                "[MAKER]",
                ",",
                ".",
                "\n",
                "'s",
                "named",
                "called",
                "Bob",
                "I",
                "**",
                '"',
                "我是",
                "开发",
                "Ich bin",
            ),
        ]
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.sampled_from([" ", ""]))
def test_masking_is_idempotent(pieces: list[str], joint: str) -> None:
    once, _ = mask_self_naming([joint.join(pieces)])
    assert mask_self_naming(once) == (once, 0)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_can_be_masked(text: str) -> None:
    once, _ = mask_self_naming([text])
    assert mask_self_naming(once) == (once, 0)


@pytest.mark.parametrize(
    "text", ["I am a " + "good " * 4000 + "language model by OpenAI", "I am " * 5000 + " ai by openai"]
)
def test_long_lines_take_no_time(text: str) -> None:
    start = time.process_time()
    mask_self_naming([text])
    assert time.process_time() - start < 5


def test_stems_are_lower_case() -> None:
    assert all(stem == stem.lower() for stem in STEMS)


def mask_until_nothing_changes(text: str) -> str:
    """What masking means: all patterns, again and again, on the whole line."""
    while True:
        new = text
        for pattern in self_naming._PATTERNS:
            new = pattern.sub(self_naming._replace, new)
        if new == text:
            return text
        text = new


@settings(max_examples=300, deadline=None)
@given(PIECES, st.sampled_from([" ", ""]))
def test_the_bound_on_runs_changes_no_ordinary_text(pieces: list[str], joint: str) -> None:
    (line,) = joint.join(pieces).replace("\n", " ").split("\n")
    assert self_naming._mask_line(line) == mask_until_nothing_changes(line)


@pytest.mark.skipif(not RESPONSES.exists(), reason="no real answers here")
def test_the_bound_on_runs_changes_no_real_answer() -> None:
    answers = pq.read_table(RESPONSES, columns=["response"])["response"].slice(0, 4000).to_pylist()
    lines = [
        line for text in answers for line in text.split("\n") if any(cue in line for cue in ("I am", "I'm", "As a"))
    ]
    assert len(lines) > 50
    assert [self_naming._mask_line(line) for line in lines] == [mask_until_nothing_changes(line) for line in lines]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "I was trained by OpenAI" + ", Google" * n,
        lambda n: "I am " + "A-" * n + "! an AI",
        lambda n: "I am Claude made by Google and called " * n,
        lambda n: "as an AI " * n + "by Google",
        lambda n: "I am an " + "a-'" * n,
        lambda n: "I am" + " " * n + "a" + " " * n + "language model",
    ],
)
def test_masking_takes_time_in_proportion_to_the_text(make: Callable[[int], str]) -> None:
    def seconds(n: int) -> float:
        started = time.process_time()
        mask_self_naming([make(n)])
        return time.process_time() - started

    assert seconds(4000) < 8 * min(seconds(1000), seconds(1000)) + 0.05
