from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_behavior.data.canonical_text import (
    canonical_prompt,
    canonical_response,
    canonicalise_responses,
    describe_changes,
    is_empty_response,
)
from model_behavior.data.split import hash_prompts, normalise_prompt
from model_behavior.data.text_columns import is_blank

PLAIN = (
    'Sure! It\'s a "short" list - of two:\n\n- café, done twice...\n- and  naïve code:\n\n'
    "    def f(x):\n        return x -- 1\n\nThat's all. 你好，世界。"
)

UNSEEN: dict[str, Callable[[str], str]] = {
    "line feed at the end": lambda text: text + "\n",
    "white space around": lambda text: " \t\n" + text + "\n \t\n\n",
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "old carriage returns": lambda text: text.replace("\n", "\r"),
    "line separators": lambda text: text.replace("\n", "\u2028"),
    "form feed": lambda text: text + "\x0c",
    "spaces at line ends": lambda text: text.replace("\n", "  \n"),
    "tabs at line ends": lambda text: text.replace("\n", "\t\n"),
    "more blank lines": lambda text: text.replace("\n\n", "\n\n\n \n"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "thin spaces": lambda text: text.replace(" ", "\u2009"),
    "ideographic spaces": lambda text: text.replace(" ", "\u3000"),
    "tabs for indentation": lambda text: text.replace("    ", "\t"),
    "two spaces after a sentence": lambda text: text.replace("! ", "!  "),
    "curly apostrophes": lambda text: text.replace("'", "\u2019"),
    "prime": lambda text: text.replace("'", "\u2032"),
    "curly quotes": lambda text: text.replace(' "', " \u201c").replace('" ', "\u201d "),
    "full-width quotes": lambda text: text.replace('"', "\uff02"),
    "em dashes": lambda text: text.replace(" - ", " \u2014 "),
    "en dashes": lambda text: text.replace(" - ", " \u2013 "),
    "typed dashes": lambda text: text.replace("list - of", "list -- of"),
    "no-break hyphens": lambda text: text.replace("-", "\u2011"),
    "minus signs": lambda text: text.replace("-", "\u2212"),
    "one ellipsis": lambda text: text.replace("...", "\u2026"),
    "decomposed letters": lambda text: unicodedata.normalize("NFD", text),
    "byte-order mark": lambda text: "\ufeff" + text,
    "zero-width spaces": lambda text: text.replace(" ", "\u200b ").replace("o", "o\u200b"),
    "joiners": lambda text: text.replace("o", "o\u200d").replace("i", "i\u200c"),
    "soft hyphens": lambda text: text.replace("twi", "twi\u00ad"),
    "marks of direction": lambda text: "\u200e" + text + "\u200f",
    "variation selectors": lambda text: text.replace("S", "S\ufe0e"),
    "control characters": lambda text: text.replace(" a ", " \x00a\x07 ") + "\x1b[0m",
    "entities": lambda text: text.replace('"', "&quot;").replace("'", "&#39;"),
    "entities twice": lambda text: text.replace('"', "&amp;quot;"),
    "end of sequence": lambda text: text + "</s>",
    "begin and end of sequence": lambda text: "<s> " + text + " </s></s>",
    "ChatML": lambda text: "<|im_start|>assistant\n" + text + "<|im_end|>\n",
    "Llama 3": lambda text: "<|start_header_id|>assistant<|end_header_id|>\n\n" + text + "<|eot_id|>",
    "Llama 2": lambda text: "[/INST] " + text + " [INST]",
    "Gemma": lambda text: "<start_of_turn>model\n" + text + "<end_of_turn>\n<eos>",
    "DeepSeek": lambda text: "<｜Assistant｜>" + text + "<｜end▁of▁sentence｜>",
    "GPT-2": lambda text: text + "<|endoftext|>",
    "Zephyr": lambda text: "<|assistant|>\n" + text + "</s>\n<|user|>\n",
    "Harmony": lambda text: (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>" + text
    ),
    "empty reasoning": lambda text: "<think></think>" + text,
    "blank reasoning": lambda text: "<think>\n\n</think>\n\n" + text,
    "reasoning": lambda text: "<think>\nThe user wants a list.\n</think>\n\n" + text,
    "reasoning opened by the template": lambda text: "The user wants a list.\n</think>\n\n" + text,
    "other reasoning tags": lambda text: "<reasoning>Why?</reasoning> <thinking></thinking>" + text,
    "Magistral": lambda text: "[THINK]Why?[/THINK]" + text,
    "Kimi": lambda text: "◁think▷Why?◁/think▷" + text,
    "role": lambda text: "Assistant: " + text,
    "shouted role": lambda text: "ASSISTANT:\n" + text,
    "bold role": lambda text: "**Assistant:** " + text,
    "Alpaca": lambda text: "### Response:\n" + text + "\n\n### Instruction:",
    "next turn": lambda text: text + "\n\nUser:",
    "fence around everything": lambda text: "```markdown\n" + text + "\n```",
    "answer tags": lambda text: "<answer>" + text + "</answer>",
}

SEEN = [
    ("It's done.", "It is done."),
    ("One, two.", "One two."),
    ("# Title\n\ntext", "Title\n\ntext"),
    ("if x:\n    y()", "if x:\ny()"),
    ("a\nb", "a b"),
    ("a\n\nb", "a\nb"),
    ("Use <b>bold</b>.", "Use bold."),
    ("run --all", "run -all"),
    ("日本", "日 本"),
    ("你好，世界。", "你好,世界."),
    ("می\u200cخواهم", "میخواهم"),
    ("\U0001f468\u200d\U0001f469", "\U0001f468\U0001f469"),
    ("The user: a person.", "A person."),
    ("The model thinks: <think> is a tag.", "The model thinks: is a tag."),
    ("```python\nx = 1\n```", "x = 1"),
    ("Well!", "Well."),
]

PIECES = st.sampled_from(
    [
        *"aZ9 \n\r\t.,;:!?'\"-<>|[]/&#*()`",
        *"\u2018\u201d\u2014\u2026\u00a0\u200b\u200d\u00ad\ufeff\u0301\u2028\x0c\x1b你。é\u0e01\U0001f468",
        *("<think>", "</think>", "</s>", "<|im_end|>", "<|", "|>", "[INST]", "Assistant:", "User:", "&amp;", "&lt;"),
        *("quot;", "```markdown\n", "```", "--", "###", "<|channel|>analysis", "<|end|>", "◁think▷", "<answer>"),
    ]
)


@pytest.mark.parametrize("name", UNSEEN)
def test_what_nobody_sees_is_the_same_text(name: str) -> None:
    changed = UNSEEN[name](PLAIN)
    assert changed != PLAIN
    assert canonical_response(changed) == canonical_response(PLAIN)


@given(st.lists(st.sampled_from(sorted(UNSEEN)), min_size=2, max_size=3, unique=True))
def test_several_unseen_changes_are_the_same_text_too(names: list[str]) -> None:
    changed = 'It\'s "so" - done...'
    for name in names:
        changed = UNSEEN[name](changed)
    assert canonical_response(changed) == 'It\'s "so" - done...'


@pytest.mark.parametrize(("one", "other"), SEEN)
def test_what_a_person_sees_stays_different(one: str, other: str) -> None:
    assert canonical_response(one) != canonical_response(other)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_canonical_texts_stay_as_they_are(text: str) -> None:
    once = canonical_response(text)
    assert canonical_response(once) == once
    assert canonical_prompt(canonical_prompt(text)) == canonical_prompt(text)
    assert is_empty_response(text) == (not once)


@given(st.text(alphabet="abc XYZ.,\n", max_size=40))
def test_a_plain_text_changes_in_its_white_space_alone(text: str) -> None:
    assert canonical_response(text).split() == text.split()


def test_what_was_changed_is_counted_by_kind() -> None:
    responses = [
        "plain",
        "</s>",
        "it\u2019s \u2014 so\u2026\r\n",
        "<think>hm</think>a",
        "<think></think>a",
        "AI: a\u00a0b\u200b",
    ]
    texts, changes = canonicalise_responses(responses)
    assert texts == ["plain", "", "it's - so...", "a", "a", "a b"]
    assert changes == {
        "dashes": 1,
        "ellipses": 1,
        "empty reasoning tags": 1,
        "invisible characters": 1,
        "line ends": 1,
        "quotation marks": 1,
        "reasoning": 1,
        "role prefixes": 1,
        "template tokens": 1,
        "white space": 2,
    }
    assert describe_changes(changes).startswith("white space in 2, dashes in 1, ")
    assert describe_changes({}) == ""


def test_a_response_of_tokens_alone_is_blank() -> None:
    column = pa.array(["</s>", "<think>hm</think>", "\u200b \n", "Assistant:\n", "a", ".", ""], pa.large_string())
    assert is_blank(column).tolist() == [True, True, True, True, False, False, True]


def test_a_prompt_has_one_key_however_it_is_wrapped() -> None:
    wrapped = [
        "What\u2019s \u201cthis\u201d \u2014 a test?",
        'Human: What\'s "this" - a test?\n\nAssistant:',
        '<|im_start|>user\nWhat\'s "this" - a test?<|im_end|>\n<|im_start|>assistant\n',
        ' what\'s  "THIS" \u2013 a test?\r\n',
    ]
    assert len({normalise_prompt(prompt) for prompt in wrapped}) == 1
    assert len(set(hash_prompts(wrapped).tolist())) == 1


@pytest.mark.parametrize(
    "piece",
    ["<think>", "</think>", "<think></think>", "</s>", "<|im_end|>", " ", "\n ", "&amp;", "--", "\u200d", "x\t"],
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    def seconds(text: str) -> float:
        started = time.process_time()
        canonical_response(text)
        return time.process_time() - started

    short, long = (min(seconds("x" + piece * n + "x") for _ in range(3)) for n in (4_000, 32_000))
    assert long < 40 * short + 0.05  # eight times the text; quadratic would be 64 times
