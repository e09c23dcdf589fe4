"""Whose answers a response resembles: against a plain derivation, and what must hold whatever the texts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from model_behavior.catalog.agreement import Answers, agree
from model_behavior.catalog.samples import pack_words
from model_behavior.data_models.scoring_types import Agreement

PEERS = ("llama-2-7b", "llama-2-13b", "claude-2", "gpt-4", "mistral-7b", "yi-34b", "qwen-7b")
VOCABULARY = [f"word{index}" for index in range(40)]
PENALTY = 2.0


def write(rng: np.random.Generator, n: int) -> list[str]:
    return [" ".join(rng.choice(VOCABULARY, size=rng.integers(8, 30))) for _ in range(n)]


def answers(names: Sequence[str], owner: Sequence[int], keys: Sequence[int], texts: Sequence[str]) -> Answers:
    return Answers(tuple(names), np.array(owner), np.array(keys, dtype=np.uint64), pack_words(texts))


def plain_weights(asking: str, others: Sequence[str], allowed: Sequence[bool], corpus: Sequence[str]) -> np.ndarray:
    """w(x) for all words of one response, from the equations, with explicit features."""
    frequency = Counter(word for text in corpus for word in set(text.split()))
    used = Counter(word for text in others for word in set(text.split()))
    telling = sorted(word for word, n in used.items() if 1 < n < len(others))

    def vector(text: str) -> np.ndarray:
        counts = Counter(text.split())
        row = np.zeros(len(telling))
        for place, word in enumerate(telling):
            if counts[word]:
                idf = np.log((1 + len(corpus)) / (1 + frequency[word])) + 1
                row[place] = (1 + np.log(counts[word])) * idf
        return row / np.linalg.norm(row)

    rows = np.array([vector(text) for text, is_peer in zip(others, allowed, strict=True) if is_peer])
    centre = rows.mean(axis=0)
    scale = np.square(rows - centre).sum(axis=1).mean()
    x, peers = (vector(asking) - centre) / np.sqrt(scale), (rows - centre) / np.sqrt(scale)
    inverse = np.linalg.inv(peers @ peers.T + PENALTY * np.eye(len(peers)))
    weights = x @ peers.T @ inverse @ (np.eye(len(peers)) - 1 / len(peers))
    full = np.zeros(len(others))
    full[list(allowed)] = weights
    return full


@pytest.fixture(scope="module")
def peers() -> tuple[Answers, list[str]]:
    rng = np.random.default_rng(1)
    texts = write(rng, 3 * len(PEERS))
    owner = [index % len(PEERS) for index in range(len(texts))]
    return answers(PEERS, owner, [1 + index // len(PEERS) for index in range(len(texts))], texts), texts


def dense(agreement: Agreement, view: int = 0) -> np.ndarray:
    return np.asarray(agreement.weights[view].toarray())


def test_weights_are_those_of_the_equations(peers: tuple[Answers, list[str]]) -> None:
    held, texts = peers
    new = write(np.random.default_rng(2), 3)
    found = agree(answers(("new",), [0, 0, 0], [1, 3, 9], new), held, np.zeros(1, bool))
    n = len(PEERS)
    for row, prompt in ((0, 0), (1, 2)):
        others = texts[prompt * n : (prompt + 1) * n]
        assert np.allclose(dense(found)[row], plain_weights(new[row], others, [True] * n, texts), atol=1e-6)
    assert found.is_shared.tolist() == [True, True, False]
    assert np.allclose(found.means.toarray(), np.array([1 / n, 1 / n, 0])[:, None])
    assert not dense(found)[2].any()


def test_known_models_are_read_without_their_family(peers: tuple[Answers, list[str]]) -> None:
    held, texts = peers
    found = agree(held, held, np.ones(len(PEERS), bool))
    n = len(PEERS)
    llama = [name.startswith("llama") for name in PEERS]
    for row, owner in enumerate(found.owner.tolist()):
        family = llama if llama[owner] else [name == PEERS[owner] for name in PEERS]
        prompt = row // n
        expected = plain_weights(texts[row], texts[prompt * n : prompt * n + n], [not own for own in family], texts)
        assert np.allclose(dense(found)[row], expected, atol=1e-6)


def test_a_model_is_no_peer_of_itself_when_it_is_enrolled_again(peers: tuple[Answers, list[str]]) -> None:
    held, texts = peers
    again = answers(("llama-2-7b",), [0], [1], [texts[0]])
    weights = dense(agree(again, held, np.zeros(1, bool)))[0]
    assert weights[PEERS.index("llama-2-7b")] == 0
    assert weights[PEERS.index("llama-2-13b")] != 0


def test_the_rating_that_a_copy_of_a_peer_speaks_for_is_nearest_to_that_peers(peers: tuple[Answers, list[str]]) -> None:
    held, texts = peers
    copies = answers(("new",), [0] * len(texts), held.keys.tolist(), texts)
    found = agree(copies, held, np.zeros(1, bool))
    assert (dense(found).argmax(axis=1) == held.owner).all()
    assert np.allclose(dense(found).sum(axis=1), 0, atol=1e-6), "a rating that all share says nothing"


def test_the_ending_is_a_view_of_its_own() -> None:
    rng = np.random.default_rng(3)
    body = write(rng, 7)
    texts = [f"{text} so the answer of it is {'right' if index < 4 else 'wrong'}" for index, text in enumerate(body)]
    held = answers(PEERS, range(7), [5] * 7, texts)
    new = answers(("new",), [0], [5], [f"{write(rng, 1)[0]} so the answer of it is right"])
    spoken = agree(new, held, np.zeros(1, bool)).ratings(np.array([1.0] * 4 + [-1.0] * 3))
    assert spoken.shape == (1, 2)
    assert spoken[0, 1] > 0.5


def test_few_or_equal_peers_say_nothing() -> None:
    texts = write(np.random.default_rng(4), 3)
    few = answers(PEERS[:1], [0], [5], texts[:1])
    alike = answers(PEERS, range(7), [5] * 7, [texts[0]] * 7)
    new = answers(("new",), [0], [5], [texts[1]])
    for held in (few, alike):
        assert not agree(new, held, np.zeros(1, bool)).is_shared.any()


def test_two_peers_are_enough() -> None:
    texts = write(np.random.default_rng(4), 2)
    held = answers(PEERS[:2], range(2), [5] * 2, texts)
    for copied in range(2):
        told = agree(answers(("new",), [0], [5], [texts[copied]]), held, np.zeros(1, bool))
        assert told.is_shared.all()
        weights = told.weights[0].toarray()[0]
        assert weights[copied] > 0.05 and weights.sum() == pytest.approx(0, abs=1e-6)


def test_the_order_of_responses_does_not_matter(peers: tuple[Answers, list[str]]) -> None:
    held, _ = peers
    order = np.random.default_rng(5).permutation(len(held.owner))
    mixed = Answers(held.names, held.owner[order], held.keys[order], held.words[order])
    known = np.ones(len(PEERS), bool)
    for view in range(2):
        expected = dense(agree(held, held, known), view)[order]
        assert np.allclose(dense(agree(mixed, mixed, known), view), expected, atol=1e-6)


def test_models_are_selected_with_their_responses(peers: tuple[Answers, list[str]]) -> None:
    held, _ = peers
    found = agree(held, held, np.ones(len(PEERS), bool))
    some = found.select(np.array([4, 1]))
    for place, model in enumerate((4, 1)):
        assert np.array_equal(dense(some)[some.owner == place], dense(found)[found.owner == model])
        assert some.means[some.owner == place].sum() == pytest.approx(3)
    assert len(some.owner) == 6
