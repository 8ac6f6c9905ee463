"""R5: some files kill the worker that reads them; they are quarantined, and nobody else is harmed."""

import random
import time
from collections import Counter
from uuid import UUID

from tests.faults.check import JOBS, live_chunks, read_markers
from tests.faults.report import Figure, at_most, none_of
from tests.faults.signs import KILLER
from tests.faults.size import Size
from tests.faults.sources import Owner, Source
from tests.faults.world import AWAY, World, insist, world

KINDS = ("text", "md", "txt", "html", "url")
DEATHS = 3


class Coroner:
    """Counts each killer's deaths, alone in its worker or with others."""

    def __init__(self, made: World) -> None:
        self._made = made
        self.alone: Counter[str] = Counter()
        self.shared: Counter[str] = Counter()

    def __call__(self, words: str) -> None:
        """A worker says that a killer, `name/pid`, has got it."""
        name, _, pid = words.partition("/")
        try:
            rows = self._made.chat("SELECT lease_holder FROM training_tasks WHERE status = 'running'")
        except AWAY:
            rows = []
        held = sum(pid in str(row["lease_holder"]).split(":") for row in rows)
        (self.shared if held > 1 else self.alone)[name] += 1


def run(size: Size, broken: str = "") -> list[Figure]:
    """The figures of killers among good files."""
    with world(size, broken=broken) as made:
        owner, coroner = Owner(made), Coroner(made)
        made.sites[0].on_death = coroner
        killers = _create(owner, size)
        began = time.monotonic()
        _wait(made, owner, size)
        took = time.monotonic() - began
        status = {row["source_id"]: row["status"] for row in made.chat(JOBS)}
        chunks = live_chunks(made.described["chat_db_dsn"])
    others = [source for source in owner.sources if source not in killers]
    spared = [one for one in others if status.get(one.source_id) == "succeeded"]
    caught = [one for one in killers if status.get(one.source_id) == "quarantined"]
    wrong = [one for one in others if not read_markers(chunks.get(one.source_id, ()), one)]
    return [
        Figure("R5", "killers quarantined", len(caught), f"{len(killers)}", len(caught) == len(killers)),
        at_most("R5", "most deaths of one killer alone", max(coroner.alone.values(), default=0), DEATHS),
        Figure("R5", "  most deaths in company", max(coroner.shared.values(), default=0)),
        Figure("R5", "others unaffected", len(spared), f"{len(others)}", len(spared) == len(others)),
        none_of("R5", "others that say not what they must", wrong),
        Figure("R5", "seconds until all was over", round(took, 1)),
    ]


def _create(owner: Owner, size: Size) -> list[Source]:
    dice = random.Random(f"poison {size.seed}")
    places = set(dice.sample(range(size.sources), size.killers))
    killers = []
    by_org: dict[UUID, list[Source]] = {}
    for number in range(size.sources):
        if number in places:
            source = owner.create("md", number, KILLER.format(name=f"killer{number}"))
            killers.append(source)
        else:
            source = owner.create(dice.choice(KINDS), number)
        by_org.setdefault(source.client.org_id, []).append(source)
    for sources in by_org.values():
        owner.queue(sources)
    return killers


def _wait(made: World, owner: Owner, size: Size) -> None:
    """Until all is over, or could well have been."""
    deadline = time.monotonic() + 8 * (size.lease_s + 10) + 60 + 0.5 * size.sources
    while time.monotonic() < deadline:
        rows = insist(lambda: made.chat(JOBS))
        if len(rows) == len(owner.sources) and not [row for row in rows if row["status"] in {"waiting", "running"}]:
            return
        time.sleep(0.5)
