"""The conformance kit's vectors for clients, on the widget in a real browser."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_chat import FakeChat
from tests.browser.test_widget import ask, open_chat
from tests.conformance.client import VECTORS
from tests.conformance.scripted import Hold, Raw

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_widget_shows_what_the_vector_says(page: Page, host: str, chat: FakeChat, vector: dict[str, Any]) -> None:
    open_chat(page, host)
    chat.plays.append([*(Raw(frame) for frame in vector["frames"]), Hold()])
    ask(page)
    shows = vector["shows"]
    text = shows["text"].replace("[1]", "1").strip()
    expect(page.locator(".answer .body")).to_have_text(text)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_have_count(int(bool(shows["finish_reason"])))
    expect(page.get_by_role("button", name="Try again")).to_have_count(int(bool(shows["error"])))
    chat.go.set()
