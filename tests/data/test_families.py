from __future__ import annotations

import numpy as np
import pytest

from model_behavior.data.families import draw_held_out, families_of, family_of


@pytest.mark.parametrize(
    ("family", "names"),
    {
        "vicuna": ["vicuna-13b", "vicuna-13b-v1.5-togetherai", "Vicuna v1.3 (7B)", "Vicuna-FastChat-T5 (3B)"],
        "wizardlm": ["wizardlm-13b", "recycled-wizardlm-7b-v1.0"],
        "gpt": ["gpt4", "gpt4_1106_preview", "gpt35", "GPT 3.5 Turbo (16k)", "chatgpt-4o-latest-24-09-07", "o1-mini"],
        "llama": [
            "llama-2-70b-chat-hf",
            "Meta-Llama-3.1-8B-Instruct",
            "Code Llama Instruct (34B)",
            "LLaMA 2 SFT v10 (70B)",
        ],
        "davinci": ["text_davinci_001", "text_davinci_003"],
        "fusechat": ["FuseChat-Gemma-2-9B-Instruct", "FuseChat-Llama-3.2-1B-Instruct"],
        "open-assistant": ["oasst-rlhf-llama-33b", "Open-Assistant Pythia SFT-4 (12B)"],
        "gpt-neox": ["GPT-NeoXT-Chat-Base (20B)"],
        "mistral": ["Mistral-7B-ReMax-v0.1", "Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B"],
        "command": ["command-r-plus", "command-light"],
        "deepseek": ["DeepSeek-Coder-V2-0724", "deepseek-v2.5-0908"],
        "qwen": ["Qwen2.5-72B-Instruct", "Qwen-14B-Chat"],
        "humpback": ["humpback-llama2-70b"],
        "hermes": ["nous-hermes-13b", "OpenHermes-2.5-Mistral-7B", "Chronos Hermes (13B)"],
    }.items(),
)
def test_siblings_share_a_family(family: str, names: list[str]) -> None:
    assert {name: family_of(name) for name in names} == dict.fromkeys(names, family)


def test_names_without_letters_are_their_own_family() -> None:
    assert family_of("4711") == "4711"
    assert family_of("Meta") == "meta"


def test_families_list_their_members_sorted() -> None:
    assert families_of(["vicuna-7b", "gpt4", "vicuna-13b"]) == {"gpt": ("gpt4",), "vicuna": ("vicuna-13b", "vicuna-7b")}


def test_held_out_are_whole_families_and_not_too_many() -> None:
    names = ["vicuna-7b", "vicuna-13b", "gpt4", "gpt35", "gpt-4o", "claude", "bard", "koala", "dolly", "yi-large"]
    drawn = set()
    for seed in range(20):
        held = draw_held_out(names, 0.3, np.random.default_rng(seed))
        drawn.add(held)
        assert 1 <= len(held) <= 3
        kept = {family_of(name) for name in names if name not in held}
        assert not kept & {family_of(name) for name in held}
    assert len(drawn) > 5
