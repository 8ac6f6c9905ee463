"""What a page says of itself, and how large it may be: through public doors, from the dashboard's row to the answer."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chat_api.core.settings import Settings
from tests.flows.world import World, world
from tests.provider import Provider
from tests.provider_wire import Exchange
from tests.workers.fetch.loopback import reply

DATED = (
    '<html lang="en"><head><title>Prices</title><meta property="article:published_time" content="{}">'
    '<meta property="article:modified_time" content="{}"></head><body><main><h1>Prices</h1>{}</main></body></html>'
)
LARGE = 10 * 2**20


class Listening(Provider):
    """A provider that remembers the last message that its model got."""

    told = ""

    async def _chat(self, exchange: Exchange, body: dict[str, Any]) -> None:
        self.told = str(body["messages"][-1]["content"])
        await super()._chat(exchange, body)


def dates(shop: World) -> list[dict[str, object]]:
    """Of the live documents."""
    return shop.chat(
        "SELECT published_on::text, modified_on::text FROM documents d JOIN sources s USING (org_id, bot_id, source_id)"
        " WHERE generation = live_generation ORDER BY 1"
    )


def test_the_model_is_told_of_when_a_passage_is(settings: Settings, tmp_path: Path) -> None:
    with Listening() as provider, world(settings, provider, tmp_path) as shop:
        _told_of_days(shop, provider)


def _told_of_days(shop: World, provider: Listening) -> None:
    for path, published, words in [("/old", "2019-01-02", "twelve"), ("/new", "2023-04-05T10:00:00Z", "fifteen")]:
        text = f"<p>A guided tour of the brewery takes an hour and costs {words} euros for grown-ups.</p>"
        body = DATED.format(published, published.replace("04-05", "11-12"), text).encode()
        shop.site.pages[path] = reply(body, content_type="text/html")
        source_id = shop.client.add_url_source(shop.bot_id, shop.site.url(path))
        assert shop.train(source_id)["status"] == "succeeded"
    said = [
        {"published_on": "2019-01-02", "modified_on": "2019-01-02"},
        {"published_on": "2023-04-05", "modified_on": "2023-11-12"},
    ]
    assert dates(shop) == said
    asked = {"id": str(uuid4()), "text": "What does a guided tour of the brewery cost?"}
    answer = shop.call("POST", "/api/chat/messages", asked, scope="chat", bot_id=shop.bot_id)
    assert answer.status_code == 200
    days = re.findall(r'^<passage n="\d" from="Prices" date="(.*)">\n.* costs (\w+)', provider.told, re.MULTILINE)
    assert sorted(days) == [("2019-01-02", "twelve"), ("2023-11-12", "fifteen")]
    assert shop.train(source_id)["receipt"]["pages"]["unchanged"] == 1
    assert dates(shop) == said


def large_page() -> tuple[bytes, int]:
    """A page of ten megabytes, and how many sections it has."""
    parts, size = ["<html lang='en'><head><title>Handbook</title></head><body><main><h1>Handbook</h1>"], 0
    while size < LARGE:
        number = len(parts)
        paragraphs = "".join(
            f"<p>Machine {number} of series {line} holds {number * 7 + line} litres. {'It is cleaned every week. ' * 12}</p>"
            for line in range(10)
        )
        parts.append(f"<h2>Section {number}</h2>{paragraphs}<p>Its spare key hangs on hook x{number}x.</p>")
        size += len(parts[-1])
    end = "<h2>Emergencies</h2><p>Whoever loses the master key rings Penelope in Aberdeen.</p></main></body></html>"
    return "".join([*parts, end]).encode(), len(parts) - 1


@pytest.mark.timeout(600)
def test_a_page_of_ten_megabytes_is_learned_whole(open_shop: World) -> None:
    shop = open_shop
    body, sections = large_page()
    shop.site.pages["/handbook"] = reply(body, content_type="text/html")
    source_id = shop.client.add_url_source(shop.bot_id, shop.site.url("/handbook"))
    job = shop.train(source_id)
    assert (job["status"], job["error"]) == ("succeeded", None)
    assert job["receipt"]["chunks"]["total"] >= sections
    texts = [str(row["text"]) for row in shop.chat("SELECT text FROM chunks WHERE source_id = %s", source_id)]
    hooks = {int(hook) for text in texts for hook in re.findall(r"hook x(\d+)x", text)}
    assert hooks == set(range(1, sections + 1))
    asked = {"bot_id": str(shop.bot_id), "query": "Whoever loses the master key rings whom in Aberdeen?", "k": 3}
    found = shop.call("POST", "/api/search", asked, scope="chat", bot_id=shop.bot_id).json()
    assert "Penelope" in found["passages"][0]["text"]
