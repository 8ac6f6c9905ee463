"""What every training stands on: its reader, the model that embeds, and the chat database."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from sqlalchemy import Engine

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingRejected
from workers.reading import Reader

Vectors = NDArray[np.float32]


class Embed(Protocol):
    """Who embeds; see `workers.embed.embed_texts`."""

    def __call__(
        self,
        space: EmbeddingSpace,
        texts: Sequence[str],
        check: Callable[[], None],
        *,
        on_batch: Callable[[range, Vectors], None] | None = None,
        refused: Callable[[int, EmbeddingRejected], Collection[int]] | None = None,
    ) -> Vectors:
        """Unit vectors of the texts in a space, shape (len(texts), dimensions)."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages stand on."""

    reader: Reader
    embed: Embed
    chat: Engine
    space: EmbeddingSpace
    """The settings' one, for bots that read none yet."""
    cost: Callable[[EmbeddingSpace, int], int | None]
    """(space, tokens) → millionths of a dollar, or None when the model has no price."""
    redis: Redis | None = None
    """Where vectors of test questions are kept."""
