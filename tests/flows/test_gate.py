"""The owner's test questions hold a new generation back that would lose one of them; through public doors."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import event

from tests.chat_api.chat_world import wait_until
from tests.flows.world import Row, World
from tests.provider import Provider
from tests.workers.fetch.loopback import reply
from workers.commands.release import Allowed, allow_removals
from workers.embed import FAILURES_ALLOWED

pytestmark = pytest.mark.stack
DELIVERY = "Parcels leave our warehouse every working day before noon. Delivery within the country costs 4.90."
KETTLES = "Descale a kettle with vinegar twice a year. Rinse the kettle well after descaling it."
ROSES = "Roses are cut back in March. Water the roses in the evening, and never over their leaves."
ASKED = "What does delivery within the country cost?"
OTHER = "How do I descale a kettle with vinegar?"


def ask_of(shop: World, *questions: Row, threshold: float = 0.3) -> None:
    """Sets the bot's test questions."""
    config = {"test_questions": list(questions), "similarity_threshold": threshold}
    shop.client.change_bot(shop.bot_id, "Shop", config)


def write(shop: World, source_id: UUID, words: str) -> None:
    """Edits a text source."""
    shop.dashboard(
        "UPDATE training_sources SET content = %s, updated_at = now() WHERE id = %s", Jsonb({"text": words}), source_id
    )


def learned(shop: World, words: str, *, source_id: UUID | None = None) -> UUID:
    """A trained text source."""
    source_id = source_id or shop.client.add_text_source(shop.bot_id, "Text", words)
    assert shop.train(source_id)["status"] == "succeeded"
    return source_id


def texts(shop: World, source_id: UUID) -> str:
    """What the source's live generation says."""
    rows = shop.chat(
        "SELECT text FROM sources JOIN chunks USING (org_id, bot_id, source_id)"
        " WHERE source_id = %s AND generation = live_generation",
        source_id,
    )
    return " ".join(row["text"] for row in rows)


def generations(shop: World, source_id: UUID) -> list[Row]:
    """The generations as the API lists them."""
    answer = shop.call("GET", f"/api/training/sources/{source_id}/generations", scope="training:read")
    found: list[Row] = answer.json()["generations"]
    return found


def lost(shop: World, source_id: UUID, **options: Any) -> Row:
    """The job of a training that is held back."""
    job = shop.train(source_id, **options)
    assert (job["status"], job["error"] and job["error"]["code"]) == ("failed", "test_questions_failed"), job
    return job


def test_a_generation_that_loses_a_question_waits_for_its_owner(open_shop: World) -> None:
    shop = open_shop
    source_id, beside = learned(shop, DELIVERY), learned(shop, KETTLES)
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)}, {"question": OTHER, "source_id": str(beside)})
    write(shop, source_id, ROSES)
    job = lost(shop, source_id)
    assert f"“{ASKED}”" in job["error"]["message"]
    assert job["error"]["retryable"] is False
    assert texts(shop, source_id) == DELIVERY
    parked, live = generations(shop, source_id)
    assert (parked["state"], parked["held_by"], live["state"]) == ("parked", "test_questions_failed", "live")
    assert parked["diff"] == {"lost_questions": [ASKED]}
    row = shop.source_row(source_id)
    assert (row["status"], row["error_code"]) == ("trained", "test_questions_failed")
    path = f"/api/training/sources/{source_id}/generations/{parked['generation']}/release"
    assert shop.call("POST", path, scope="training:write").status_code == 200
    assert texts(shop, source_id) == ROSES
    assert shop.client.job(job["job_id"])["status"] == "succeeded"
    # What failed before holds nothing back any more.
    write(shop, source_id, ROSES.replace("March", "April"))
    job = shop.train(source_id)
    assert job["status"] == "succeeded"
    assert [ASKED in warning for warning in job["receipt"]["warnings"]] == [True]


def test_an_operator_lets_it_go(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)})
    write(shop, source_id, ROSES)
    lost(shop, source_id)
    lost(shop, source_id, force=True)
    assert [one["state"] for one in generations(shop, source_id)] == ["parked", "live"]
    assert allow_removals(shop.worker.engines.chat, source_id).released == 1
    assert texts(shop, source_id) == ROSES


def test_what_is_discarded_meanwhile_is_not_let_go(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)})
    write(shop, source_id, ROSES)
    lost(shop, source_id)
    with psycopg.connect(shop.chat_dsn) as switching, ThreadPoolExecutor(1) as pool:
        switching.execute("SELECT FROM sources WHERE source_id = %s FOR UPDATE", [source_id])
        allowed = pool.submit(allow_removals, shop.worker.engines.chat, source_id)
        wait_until(lambda: shop.chat("SELECT pid FROM pg_locks WHERE NOT granted"))
        switching.execute("UPDATE generations SET state = 'discarded' WHERE state = 'parked'")
        switching.commit()
        assert allowed.result(20) == Allowed(removed=0, released=0, unreadable=0)
    assert texts(shop, source_id) == DELIVERY


def test_questions_that_still_pass_hold_nothing_back(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)})
    write(shop, source_id, f"{ROSES} {DELIVERY}")
    job = shop.train(source_id)
    assert (job["status"], job["receipt"]["warnings"]) == ("succeeded", [])


def test_other_sources_take_the_best_places(open_shop: World) -> None:
    """A passage that has something of it is not enough when three others have more."""
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    for place in ("north", "south", "east"):
        learned(shop, f"The van to the {place} makes its delivery on foot, slowly and with two horses.")
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)}, threshold=0)
    write(shop, source_id, f"{ROSES} Their cost is small.")
    lost(shop, source_id)


def test_the_first_generation_goes_live_with_a_warning(open_shop: World) -> None:
    shop = open_shop
    source_id = shop.client.add_text_source(shop.bot_id, "Text", ROSES)
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)}, {"question": "When are roses cut back?",
                                                                  "source_id": str(source_id)})  # fmt: skip
    job = shop.train(source_id)
    assert job["status"] == "succeeded"
    [warning] = job["receipt"]["warnings"]
    assert ASKED in warning


def test_what_nothing_answered_must_not_be_answered(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, ROSES)
    ask_of(shop, {"question": ASKED, "answerable": False}, threshold=0.6)
    write(shop, source_id, f"{ASKED} {ASKED}")
    lost(shop, source_id)
    assert texts(shop, source_id) == ROSES


@dataclass
class Looked:
    """What the worker's questions have looked at."""

    places: int = 0
    """Generations whose words were read."""
    whole: int = 0
    """Searches through the vectors of all sources."""


@contextmanager
def looking(shop: World) -> Iterator[Looked]:
    """Counts what is looked at within it."""
    looked = Looked()

    def note(_connection: object, cursor: Any, statement: str, values: Any, *_: object) -> None:
        if "string_agg(chunk.lexemes" in statement:
            looked.places += cursor.rowcount
        if "candidate AS MATERIALIZED" in statement:
            looked.whole += values.get("others", True)

    engine = shop.worker.engines.chat
    event.listen(engine, "after_cursor_execute", note)
    try:
        yield looked
    finally:
        event.remove(engine, "after_cursor_execute", note)


def test_what_nothing_should_answer_is_not_asked_where_nothing_can_be_lost(open_shop: World) -> None:
    shop = open_shop
    ask_of(shop, {"question": ASKED, "answerable": False}, threshold=0.6)
    shop.provider.counts.inputs = 0
    with looking(shop) as looked:
        source_id, _ = learned(shop, DELIVERY), learned(shop, KETTLES)
        assert shop.provider.counts.inputs == 2  # no question's
        for force in (False, True):
            assert shop.train(source_id, force=force)["status"] == "succeeded"
    assert (looked, shop.provider.counts.inputs) == (Looked(), 2)


def test_what_nothing_should_answer_is_asked_of_its_own_source(open_shop: World) -> None:
    """However many others there are: their words are read once, and their vectors only if the source now answers it."""
    shop = open_shop
    source_id, *_ = [learned(shop, f"{words} Day {day}.") for words in (ROSES, KETTLES) for day in range(3)]
    ask_of(shop, {"question": ASKED, "answerable": False}, threshold=0.6)
    found = []
    for day in range(3):
        write(shop, source_id, f"{ROSES} It is day {day}.")
        with looking(shop) as looked:
            assert shop.train(source_id)["receipt"]["warnings"] == []
        found.append(looked)
    # The source's new generation, and at first those of all; then the one that went live the last time.
    assert found == [Looked(7, 0), Looked(2, 0), Looked(2, 0)]
    write(shop, source_id, f"{ASKED} {ASKED}")
    with looking(shop) as looked:
        lost(shop, source_id)
    assert looked == Looked(2, 1)


def test_what_was_answered_already_is_not_lost(open_shop: World) -> None:
    shop = open_shop
    source_id, beside = learned(shop, ROSES), learned(shop, f"{ASKED} {ASKED}")
    ask_of(shop, {"question": ASKED, "answerable": False}, threshold=0.6)
    [warning] = _changed(shop, beside, f"{ASKED} {ASKED} {ASKED}")
    assert ASKED in warning
    assert _changed(shop, source_id, KETTLES) == []  # that is no doing of this source
    [warning] = _changed(shop, source_id, f"{ASKED} {ASKED} Who knows?")
    assert ASKED in warning
    # What others have answered counts no more once they are changed.
    assert _changed(shop, source_id, ROSES) == _changed(shop, beside, KETTLES) == []
    write(shop, source_id, f"{ASKED} {ASKED}")
    lost(shop, source_id)


def _changed(shop: World, source_id: UUID, words: str) -> list[str]:
    """What is said of a changed text that goes live."""
    write(shop, source_id, words)
    job = shop.train(source_id)
    assert job["status"] == "succeeded", job
    warnings: list[str] = job["receipt"]["warnings"]
    return warnings


def html(body: str) -> bytes:
    """A page."""
    return reply(body.encode(), Content_Type="text/html")


def test_a_question_names_a_page_of_a_crawl(open_shop: World) -> None:
    shop = open_shop
    link = "<html><head><title>{}</title></head><body><main><h1>{}</h1><p>{}</p>{}</main></body></html>"
    there = f'<p><a href="{shop.site.url("/delivery")}">Delivery</a></p>'
    pages = {
        "/": link.format("Garden", "Garden", ROSES * 3, there),
        "/delivery": link.format("Delivery", "Delivery", DELIVERY * 3, ""),
    }
    shop.site.pages |= {path: html(body) for path, body in pages.items()}
    source_id = shop.client.add_site_source(shop.bot_id, shop.site.url("/"), 10)
    assert shop.train(source_id)["status"] == "succeeded"
    question = {"question": ASKED, "url": shop.site.url("/delivery/#costs")}
    ask_of(shop, question, {"question": OTHER, "url": "https://elsewhere.example/kettles"})
    shop.site.pages["/delivery"] = html(link.format("Kettles", "Kettles", KETTLES * 3, ""))
    shop.provider.counts.inputs = 0
    job = lost(shop, source_id)
    assert "delivery" in texts(shop, source_id).casefold()
    [parked, _] = generations(shop, source_id)
    assert parked["diff"]["lost_questions"] == [ASKED]
    assert parked["diff"]["changed_count"] == 1
    assert job["receipt"]["tokens"] == parked["receipt"]["tokens"] > 0
    [used] = shop.chat(
        "SELECT sum(prompt_tokens) AS tokens FROM usage_days WHERE bot_id = %s AND purpose = 'embed'", shop.bot_id
    )
    [first] = shop.chat("SELECT receipt FROM training_jobs WHERE source_id = %s AND status = 'succeeded'", source_id)
    assert used["tokens"] == first["receipt"]["tokens"] + job["receipt"]["tokens"]
    shop.site.pages["/delivery"] = html(link.format("Delivery", "Delivery", DELIVERY * 3 + KETTLES, ""))
    assert shop.train(source_id)["status"] == "succeeded"
    assert [one["state"] for one in generations(shop, source_id)] == ["live", "kept"]


def test_a_question_is_paid_for_once(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    provider: Provider = shop.provider
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)}, {"question": OTHER, "source_id": str(uuid4())})
    embedded = []
    for words in (DELIVERY + ROSES, DELIVERY + KETTLES):
        write(shop, source_id, words)
        provider.counts.inputs = 0
        assert shop.train(source_id)["status"] == "succeeded"
        embedded.append(provider.counts.inputs)
    assert embedded == [2, 1]
    [used] = shop.chat("SELECT sum(prompt_tokens) AS n FROM usage_days WHERE purpose = 'embed'")
    [told] = shop.chat("SELECT sum(CAST(receipt ->> 'tokens' AS int)) AS n FROM training_jobs")
    assert used["n"] == told["n"]


def test_without_questions_nothing_is_asked(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    ask_of(shop, {"question": OTHER, "source_id": str(uuid4())})
    write(shop, source_id, ROSES)
    shop.provider.counts.inputs = 0
    assert shop.train(source_id)["status"] == "succeeded"
    assert shop.provider.counts.inputs == 1


def test_a_provider_that_is_away_holds_the_run_up(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    learned(shop, ROSES)  # so that only the question is asked of the provider
    ask_of(shop, {"question": ASKED, "source_id": str(source_id)})
    write(shop, source_id, ROSES)
    shop.provider.fail(503, times=FAILURES_ALLOWED + 1)
    job = shop.train(source_id)
    assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == (
        "waiting",
        "embedding_unavailable",
        True,
    )
    assert texts(shop, source_id) == DELIVERY
    shop.chat("UPDATE training_tasks SET run_after = now()")
    shop.work()
    assert shop.client.job(job["job_id"])["error"]["code"] == "test_questions_failed"


def test_a_question_that_is_refused_holds_nothing_back(open_shop: World) -> None:
    shop = open_shop
    source_id = learned(shop, DELIVERY)
    ask_of(shop, {"question": f"{ASKED} forbiddenword", "source_id": str(source_id)})
    shop.provider.controls.poison = "forbiddenword"
    write(shop, source_id, ROSES)
    job = shop.train(source_id)
    assert job["status"] == "succeeded"
    assert "1 test questions could not be asked" in job["receipt"]["warnings"][0]
