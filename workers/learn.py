"""What every training has in common: its collaborators, and vectors for what was read, each text paid for once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from sqlalchemy import Engine

from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import EmbeddingRejected, ServiceError
from workers.documents import Reading
from workers.reading import Reader
from workers.receipt import Receipt
from workers.store.generation import write_readings
from workers.store.known import known_vectors
from workers.store.rows import Build, Part, embedded_sha256
from workers.store.usage import add_usage
from workers.tasks.life import HandBackError

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


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of a part's chunks, one unit row each, in their order, and what they took."""

    vectors: Vectors
    receipt: Receipt


def embed_readings(
    stages: Stages, parts: Sequence[tuple[Build, Sequence[Reading]]], check: Callable[[], None]
) -> list[Embedded | ServiceError]:
    """For each part the vectors of its readings' chunks, or why there are none; the parts are of one org.

    Texts that the bots have vectors of, in any generation, are not embedded, and each other one once, in requests that
    all parts share. A text that is refused fails the parts that have it. What came before a failure that passes is
    written to its generation, where the next attempt finds it. Raises what `check` raises.
    """
    outcomes: list[Embedded | ServiceError | None] = [None] * len(parts)
    for space_id in dict.fromkeys(build.space_id for build, _ in parts):
        places = [place for place, (build, _) in enumerate(parts) if build.space_id == space_id]
        found = _Batch(stages, [parts[place] for place in places]).embed(check)
        for place, outcome in zip(places, found, strict=True):
            outcomes[place] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


@dataclass(slots=True)
class _Batch:
    """The texts of some parts in one space."""

    stages: Stages
    parts: Sequence[tuple[Build, Sequence[Reading]]]
    shas: list[list[bytes]] = field(init=False)
    """By part, those of its chunks."""
    texts: dict[bytes, str] = field(default_factory=dict)
    tokens: dict[bytes, int] = field(default_factory=dict)
    known: dict[bytes, Vectors] = field(default_factory=dict)
    unpaid: set[bytes] = field(default_factory=set)
    """What is embedded for this batch; of texts that several parts have, the first pays."""
    errors: dict[int, ServiceError] = field(default_factory=dict)
    """By part."""

    def embed(self, check: Callable[[], None]) -> list[Embedded | ServiceError]:
        self._hash()
        self._look_up()
        new = [sha for sha in self.texts if sha not in self.known]
        self.unpaid = set(new)
        if new:
            self._ask(new, check)
        return [self._outcome(part) for part in range(len(self.parts))]

    def _hash(self) -> None:
        self.shas = []
        for _, readings in self.parts:
            chunks = [chunk for reading in readings for chunk in reading.chunks]
            shas = [embedded_sha256(chunk) for chunk in chunks]
            self.shas.append(shas)
            for sha, chunk in zip(shas, chunks, strict=True):
                self.texts[sha], self.tokens[sha] = chunk.embedded_text, chunk.tokens

    def _look_up(self) -> None:
        by_bot: dict[tuple[object, ...], tuple[Build, dict[bytes, None]]] = {}
        for (build, _), shas in zip(self.parts, self.shas, strict=True):
            by_bot.setdefault(build.key[:2], (build, {}))[1].update(dict.fromkeys(shas))
        with self.stages.chat.begin() as connection:
            for build, wanted in by_bot.values():
                self.known |= known_vectors(connection, *build.key[:2], build.space_id, list(wanted))

    def _ask(self, new: Sequence[bytes], check: Callable[[], None]) -> None:
        def received(batch: range, vectors: Vectors) -> None:
            self.known.update(zip(new[batch.start : batch.stop], vectors, strict=True))

        def refused(index: int, error: EmbeddingRejected) -> Collection[int]:
            for part, shas in enumerate(self.shas):
                if new[index] in shas:
                    self.errors.setdefault(part, error)
            needed = {sha for part, shas in enumerate(self.shas) if part not in self.errors for sha in shas}
            return [place for place, sha in enumerate(new) if sha not in needed]

        texts = [self.texts[sha] for sha in new]
        try:
            self.stages.embed(self.parts[0][0].space, texts, check, on_batch=received, refused=refused)
        except ServiceError as error:
            for part in self._unfinished():
                self.errors.setdefault(part, error)
            self._keep(self.known.keys() & set(new))
        except HandBackError:
            self._keep(self.known.keys() & set(new))
            raise

    def _unfinished(self) -> list[int]:
        """The parts that lack a vector."""
        return [part for part, shas in enumerate(self.shas) if not self.known.keys() >= set(shas)]

    def _keep(self, come: Collection[bytes]) -> None:
        """Writes the vectors that have come to generations that will not go on, and what they took."""
        kept: list[Part] = []
        used: list[tuple[Build, Receipt]] = []
        for part in self._unfinished():
            build, readings = self.parts[part]
            some = [_only(reading, come) for reading in readings]
            vectors = [self.known[embedded_sha256(chunk)] for reading in some for chunk in reading.chunks]
            if vectors:
                kept.append((build, some, np.array(vectors)))
                used.append((build, self._receipt(part)))
        if kept:
            with self.stages.chat.begin() as connection:
                write_readings(connection, kept, ledger=False)
                add_usage(connection, used)

    def _outcome(self, part: int) -> Embedded | ServiceError:
        if part in self.errors:
            return self.errors[part]
        build, shas = self.parts[part][0], self.shas[part]
        vectors = np.empty((len(shas), build.space.dimensions), np.float32)
        for row, sha in enumerate(shas):
            vectors[row] = self.known[sha]
        return Embedded(vectors, self._receipt(part))

    def _receipt(self, part: int) -> Receipt:
        """What a part pays for, of its texts whose vectors there are."""
        build, shas, receipt = self.parts[part][0], self.shas[part], Receipt()
        paid = self.unpaid & self.known.keys() & set(shas)
        self.unpaid -= paid
        tokens = sum(self.tokens[sha] for sha in paid)
        cost = self.stages.cost(build.space, tokens)
        receipt.embedded(chunks=len(paid), reused=len(shas) - len(paid), tokens=tokens, cost_microusd=cost)
        return receipt


def _only(reading: Reading, shas: Mapping[bytes, object] | Collection[bytes]) -> Reading:
    return replace(reading, chunks=tuple(chunk for chunk in reading.chunks if embedded_sha256(chunk) in shas))
