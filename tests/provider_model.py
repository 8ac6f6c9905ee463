"""The loopback provider's models: embeddings from hashed words, so that texts sharing words are near, and quoted answers."""

import re
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

USUAL_MODEL = "text-embedding-3-small"
FEATURES = 12
"""Places that one word marks in a vector: two of its own, the rest for its first trigrams."""
TRIGRAM_WEIGHT = 0.6
VOCABULARY_LIMIT = 500_000
NOTHING_QUOTED = "I can only answer from the passages that I was given."
_fenced = re.compile(
    r"<(?:passage|source|document)\b[^>]*>(?P<tagged>.*?)</(?:passage|source|document)\b"
    r"|^(?P<ticks>`{3,})[^\n]*\n(?P<ticked>.*?)^(?P=ticks)",
    re.DOTALL | re.MULTILINE,
)
_first_sentence = re.compile(r"\S.*?(?:[.!?。！？](?=\s|$)|(?=\n)|$)", re.DOTALL)
_words = re.compile(r"\w+").findall


class HashedEmbeddings:
    """Texts to unit vectors. Its only state is a memory of hashed words, so the same text always gives the same vector."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._hashes = np.zeros((1024, FEATURES), np.uint32)
        self._weights = np.zeros((1024, FEATURES), np.float32)

    def embed(self, texts: Sequence[str], dimensions: int, model: str = USUAL_MODEL) -> NDArray[np.float32]:
        """Unit vectors of shape (len(texts), dimensions); a text without words gets the first axis.

        Vectors of different models have nothing to do with each other.
        """
        if len(self._ids) > VOCABULARY_LIMIT:
            self._ids.clear()
        words = [self._ids_of(text) for text in texts]
        ids = np.fromiter(chain.from_iterable(words), np.int64)
        rows = np.repeat(np.arange(len(texts)), [len(found) for found in words])
        turned = self._hashes[ids] ^ np.uint32(zlib.crc32(model.encode()) ^ zlib.crc32(USUAL_MODEL.encode()))
        places = rows[:, None] * dimensions + turned % np.uint32(dimensions)
        flat: NDArray[np.float64] = np.bincount(
            places.ravel(), self._weights[ids].ravel(), len(texts) * dimensions
        ).astype(np.float64, copy=False)
        return _unit(flat.reshape(len(texts), dimensions))

    def _ids_of(self, text: str) -> list[int]:
        found = _words(text.lower())
        try:
            return [self._ids[word] for word in found]
        except KeyError:
            return [self._id_of(word) for word in found]

    def _id_of(self, word: str) -> int:
        if word in self._ids:
            return self._ids[word]
        new = len(self._ids)
        if new == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._weights = np.concatenate([self._weights, np.zeros_like(self._weights)])
        self._hashes[new], self._weights[new] = _features(word)
        self._ids[word] = new
        return new


def _features(word: str) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """The hashes of a word and their signed weights; short words, which are mostly the common ones, weigh little."""
    framed = f"<{word}>"
    trigrams = [framed[at : at + 3] for at in range(min(len(framed) - 2, FEATURES - 2))]
    features = [word, f"{word}!", *trigrams]
    hashes: NDArray[np.uint32] = np.zeros(FEATURES, np.uint32)
    weights: NDArray[np.float32] = np.zeros(FEATURES, np.float32)
    hashes[: len(features)] = [zlib.crc32(feature.encode("utf-8", "surrogatepass")) for feature in features]
    weights[:2], weights[2 : len(features)] = 1, TRIGRAM_WEIGHT
    weights *= min(1, (len(word) / 5) ** 2)
    weights[hashes & 1 == 0] *= -1
    hashes >>= 1
    return hashes, weights


def _unit(sums: NDArray[np.float64]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
    sums[lengths == 0, 0] = 1
    return (sums / np.where(lengths == 0, 1, lengths)[:, None]).astype(np.float32)


def derive_answer(prompt: Iterable[str]) -> str:
    """The first sentence of the first fenced passage with ` [1]`, or a fixed sentence.

    A passage is fenced by <passage>, <source> or <document> tags with any attributes, or by three backticks or more.
    """
    for text in prompt:
        if fenced := _fenced.search(text):
            sentence = _first_sentence.search(fenced["tagged"] or fenced["ticked"] or "")
            if sentence:
                return f"{sentence[0].strip()} [1]"
    return NOTHING_QUOTED


def count_tokens(text: str) -> int:
    """A quarter of the UTF-8 bytes, rounded up: what this provider bills."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)
