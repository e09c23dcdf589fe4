"""Nearest names; families: every name of the three public vote files, and what a name cannot tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model_behavior.errors import UsageError
from model_behavior.names import draw_held_out, family_of, group_families, nearest, nearest_models

EXPECTED = {
    "votes_alpaca": {
        "alpaca": "alpaca-7b, alpaca-farm-ppo-human, alpaca-farm-ppo-sim-gpt4-20k",
        "baize": "baize-v2-13b",
        "causallm": "causallm-14b",
        "chatglm": "chatglm2-6b",
        "command": "cohere",
        "cut": "cut-13b",
        "davinci": "text_davinci_001, text_davinci_003",
        "evo": "evo-7b, evo-v2-7b",
        "fusechat": "FuseChat-Gemma-2-9B-Instruct, FuseChat-Llama-3.1-8B-Instruct, FuseChat-Llama-3.2-1B-Instruct, "
        "FuseChat-Llama-3.2-3B-Instruct, FuseChat-Qwen-2.5-7B-Instruct",
        "gemma": "gemma-7b-it",
        "ghost": "ghost-7b-alpha",
        "gpt-3.5": "gpt-3.5-turbo-0301",
        "gpt-4": "gpt4, gpt4_0314, gpt4_1106_preview",
        "guanaco": "guanaco-65b",
        "hermes": "OpenHermes-2.5-Mistral-7B, nous-hermes-13b",
        "humpback": "humpback-llama2-70b",
        "jina": "jina-chat",
        "llama": "llama-2-13b-chat-hf, llama-2-70b-chat-hf, llama-2-7b-chat-hf, llama-2-chat-7b-evol70k-neft",
        "lmcocktail": "LMCocktail-10.7B-v1",
        "minichat": "minichat-1.5-3b, minichat-3b",
        "minotaur": "minotaur-13b",
        "mistral": "Mistral-7B+RAHF-DUAL+LoRA, Mistral-7B-ReMax-v0.1, mistral-medium, mistral-orpo-beta",
        "oasst": "oasst-rlhf-llama-33b, oasst-sft-llama-33b, oasst-sft-pythia-12b",
        "platolm": "platolm-7b",
        "pythia": "pythia-12b-mix-sft",
        "qwen": "Qwen-14B-Chat",
        "tulu": "pairrm-tulu-2-13b, pairrm-tulu-2-70b",
        "vicuna": "vicuna-13b, vicuna-13b-v1.5, vicuna-13b-v1.5-togetherai, vicuna-7b, vicuna-7b-v1.3, vicuna-7b-v1.5",
        "wizardlm": "recycled-wizardlm-7b-v1.0, recycled-wizardlm-7b-v2.0, wizardlm-13b",
        "yi": "Yi-34B-Chat",
    },
    "votes_human": {
        "airoboros": "Airoboros L2 70B",
        "alpaca": "Alpaca (7B)",
        "bard": "bard",
        "chronos": "Chronos Hermes (13B)",
        "claude": "claude",
        "command": "command, command-light, command-nightly",
        "dolly": "Dolly v2 (12B), Dolly v2 (3B), Dolly v2 (7B)",
        "gpt-3.5": "GPT 3.5 Turbo, GPT 3.5 Turbo (16k), gpt35",
        "gpt-4": "GPT 4, gpt4",
        "gpt-neoxt": "GPT-NeoXT-Chat-Base (20B)",
        "guanaco": "guanaco-13b, guanaco-33b, guanaco-65b, guanaco-7b",
        "jurassic": "Jurassic 2 Light, Jurassic 2 Mid, Jurassic 2 Ultra",
        "koala": "Koala (13B)",
        "llama": "Code Llama Instruct (13B), Code Llama Instruct (34B), Code Llama Instruct (7B), LLaMA 2 SFT v10 "
        "(70B)",
        "mpt": "MPT-Chat (30B), MPT-Chat (7B)",
        "mythalion": "Mythalion 13B",
        "oasst": "Open-Assistant Pythia SFT-4 (12B), Open-Assistant StableLM SFT-7 (7B)",
        "platypus": "Platypus-2 Instruct (70B)",
        "pythia": "Pythia-Chat-Base (7B)",
        "qwen": "Qwen-Chat (7B)",
        "remm": "ReMM SLERP L2 13B",
        "starcoder": "StarCoderChat Alpha (16B)",
        "vicuna": "Vicuna v1.3 (13B), Vicuna v1.3 (7B), Vicuna v1.5 (13B), Vicuna-FastChat-T5 (3B), vicuna-13b",
        "weaver": "Weaver 12k",
    },
    "votes_graded": {
        "athene": "Athene-70B",
        "command": "command-r, command-r-plus",
        "deepseek": "DeepSeek-Coder-V2-0724, deepseek-chat, deepseek-coder, deepseek-v2-chat-0628, "
        "deepseek-v2-coder-0724, deepseek-v2.5-0908",
        "gemini": "gemini-1.5-flash, gemini-1.5-flash-exp-0827, gemini-1.5-pro, gemini-1.5-pro-exp-0801, "
        "gemini-1.5-pro-exp-0827",
        "gpt-3.5": "gpt-3.5-turbo-0125",
        "gpt-4": "chatgpt-4o-latest-24-09-07, gpt-4-0314, gpt-4-turbo-2024-04-09, gpt-4o-2024-05-13, "
        "gpt-4o-2024-08-06, gpt-4o-mini-2024-07-18",
        "grok": "grok-2-1212",
        "llama": "Llama-3.1-405B-Inst-fp8, Llama-3.1-405B-Inst@sambanova, Llama-3.1-405B-Instruct-Turbo, "
        "Meta-Llama-3-70B-Instruct, Meta-Llama-3-8B-Instruct, Meta-Llama-3.1-405B-Instruct@hyperbolic, "
        "Meta-Llama-3.1-70B-Instruct, Meta-Llama-3.1-8B-Instruct",
        "mistral": "Mixtral-8x7B-Instruct-v0.1",
        "o1": "o1-mini-2024-09-12, o1-preview-2024-09-12",
        "phi": "Phi-3-mini-4k-instruct, Phi-3.5-mini-instruct",
        "qwen": "Qwen2.5-32B-Instruct, Qwen2.5-3B-Instruct, Qwen2.5-72B-Instruct, Qwen2.5-7B-Instruct",
        "reka": "reka-core-20240501, reka-flash-20240226",
        "yi": "Yi-1.5-34B-Chat, Yi-1.5-9B-Chat, yi-large, yi-large-preview",
    },
}


@pytest.mark.parametrize("votes", EXPECTED)
def test_names_of_the_public_vote_files(votes: str) -> None:
    names = [name for members in EXPECTED[votes].values() for name in members.split(", ")]
    assert group_families(reversed(names)) == {
        family: tuple(members.split(", ")) for family, members in EXPECTED[votes].items()
    }


@pytest.mark.parametrize("votes", EXPECTED)
def test_the_lists_above_are_the_names_in_the_files(votes: str, real_data: Path) -> None:
    table = pq.read_table(real_data / f"{votes}.parquet", columns=["model_a", "model_b"])
    names = {name for column in table.columns for name in column.unique().to_pylist()}
    assert names == {name for members in EXPECTED[votes].values() for name in members.split(", ")}


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("llama", ["meta-llama/Llama-2-7b-chat-hf", "Meta-Llama-3-8B", "LLAMA3.1-70b-awq", "codellama-34b"]),
        ("gpt-4", ["gpt4", "gpt4_0314", "GPT 4", "GPT-4", "gpt-4o-2024-05-13", "openai/gpt-4.1-mini"]),
        ("gpt-3.5", ["gpt35", "gpt-3.5-turbo-16k", "GPT 3.5 Turbo", "ChatGPT-3.5"]),
        ("gpt-3", ["gpt-3", "gpt3"]),
        ("gpt-j", ["GPT-J-6B"]),
        ("gpt-oss", ["gpt-oss-20b", "gpt-oss-120b"]),
        ("wizardlm", ["recycled-wizardlm-7b-v1.0", "WizardLM-13B-V1.2", "wizard-13b"]),
        ("o1", ["o1", "o1-mini-2024-09-12"]),
    ],
)
def test_spellings_of_one_family(family: str, names: list[str]) -> None:
    assert {family_of(name) for name in names} == {family}


@pytest.mark.parametrize("name", ["7b", "chat", "v1.5", "GPT", "2024-05-13", "+", "🦙"])
def test_a_name_of_shared_words_alone_is_a_family_of_its_own(name: str) -> None:
    assert family_of(name) == name.casefold()


def test_overrides_hold_for_names_and_families_and_are_followed() -> None:
    overrides = {"pythia-12b-mix-sft": "oasst", "oasst": "open assistant"}
    names = ["pythia-12b-mix-sft", "oasst-sft-llama-33b", "Pythia-Chat-Base (7B)"]
    assert group_families(names, overrides) == {
        "open assistant": ("oasst-sft-llama-33b", "pythia-12b-mix-sft"),
        "pythia": ("Pythia-Chat-Base (7B)",),
    }
    assert family_of("oasst-sft-llama-33b", {"oasst": "oasst"}) == "oasst"


def test_errors() -> None:
    with pytest.raises(UsageError, match="form a cycle: llama -> alpaca -> llama"):
        family_of("llama-7b", {"llama": "alpaca", "alpaca": "llama"})
    with pytest.raises(UsageError, match="name is empty"):
        family_of("  ")


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


def test_the_nearest_names_by_hand() -> None:
    names = ("gpt-4o", "gpt-4", "GPT 3.5 Turbo", "claude", "llama_2_7b")
    # 2 M / T without case, spaces, hyphens and underscores: "gpt4" 2*4/8, "gpt4o" 2*4/9, "gpt3.5turbo" 2*3/15.
    assert nearest(names, "Gpt_4", 3) == ["gpt-4", "gpt-4o", "GPT 3.5 Turbo"]
    assert nearest(names, "gpt 35 turbo", 1) == ["GPT 3.5 Turbo"]
    assert nearest(names, "LLAMA-2 7B", 5, 1.0) == ["llama_2_7b"]
    assert nearest(names, "gpt4", 5, 0.88) == ["gpt-4o", "gpt-4"][::-1] and nearest(names, "gpt4", 5, 0.9) == ["gpt-4"]
    assert nearest(names, "", 5, 0.5) == [] and nearest((), "gpt4") == []
    assert nearest(("a-b", "A_b", "ab"), "a_B", 3) == ["A_b", "a-b", "ab"]  # alike, so the other characters decide
    assert nearest(("-", "_"), "_", 1) == ["_"]


def test_models_of_the_same_family_are_nearer() -> None:
    names = ("lima-7b", "llama-3-70b-chat-hf", "vicuna-7b")
    # "llama7b" has 5 characters in common with "lima7b", 2*5/13, and 7 with "llama370bchathf", 2*7/22 and 1/4.
    assert nearest(names, "llama-7b", 2) == ["lima-7b", "llama-3-70b-chat-hf"]
    assert nearest_models(names, "llama-7b", 2) == ["llama-3-70b-chat-hf", "lima-7b"]
    assert len(nearest_models(names, " ", 2)) == 2
