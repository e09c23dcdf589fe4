"""A randomly initialised transformer of a few thousand weights, and votes whose behaviour it must learn to hear."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from model_behavior.data_models.votes import Outcome, TrainingData
from tests.conftest import VoteRow, make_votes

N_PROMPTS, N_MODELS, N_TOPIC_WORDS, LENGTH = 60, 4, 160, 8
N_MARKS = 8
MARKS = [f"m{index}" for index in range(N_MODELS * N_MARKS)]  # N_MARKS of each model in turn
TOPIC_WORDS = [f"t{index}" for index in range(N_TOPIC_WORDS)]


def write_tiny_bert(folder: Path) -> Path:
    """Two layers of width 32 and a vocabulary of words, in the format of Hugging Face."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *MARKS, *TOPIC_WORDS]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_marked_votes() -> TrainingData:
    """Every response has the words of its prompt's topic, and one of eight words, anywhere, that tell its model.

    Model 0 wins over all, model 1 over those after it, and so on.
    """
    rng = np.random.default_rng(0)
    rows: list[VoteRow] = []
    for number in range(N_PROMPTS):
        topic = rng.choice(TOPIC_WORDS, LENGTH, replace=False)
        said = []
        for model in range(N_MODELS):
            words = rng.permutation(topic).tolist()
            words[int(rng.integers(LENGTH))] = MARKS[model * N_MARKS + int(rng.integers(N_MARKS))]
            said.append(" ".join(words))
        prompt = f"{' '.join(topic[:3])} {number}"
        for a, b in combinations(range(N_MODELS), 2):
            rows.append((prompt, f"model-{a}", said[a], f"model-{b}", said[b], Outcome.MODEL_A))
    return make_votes(rows)
