"""Training through public doors: a queued source becomes chunks with vectors, or one typed error everywhere."""

import io
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

from chat_api.core.redis_client import connect_redis
from deploy.local.client import DashboardClient
from tests.flows.world import World
from tests.workers.fetch.loopback import redirect, reply
from workers.sweeper import Sweeper

PAGE = """<html lang="en"><head><title>Delivery – Kettle & Co</title></head><body><nav><a href="/other.html">Other</a></nav>
<main><h1>Delivery</h1><p>Parcels leave our warehouse every working day before noon. Orders that reach us
after eleven are packed the next morning, and you get a message with the tracking number as soon as the van has left.</p>
<h2>Costs</h2><p>Delivery within the country costs 4.90; above an order value of fifty it is free of charge. We send
abroad, too, and ask the carrier's price without any surcharge of our own.</p></main></body></html>"""
OTHER = PAGE.replace("Delivery", "Returns").replace("Parcels leave", "Returned parcels leave")


def pdf(*pages: str) -> bytes:
    document = FPDF()
    document.set_font("helvetica", size=12)
    for text in pages:
        document.add_page()
        document.multi_cell(0, 6, text)
    return bytes(document.output())


def scan() -> bytes:
    document = FPDF()
    for _ in range(3):
        document.add_page()
        document.rect(10, 10, 100, 100, style="F")
    return bytes(document.output())


def encrypted() -> bytes:
    writer = PdfWriter(PdfReader(io.BytesIO(pdf("Nobody reads this."))))
    writer.encrypt("secret", algorithm="AES-256")
    body = io.BytesIO()
    writer.write(body)
    return body.getvalue()


def add_file(shop: World, name: str, body: bytes) -> UUID:
    return shop.client.add_file(shop.bot_id, name, io.BytesIO(body), len(body))


def live_chunks(shop: World, source_id: UUID) -> list[dict[str, object]]:
    return shop.chat(
        "SELECT c.*, e.vector::text AS vector FROM chunks c JOIN embeddings e USING"
        " (org_id, bot_id, source_id, generation, chunk_id) JOIN sources s USING (org_id, bot_id, source_id)"
        " WHERE source_id = %s AND generation = live_generation AND s.deleted_at IS NULL"
        " ORDER BY document_id, ordinal",
        source_id,
    )


def test_a_page_becomes_chunks_with_vectors(shop: World) -> None:
    shop.site.pages["/delivery.html"] = reply(PAGE.encode(), Content_Type="text/html", ETag='"1"')
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/delivery.html"))
    job = shop.train(source_id)
    assert (job["status"], job["stage"], job["error"]) == ("succeeded", "store", None)
    assert job["receipt"]["pages"]["fetched"] == 1
    assert job["progress"]["done"] == job["progress"]["total"] == job["receipt"]["chunks"]["total"] > 0
    chunks = live_chunks(shop, source_id)
    assert "Parcels leave our warehouse" in " ".join(str(chunk["text"]) for chunk in chunks)
    assert [chunk["heading"] for chunk in chunks] == ["", "Costs"]
    row = shop.source_row(source_id)
    assert (row["status"], row["progress"], row["error_code"], str(row["job_id"])) == (
        "trained", 100, None, job["job_id"],
    )  # fmt: skip
    assert row["trained_at"]
    pages = shop.chat("SELECT outcome, http_status, etag, chunks FROM pages WHERE source_id = %s", source_id)
    assert pages == [{"outcome": "indexed", "http_status": 200, "etag": '"1"', "chunks": len(chunks)}]


def test_a_pdf_keeps_its_page_numbers(shop: World) -> None:
    source_id = add_file(
        shop, "manual.pdf", pdf("The first page speaks of kettles. " * 30, "The second of lids. " * 30)
    )
    assert shop.train(source_id)["status"] == "succeeded"
    assert {chunk["page"] for chunk in live_chunks(shop, source_id)} == {1, 2}


def test_a_site_is_crawled_and_every_page_is_in_the_ledger(shop: World) -> None:
    start = PAGE.replace("</main>", '<a href="/gone.html">x</a> <a href="https://elsewhere.invalid/">y</a></main>')
    shop.site.pages |= {
        "/": reply(start.encode(), Content_Type="text/html"),
        "/other.html": reply(OTHER.encode(), Content_Type="text/html"),
        "/robots.txt": reply(b"User-agent: *\nDisallow: /private"),
    }
    source_id = shop.client.add_site_source(shop.bot_id, shop.site.url("/"), 10)
    job = shop.train(source_id)
    assert job["status"] == "succeeded"
    assert job["receipt"]["failures"][0]["code"] == "not_found"
    rows = shop.chat("SELECT url, outcome FROM pages WHERE source_id = %s ORDER BY url", source_id)
    assert {row["url"].removeprefix(shop.site.url("")): row["outcome"] for row in rows} == {
        "/": "indexed",
        "/other.html": "indexed",
        "/gone.html": "not_found",
        "https://elsewhere.invalid/": "other_host",
    }


def test_a_source_beyond_the_orgs_limit_is_not_trained_whoever_queued_it(shop: World) -> None:
    within, beyond = (shop.client.add_text_source(shop.bot_id, f"Note {n}", "Kettles boil. " * 30) for n in range(2))
    shop.dashboard("UPDATE training_sources SET created_at = created_at + interval '1 minute' WHERE id = %s", beyond)
    for source_id in (within, beyond):
        shop.call("POST", "/api/training/queue", {"source_id": str(source_id)}, scope="training:write")
    shop.dashboard("UPDATE orgs SET limits = '{\"max_sources\": 1}' WHERE id = %s", shop.client.org_id)
    shop.work()
    rows = [shop.source_row(source_id) for source_id in (within, beyond)]
    assert [(row["status"], row["error_code"]) for row in rows] == [("trained", None), ("failed", "quota_exceeded")]
    assert "more sources than its limit" in rows[1]["error_message"]


def test_a_sitemap_lists_the_pages(shop: World) -> None:
    listing = f"<urlset><url><loc>{shop.site.url('/a.html')}</loc></url></urlset>"
    shop.site.pages |= {
        "/sitemap.xml": reply(listing.encode(), Content_Type="application/xml"),
        "/a.html": reply(PAGE.encode(), Content_Type="text/html"),
    }
    source_id = shop.client.add_sitemap_source(shop.bot_id, shop.site.url("/sitemap.xml"))
    assert shop.train(source_id)["receipt"]["pages"]["fetched"] == 1


def test_texts_and_pairs_are_trained(shop: World) -> None:
    text = shop.client.add_text_source(shop.bot_id, "Hours", "We are open from nine to five, Monday to Friday.")
    pairs = [{"question": "Do you repair lids?", "answer": "Yes, within a week."}] * 1
    pairs.append({"question": "Do you sell vouchers?", "answer": "Yes, at the counter."})
    qa = shop.client.add_qa_source(shop.bot_id, "Questions", pairs)
    assert shop.train(text)["status"] == shop.train(qa)["status"] == "succeeded"
    assert [chunk["heading"] for chunk in live_chunks(shop, qa)] == ["Do you repair lids?", "Do you sell vouchers?"]


BAD_PAGES: dict[str, tuple[bytes, str]] = {
    "not_found": (reply(b"", "404 Not Found"), "does not exist"),
    "forbidden": (reply(b"", "403 Forbidden"), "login"),
    "no_text": (reply(b"<html><body><nav>Home</nav></body></html>", Content_Type="text/html"), "no text"),
    "unsupported_type": (reply(b"\x89PNG\r\n\x1a\n" + bytes(64), Content_Type="text/html"), "can't be read"),
    "too_many_redirects": (redirect("/page.html"), "circle"),
    "blocked_address": (redirect("http://169.254.169.254/latest"), "private or reserved"),
    "needs_rendering": (
        reply(b"<html><body><div id=root></div><script src=/app.js></script></body></html>", Content_Type="text/html"),
        "JavaScript",
    ),
}


@pytest.mark.parametrize("code", BAD_PAGES)
def test_a_bad_page_has_one_outcome_everywhere(shop: World, code: str) -> None:
    shop.site.pages["/page.html"], sentence = BAD_PAGES[code]
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html"))
    _failed_everywhere(shop, source_id, code, sentence)


BAD_FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "scanned": ("scan.pdf", scan, "no_text"),
    "encrypted": ("secret.pdf", encrypted, "encrypted_document"),
    "truncated": ("half.pdf", lambda: b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog", "malformed_document"),
    "empty": ("empty.txt", lambda: b"", "no_text"),
    "picture": ("picture.pdf", lambda: b"GIF89a" + bytes(100), "unsupported_type"),
    "large": ("large.txt", lambda: b"x" * (60 * 2**20), "too_large"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_has_one_outcome_everywhere(shop: World, name: str) -> None:
    filename, body, code = BAD_FILES[name]
    _failed_everywhere(shop, add_file(shop, filename, body()), code, "")


def test_a_file_larger_than_its_row_says_is_refused_all_the_same(shop: World) -> None:
    source_id = add_file(shop, "large.txt", b"x" * (51 * 2**20))
    shop.dashboard("UPDATE files SET size_bytes = 10")
    _failed_everywhere(shop, source_id, "too_large", "")


def test_an_object_that_is_gone_is_not_found(shop: World) -> None:
    source_id = add_file(shop, "a.txt", b"some words")
    shop.dashboard("UPDATE files SET object_key = 'nowhere'")
    _failed_everywhere(shop, source_id, "not_found", "storage")


def test_an_empty_text_and_an_unknown_type(shop: World) -> None:
    _failed_everywhere(shop, shop.client.add_text_source(shop.bot_id, "Empty", "  \n "), "no_text", "empty")
    other = shop.client.add_text_source(shop.bot_id, "Other", "words")
    shop.dashboard("UPDATE training_sources SET type = 'podcast' WHERE id = %s", other)
    _failed_everywhere(shop, other, "unsupported_type", "podcast")


def _failed_everywhere(shop: World, source_id: UUID, code: str, sentence: str) -> None:
    job = shop.train(source_id)
    assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == ("failed", code, False), job
    assert sentence in job["error"]["message"]
    row = shop.source_row(source_id)
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", code, job["error"]["message"])
    assert live_chunks(shop, source_id) == []


def test_a_passing_failure_waits_and_says_so(shop: World) -> None:
    shop.site.pages["/page.html"] = reply(b"", "503 Service Unavailable")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html"))
    job = shop.train(source_id)
    assert (job["status"], job["error"]["code"], job["waiting_reason"]) == ("waiting", "fetch_failed", "retry_later")
    assert shop.source_row(source_id)["status"] == "queued"
    shop.site.pages["/page.html"] = reply(PAGE.encode(), Content_Type="text/html")
    shop.chat("UPDATE training_tasks SET run_after = now()")
    shop.work()
    assert shop.client.job(job["job_id"])["status"] == "succeeded"


def test_a_wish_to_train_hastens_a_run_that_waits_for_its_next_try(shop: World) -> None:
    shop.site.pages["/page.html"] = reply(b"", "503 Service Unavailable")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html"))
    job = shop.train(source_id)
    assert job["waiting_reason"] == "retry_later"
    shop.site.pages["/page.html"] = reply(PAGE.encode(), Content_Type="text/html")
    assert shop.train(source_id)["job_id"] == job["job_id"]
    assert shop.client.job(job["job_id"])["status"] == "succeeded"


def test_a_retrain_that_fails_leaves_the_old_answers(shop: World) -> None:
    shop.site.pages["/page.html"] = reply(PAGE.encode(), Content_Type="text/html")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html"))
    shop.train(source_id)
    before = live_chunks(shop, source_id)
    shop.site.pages["/page.html"] = reply(b"", "404 Not Found")
    assert shop.train(source_id)["status"] == "failed"
    assert live_chunks(shop, source_id) == before != []
    row = shop.source_row(source_id)
    assert (row["status"], row["error_code"]) == ("trained", "not_found")


def test_training_again_replaces_and_keeps_one_generation(shop: World) -> None:
    shop.site.pages["/page.html"] = reply(PAGE.encode(), Content_Type="text/html")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html"))
    for _ in range(3):
        shop.train(source_id)
    first = {chunk["chunk_id"] for chunk in live_chunks(shop, source_id)}
    shop.site.pages["/page.html"] = reply(OTHER.encode(), Content_Type="text/html")
    shop.train(source_id)
    assert "Returned parcels" in str(live_chunks(shop, source_id)[0]["text"])
    assert not first & {chunk["chunk_id"] for chunk in live_chunks(shop, source_id)}
    states = shop.chat("SELECT state, count(*) AS n FROM generations GROUP BY 1 ORDER BY 1")
    assert {row["state"]: row["n"] for row in states} == {"discarded": 2, "kept": 1, "live": 1}
    sweeper(shop).collect()
    sweeper(shop).collect()
    assert shop.chat("SELECT DISTINCT generation FROM embeddings ORDER BY 1") == [{"generation": 3}, {"generation": 4}]


def test_the_same_text_gets_the_same_chunk_ids(shop: World) -> None:
    shop.site.pages["/page.html"] = reply(PAGE.encode(), Content_Type="text/html")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html"))
    shop.train(source_id)
    before = [(chunk["chunk_id"], chunk["text"]) for chunk in live_chunks(shop, source_id)]
    shop.train(source_id)
    assert [(chunk["chunk_id"], chunk["text"]) for chunk in live_chunks(shop, source_id)] == before


def test_a_throttling_provider_costs_time_and_no_attempt(shop: World) -> None:
    shop.site.pages["/page.html"] = reply(PAGE.encode(), Content_Type="text/html")
    shop.provider.fail(429, retry_after=0.2, times=2)
    job = shop.train(shop.client.add_url_source(shop.bot_id, shop.site.url("/page.html")))
    assert (job["status"], job["attempt"]) == ("succeeded", 1)


def test_tasks_that_must_run_alone_do_not_wait_for_a_round_of_all_orgs_each(shop: World) -> None:
    clients = [DashboardClient(shop.client.stack, org_id=uuid4()) for _ in range(4)]
    for client in clients:
        bot_id = client.add_bot("Bot", {})
        client.queue_many([client.add_text_source(bot_id, f"Note {n}", "Kettles boil. " * 9) for n in range(3)])
    shop.chat("UPDATE training_tasks SET suspect = true")
    assert shop.work() == 12
    begun = [row["org_id"] for row in shop.chat("SELECT org_id FROM training_jobs ORDER BY started_at")]
    assert [len(list(runs)) for _, runs in groupby(begun)] == [3, 3, 3, 3]


def sweeper(shop: World) -> Sweeper:
    redis = connect_redis(shop.settings, limit_s=2)
    return Sweeper(shop.worker.engines, redis, shop.settings, f"test-{uuid4()}")


def test_vectors_are_unit_and_of_the_configured_space(shop: World, tmp_path: Path) -> None:
    source_id = shop.client.add_text_source(shop.bot_id, "Hours", "We are open from nine to five, Monday to Friday.")
    shop.train(source_id)
    [chunk] = live_chunks(shop, source_id)
    vector = [float(number) for number in str(chunk["vector"]).strip("[]").split(",")]
    assert len(vector) == 256
    assert sum(number * number for number in vector) == pytest.approx(1, abs=2e-3)
    [space] = shop.chat("SELECT model, dimensions FROM embedding_spaces")
    assert space == {"model": "text-embedding-3-small", "dimensions": 256}
