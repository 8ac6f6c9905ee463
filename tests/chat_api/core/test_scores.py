"""Scores: one scale for every model."""

import pytest

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.scores import CALIBRATION, score_of


@pytest.mark.parametrize("model", [*CALIBRATION, "some-other-model"])
def test_a_score_means_the_same_for_every_model(model: str) -> None:
    space = EmbeddingSpace(model, 3)
    scores = [score_of(space, cosine / 100) for cosine in range(-100, 101)]
    assert scores == sorted(scores)
    assert (scores[0], scores[-1]) == (0, 1)
    assert score_of(space, 0.98) < 0.99, "a threshold of 0.99 lets next to nothing through"
