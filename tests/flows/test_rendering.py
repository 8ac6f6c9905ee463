"""Sources whose pages need their JavaScript: trained with a real browser where their owner asks for it."""

import os
from uuid import UUID

import pytest

from tests.flows.world import Row, World
from tests.workers.fetch.loopback import reply
from workers.fetch.render import find_browser

pytestmark = pytest.mark.skipif(
    find_browser() is None and not os.environ.get("REQUIRE_BROWSER"), reason="no Chromium is installed"
)

SHELL = """<!doctype html><title>{title}</title><body><div id=root></div><script>
fetch('{data}').then(answer => answer.text()).then(html => document.getElementById('root').innerHTML = html)
</script></body>"""
HOURS = (
    "<h1>Opening hours</h1><p>The workshop is open from nine to five on every working day of the week.</p>"
    "<a href='/about.html'>About</a>"
)
ABOUT = "<h1>About us</h1><p>Three potters have shared this kiln by the canal since the year 1987.</p>"


def shell(title: str, data: str) -> bytes:
    return reply(SHELL.format(title=title, data=data).encode(), Content_Type="text/html", ETag='"1"')


@pytest.fixture
def scripted(shop: World) -> World:
    shop.site.pages["/"] = shell("Workshop", "/hours")
    shop.site.pages["/about.html"] = shell("About", "/about")
    shop.site.pages["/hours"] = reply(HOURS.encode(), Content_Type="text/html")
    shop.site.pages["/about"] = reply(ABOUT.encode(), Content_Type="text/html")
    return shop


def asks_for_rendering(shop: World, source_id: UUID) -> UUID:
    shop.dashboard("UPDATE training_sources SET options = options || '{\"render\": true}' WHERE id = %s", source_id)
    return source_id


def texts(shop: World) -> list[str]:
    rows = shop.chat(
        "SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id) WHERE generation = live_generation"
        " ORDER BY text"
    )
    return [row["text"] for row in rows]


def pages_of(job: Row) -> Row:
    pages: Row = job["receipt"]["pages"]
    return pages


def test_a_page_is_trained_as_its_scripts_made_it(scripted: World) -> None:
    source_id = scripted.client.add_url_source(scripted.bot_id, scripted.site.url())
    assert scripted.train(source_id)["error"]["code"] == "needs_rendering"
    job = scripted.train(asks_for_rendering(scripted, source_id))
    assert job["status"] == "succeeded"
    assert "open from nine to five" in texts(scripted)[0]


def test_what_scripts_bring_is_looked_at_again_though_the_page_is_the_same(scripted: World) -> None:
    source_id = asks_for_rendering(scripted, scripted.client.add_url_source(scripted.bot_id, scripted.site.url()))
    scripted.train(source_id)
    assert pages_of(scripted.train(source_id))["unchanged"] == 1
    scripted.site.pages["/hours"] = reply(HOURS.replace("five", "six").encode(), Content_Type="text/html")
    assert pages_of(scripted.train(source_id))["changed"] == 1
    assert "open from nine to six" in texts(scripted)[0]


def test_a_crawl_follows_links_that_scripts_made(scripted: World) -> None:
    source_id = asks_for_rendering(scripted, scripted.client.add_site_source(scripted.bot_id, scripted.site.url()))
    job = scripted.train(source_id)
    assert (job["status"], pages_of(job)["changed"]) == ("succeeded", 2)
    assert any("since the year 1987" in text for text in texts(scripted))
    again = scripted.train(source_id)
    assert (pages_of(again)["unchanged"], again["receipt"]["chunks"]["embedded"]) == (2, 0)
