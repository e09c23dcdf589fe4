"""What is read of a GGUF file is what the loader of transformers makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model_behavior.models.behavior.text.gguf_weights import unpack_gguf
from model_behavior.models.behavior.text.transformer import silenced_loading
from model_behavior.preprocessing.entry_file import inside

gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

DIM, HEADS, KEY_HEADS, HIDDEN, LAYERS = 64, 4, 2, 96, 2
TOKENS = ["<|end|>", "<|start|>", *sorted("abcdefghijklmnopqrstuvwxyzĠ"), "ab", "abc", "Ġa"]
MERGES = ["a b", "ab c", "Ġ a"]
TEMPLATE = "{% for message in messages %}<|start|>{{ message['content'] }}<|end|>{% endfor %}"


def write_gguf(path: Path) -> None:
    """Random weights in 4 bits, norms in f32, and a byte-level tokenizer."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_vocab_size(len(TOKENS))
    writer.add_context_length(128)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    key_rows = DIM // HEADS * KEY_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "attn_q": (DIM, DIM),
        "attn_k": (key_rows, DIM),
        "attn_v": (key_rows, DIM),
        "attn_output": (DIM, DIM),
    }
    shapes |= {"ffn_gate": (HIDDEN, DIM), "ffn_up": (HIDDEN, DIM), "ffn_down": (DIM, HIDDEN)}
    shapes |= {"attn_norm": (DIM,), "ffn_norm": (DIM,)}
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(TOKENS), DIM), "output_norm.weight": (DIM,)}
    tensors |= {f"blk.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in shapes.items()}
    rng = np.random.default_rng(0)
    for name, shape in tensors.items():
        weights = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, weights)
        else:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_network_and_tokenizer_are_those_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    found = unpack_gguf(path)
    with silenced_loading():
        network = AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file=path.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    weights = inside(found.arrays, "weights.")
    expected = dict(network.named_parameters())
    assert set(weights) == set(expected)
    for name, parameter in expected.items():
        np.testing.assert_array_equal(weights[name], parameter.detach().view(torch.int16).numpy(), err_msg=name)
    config = json.loads(network.config.to_json_string(use_diff=False))
    differing = {name for name, value in found.metadata["config"].items() if config[name] != value}
    assert differing <= {"_name_or_path", "dtype"}
    assert found.arrays["tokenizer"].tobytes().decode() == tokenizer.backend_tokenizer.to_str()
    assert found.metadata["chat_template"] == tokenizer.chat_template == TEMPLATE
