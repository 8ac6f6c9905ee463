"""Debian's Chromium for the tests of this folder: absent, they say so and are skipped, or fail when REQUIRE_BROWSER=1."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.fake_chat import FakeChat, create_app
from tests.conformance.scripted import serving

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for this folder, and no longer: while it runs, so does its event loop, and async tests could not."""
    chromium = shutil.which("chromium")
    if chromium is None:
        why = "no Chromium on this machine (apt-get install chromium)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab, 1280 wide. A script error or a breach of the page's security policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(10_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Policy" in message.text else None)
    yield page
    context.close()
    assert faults == []


@pytest.fixture(scope="package")
def fake() -> Iterator[tuple[FakeChat, str]]:
    """The scripted server and the address of its host page, which embeds the widget from another origin."""
    chat = FakeChat()
    with serving(create_app(chat)) as port:
        yield chat, f"http://localhost:{port}/"


@pytest.fixture
def chat(fake: tuple[FakeChat, str]) -> Iterator[FakeChat]:
    """The scripted server, as new."""
    fake[0].reset()
    yield fake[0]
    fake[0].go.set()


@pytest.fixture
def host(chat: FakeChat, fake: tuple[FakeChat, str]) -> str:
    """The host page's address."""
    return fake[1]
