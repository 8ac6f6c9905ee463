"""R4: visitors ask steadily while a source is trained again and again under faults; no answer is empty or mixed."""

import contextlib
import random
import time
from uuid import UUID, uuid5

from psycopg.types.json import Jsonb

from tests.faults.content import WORDS
from tests.faults.executioner import WEIGHTS, Executioner
from tests.faults.ledger import Ledger
from tests.faults.reader import STAMP, Reader, wrong
from tests.faults.recovery import Watcher
from tests.faults.report import Figure, none_of
from tests.faults.size import Size
from tests.faults.sources import run as execute
from tests.faults.world import NAMESPACE, World, insist, until, world

SECTIONS, READERS = 10, 2
ONE_S = 180.0
GAP_S = (3.0, 12.0)
"""Between two faults: a source that is trained alone must come through now and then."""
# A provider that is away can't embed a question either: that is said to the visitor, and no training's doing.
STRIKES = {kind: weight for kind, weight in WEIGHTS.items() if not kind.startswith("provider")}


def run(size: Size, broken: str = "") -> list[Figure]:
    """The figures of so many retrainings."""
    with world(size, broken=broken) as made, Watcher(made) as watcher, Ledger(made) as ledger:
        made.provider.controls.latency_ms = 50
        source_id = _add(made)
        insist(lambda: made.clients[0].queue(source_id))
        until(lambda: _live(made, source_id), ONE_S)
        readers = [Reader(made.clients[0], made.bots[0], "What is in the catalogue?") for _ in range(READERS)]
        executioner = Executioner(made, watcher, ledger, weights=STRIKES, gap_s=GAP_S)
        with contextlib.ExitStack() as stack:
            for reader in readers:
                stack.enter_context(reader)
            executioner.start()
            stack.callback(executioner.stop)
            done = sum(_retrain(made, source_id, number) for number in range(2, size.retrainings + 2))
    answers = {how for reader in readers for how in reader.answers}
    told = {how: sum(reader.answers[how] for reader in readers) for how in sorted(answers)}
    return [
        Figure("R4", "retrainings", done, f"{size.retrainings}", done == size.retrainings),
        Figure("R4", "good answers", told.get("good", 0), "> 0", told.get("good", 0) > 0),
        *(none_of("R4", f"answers {how}", count) for how, count in wrong(readers).items()),
        *(Figure("R4", f"  {how}", count) for how, count in told.items() if how.startswith(("error", "broken"))),
        Figure("", "blows", sum(executioner.counts.values())),
    ]


def _text(number: int) -> str:
    """Ten sections, each a chunk of its own that says which state of the text it is from."""
    stamp = STAMP.format(number=number)
    parts = []
    for shelf in range(SECTIONS):
        dice = random.Random(shelf)
        items = " ".join(f"Item {item} is made of {dice.choice(WORDS)} and {dice.choice(WORDS)}." for item in range(14))
        parts.append(f"## Shelf {shelf}\n\n{stamp}: shelf {shelf} holds these. {items}")
    return "\n\n".join(parts)


def _add(made: World) -> UUID:
    source_id = uuid5(NAMESPACE, f"catalogue {made.size.seed}")
    execute(
        made.clients[0],
        "INSERT INTO training_sources (id, org_id, bot_id, type, title, content) VALUES (%s, %s, %s, 'text', 'Catalogue', %s)",
        *(source_id, made.clients[0].org_id, made.bots[0], Jsonb({"text": _text(1)})),
    )
    return source_id


def _retrain(made: World, source_id: UUID, number: int) -> bool:
    """Change the source and wait until its new state answers; whether it did in time."""
    change = "UPDATE training_sources SET content = %s, updated_at = now() WHERE id = %s"
    insist(lambda: execute(made.clients[0], change, Jsonb({"text": _text(number)}), source_id))
    insist(lambda: made.clients[0].queue(source_id))
    deadline = time.monotonic() + ONE_S
    stamp = STAMP.format(number=number)
    while time.monotonic() < deadline:
        if stamp in insist(lambda: _live(made, source_id)):
            return True
        time.sleep(0.1)
    return False


def _live(made: World, source_id: UUID) -> str:
    """The words of the source that answer now."""
    rows = insist(
        lambda: made.chat(
            "SELECT text FROM sources JOIN chunks USING (org_id, bot_id, source_id)"
            " WHERE source_id = %s AND generation = live_generation",
            source_id,
        )
    )
    return "\n".join(row["text"] for row in rows)
