"""What a passage is worth for a question, from 0 to 1: by its similarity and by its share of the question's words. Pure."""

import numpy as np

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.settings import LOCAL_MODEL
from chat_api.core.words import differ_in_language

# For each model, the cosine of a question and a passage that has nothing to do with it (score 0), and that from which on
# a passage is worth offering (score 0.3, the default threshold); a cosine of 1 is a score of 1. MiniLM's were measured
# on the sample company. The others are set low rather than high: a language model that gets a poor passage can still
# say that it does not know, while nobody can answer from one that was held back.
WORTHWHILE = 0.3
CALIBRATION = {
    LOCAL_MODEL: (0.10, 0.31),
    "text-embedding-3-small": (0.05, 0.20),
    "text-embedding-3-large": (0.05, 0.20),
    "text-embedding-ada-002": (0.68, 0.75),
}
UNKNOWN_MODEL = (0.0, 0.20)
ENGLISH_ALONE = {LOCAL_MODEL}
ENGLISH = "the of and to is are was with"
FOREIGN_LANGUAGE, FOREIGN_SCRIPT = 0.5, 0.05
"""What is left of a similarity of an English model's, where the question is in another language, or another script."""
# What a passage's share of the question's words adds to its score, as far as similarity has left it open. Up to 0.3 is
# what passages have that are beside the question. Measured on XQuAD and the sample company: tests/bench/retrieval.py.
COVERAGE, EVIDENCE = (0.0, 0.3, 1.0), (0.0, 0.1, 0.9)
CANDIDATES = 20
"""Passages of either kind that are looked at, at least."""
HITS = 50
"""Passages whose share of the question's words is looked at."""


def trust_in(space: EmbeddingSpace, question: str) -> float:
    """What similarities in this space are worth for this question: less where the model does not know its language."""
    if space.model not in ENGLISH_ALONE:
        return 1.0
    letters = [char for char in question if char.isalpha()]
    if sum(char > "\u024f" for char in letters) * 2 > len(letters):
        return FOREIGN_SCRIPT
    return FOREIGN_LANGUAGE if differ_in_language(question, ENGLISH) else 1.0


def fused(similarity: float, coverage: float) -> float:
    """The score of a passage, by its similarity's and by its share of the question's words; both 0 to 1."""
    return 1 - (1 - similarity) * (1 - float(np.interp(coverage, COVERAGE, EVIDENCE)))


def score_of(space: EmbeddingSpace, cosine: float) -> float:
    """A cosine similarity on the scale of 0 to 1 that means the same for every model: two straight lines."""
    unrelated, worthwhile = CALIBRATION.get(space.model, UNKNOWN_MODEL)
    return float(np.interp(cosine, [unrelated, worthwhile, 1.0], [0.0, WORTHWHILE, 1.0]))
