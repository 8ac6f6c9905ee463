"""The main job in a browser, against the whole stack: add a source, watch it train, ask, see where the answer is from."""

from typing import cast
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from deploy.local.client import DashboardClient, Row, Stack

pytestmark = [pytest.mark.browser, pytest.mark.stack, pytest.mark.timeout(300)]

TRAINING_MS = 120_000
CARE = b"# Care of the Plover\n\nThe Plover's lid hinge takes exactly two drops of graphite oil every ninth firing.\n"


@pytest.fixture(scope="module")
def client(stack: Row) -> DashboardClient:
    """The dashboard's own way to the stack, for what a test needs beforehand."""
    return DashboardClient(cast(Stack, stack))


@pytest.fixture
def bot(client: DashboardClient) -> UUID:
    """A new bot without sources."""
    words = {"welcome_message": "Hello from the kilns!", "sample_questions": ["What does delivery cost?"]}
    return client.add_bot(f"Bot {uuid4()}", words)


@pytest.fixture
def dashboard(page: Page, stack: Row, bot: UUID) -> Page:
    """The dashboard's page, on the new bot."""
    page.goto(stack["dashboard_url"])
    page.get_by_label("Bot", exact=True).select_option(str(bot))
    expect(page.get_by_text("Hello from the kilns!")).to_be_visible()
    return page


def add_page(page: Page, address: str) -> Locator:
    """Adds one web page; its row in the list."""
    page.get_by_label("Address").fill(address)
    page.get_by_role("button", name="Add and train").click()
    return page.locator("#sources li").filter(has_text=address)


def ask(page: Page, question: str) -> Locator:
    """Asks in the widget; the finished answer."""
    page.get_by_role("textbox", name="Ask a question…").fill(question)
    page.keyboard.press("Enter")
    answer = page.locator("chat-widget .answer").last
    expect(answer.get_by_role("button", name="Helpful", exact=True)).to_be_visible(timeout=60_000)
    return answer


def test_a_page_is_added_trained_asked_about_and_cited(dashboard: Page, stack: Row) -> None:
    address = stack["dashboard_url"] + "/sample/delivery.html"
    source = add_page(dashboard, address)
    expect(source.get_by_text("Trained", exact=True)).to_be_visible(timeout=TRAINING_MS)
    answer = ask(dashboard, "What does it cost to ship a Heron to the Scottish Highlands?")
    expect(answer.locator(".body")).to_contain_text("£129")
    expect(answer.locator(".cite").first).to_be_visible()
    link = answer.locator(".sources").get_by_role("link").first
    assert (link.get_attribute("href") or "").startswith(address)
    source.get_by_role("button", name="Details").click()
    expect(source.get_by_text("chunks embedded")).to_be_visible()


def test_a_file_is_uploaded_trained_and_cited(dashboard: Page) -> None:
    dashboard.locator("#add .tabs").get_by_text("File").click()
    upload: FilePayload = {"name": "plover.md", "mimeType": "text/markdown", "buffer": CARE}
    dashboard.locator("#files").set_input_files([upload])
    source = dashboard.locator("#sources li").filter(has_text="plover.md")
    expect(source.get_by_text("Trained", exact=True)).to_be_visible(timeout=TRAINING_MS)
    answer = ask(dashboard, "How much graphite oil does the Plover's lid hinge need?")
    expect(answer.locator(".body")).to_contain_text("two drops")
    expect(answer.locator(".sources")).to_contain_text("Plover", ignore_case=True)


def test_a_page_that_is_missing_is_told_in_a_sentence_and_can_be_deleted(dashboard: Page, stack: Row) -> None:
    source = add_page(dashboard, stack["dashboard_url"] + "/sample/no-such-page.html")
    expect(source.get_by_text("Failed", exact=True)).to_be_visible(timeout=TRAINING_MS)
    expect(source.locator(".error")).to_contain_text("does not exist")
    dashboard.on("dialog", lambda dialog: dialog.accept())
    source.get_by_role("button", name="Delete").click()
    expect(source).to_have_count(0)
    expect(dashboard.get_by_text("Nothing here yet.")).to_be_visible()


def test_a_question_that_no_source_answers_gets_the_owners_words(
    dashboard: Page, client: DashboardClient, bot: UUID
) -> None:
    dashboard.get_by_role("button", name="Settings").click()
    dashboard.get_by_label("Said when the sources hold no answer").fill("Please ring us about that.")
    dashboard.get_by_role("button", name="Save").click()
    expect(dashboard.get_by_role("dialog")).to_be_hidden()
    assert (
        next(found for found in client.bots() if found["id"] == bot)["config"]["fallback_message"]
        == "Please ring us about that."
    )


def test_a_bot_is_made_on_the_page_and_greets(dashboard: Page) -> None:
    dashboard.get_by_role("button", name="New bot").click()
    dashboard.get_by_label("Name", exact=True).fill("Second bot")
    dashboard.get_by_label("Welcome message").fill("I am the second.")
    dashboard.get_by_role("button", name="Save").click()
    expect(dashboard.get_by_text("I am the second.")).to_be_visible()
    expect(dashboard.locator("chat-widget")).to_have_count(1)
    expect(dashboard.get_by_text("Hello from the kilns!")).to_have_count(0)


def test_the_demo_page_carries_the_floating_widget(page: Page, stack: Row, bot: UUID) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{stack['dashboard_url']}/demo?bot_id={bot}")
    page.get_by_role("button", name="Open chat").click()
    expect(page.get_by_text("Hello from the kilns!")).to_be_visible()
    expect(page.get_by_role("button", name="What does delivery cost?")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_dashboard_fits_a_phone(dashboard: Page, stack: Row) -> None:
    dashboard.set_viewport_size({"width": 390, "height": 844})
    add_page(dashboard, stack["dashboard_url"] + "/sample/delivery.html?" + "x" * 200)
    expect(dashboard.locator("#sources li")).to_be_visible()
    assert dashboard.evaluate("document.documentElement.scrollWidth") == 390
