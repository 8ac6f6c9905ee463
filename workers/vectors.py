"""Vectors for what was read, each text paid for once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from chat_api.core.errors import EmbeddingRejected, ServiceError
from workers.documents import Reading
from workers.receipt import Receipt
from workers.stages import Stages, Vectors
from workers.store.generation import write_readings
from workers.store.known import known_vectors
from workers.store.rows import Build, Part, embedded_sha256
from workers.store.usage import add_usage
from workers.tasks.life import HandBackError, LeaseLostError


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
    all parts share. A text that is refused fails the parts that have it. What came before a failure that passes, or
    before `check` raised, is written to its generation, where the next attempt finds it; a failure that passes fails all
    parts of that generation. What is paid for is on the bots' account, also of parts that fail. Raises what `check`
    raises.
    """
    outcomes: list[Embedded | ServiceError | None] = [None] * len(parts)
    batches: list[tuple[list[int], _Batch]] = []
    try:
        for space_id in dict.fromkeys(build.space_id for build, _ in parts):
            places = [place for place, (build, _) in enumerate(parts) if build.space_id == space_id]
            batches.append((places, _Batch(stages, [parts[place] for place in places])))
            batches[-1][1].ask(check)
    except (HandBackError, LeaseLostError):
        for places, batch in batches:
            batch.keep(range(len(places)))
        raise
    for places, batch in batches:
        for place, outcome in zip(places, batch.outcomes(), strict=True):
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
    """The texts to embed for this batch that are on nobody's account yet."""
    errors: dict[int, ServiceError] = field(default_factory=dict)
    """By part."""

    def ask(self, check: Callable[[], None]) -> None:
        """Embeds what nobody has a vector of; what keeps a part from its vectors is in `errors` then."""
        self._hash()
        self._look_up()
        new = [sha for sha in self.texts if sha not in self.known]
        self.unpaid = set(new)
        if new:
            self._embed(new, check)

    def outcomes(self) -> list[Embedded | ServiceError]:
        """By part; what was paid for those that fail is accounted for here."""
        found = [self.errors.get(part) or self._embedded(part) for part in range(len(self.parts))]
        if self._unbilled():
            with self.stages.chat.begin() as connection:
                add_usage(connection, [(self.parts[part][0], self._bill(part)) for part in self.errors])
        return found

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

    def _embed(self, new: Sequence[bytes], check: Callable[[], None]) -> None:
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
            stuck = self._stuck()
            for part in stuck:
                self.errors.setdefault(part, error)
            self.keep(stuck)

    def _stuck(self) -> list[int]:
        """The parts of the generations that lack a vector."""
        keys = [build.key for build, _ in self.parts]
        lacking = {key for key, shas in zip(keys, self.shas, strict=True) if not self.known.keys() >= set(shas)}
        return [part for part, key in enumerate(keys) if key in lacking]

    def _unbilled(self) -> set[bytes]:
        """The texts whose vectors have come and that are on nobody's account yet."""
        return self.unpaid & self.known.keys()

    def keep(self, parts: Sequence[int]) -> None:
        """Writes the vectors that have come to generations that will not go on, and what they took."""
        unbilled = self._unbilled()
        kept: list[Part] = []
        used: list[tuple[Build, Receipt]] = []
        for part in parts:
            build, readings = self.parts[part]
            some = [_only(reading, unbilled) for reading in readings]
            vectors = [self.known[embedded_sha256(chunk)] for reading in some for chunk in reading.chunks]
            if vectors:
                kept.append((build, some, np.array(vectors)))
                used.append((build, self._bill(part)))
        if kept:
            with self.stages.chat.begin() as connection:
                write_readings(connection, kept, ledger=False)
                add_usage(connection, used)

    def _embedded(self, part: int) -> Embedded:
        build, shas = self.parts[part][0], self.shas[part]
        vectors = np.empty((len(shas), build.space.dimensions), np.float32)
        for row, sha in enumerate(shas):
            vectors[row] = self.known[sha]
        return Embedded(vectors, self._bill(part))

    def _bill(self, part: int) -> Receipt:
        """Puts on the part's account what came and is on nobody's; the first part asked pays."""
        build, shas, receipt = self.parts[part][0], self.shas[part], Receipt()
        paid = self._unbilled() & set(shas)
        self.unpaid -= paid
        tokens = sum(self.tokens[sha] for sha in paid)
        cost = self.stages.cost(build.space, tokens)
        receipt.embedded(chunks=len(paid), reused=len(shas) - len(paid), tokens=tokens, cost_microusd=cost)
        return receipt


def _only(reading: Reading, shas: Mapping[bytes, object] | Collection[bytes]) -> Reading:
    return replace(reading, chunks=tuple(chunk for chunk in reading.chunks if embedded_sha256(chunk) in shas))
