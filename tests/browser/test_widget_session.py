"""What becomes of questions: refused connections, stops that meet no server, visitors who are not yet known."""

import re

import pytest
from fastapi import Response
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.browser.fake_chat import FakeChat
from tests.browser.test_widget import ask, open_chat, until
from tests.conformance.scripted import Close, Delta, Done, Hold, UntilStop

pytestmark = pytest.mark.browser

STOPPED = Done(finish_reason="stopped")


def kinds(chat: FakeChat) -> list[str]:
    """The types of the frames that the widget sent, without those of the handshake."""
    return [frame["type"] for frame in chat.received if frame["type"] != "auth"]


def status_line(page: Page) -> Locator:
    """What the widget says of its connection."""
    return page.locator("p.status")


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        ([4403], "The chat is not enabled for this website."),
        ([4401, 4401], "The chat could not sign you in."),
    ],
)
def test_a_question_fails_with_the_connection_and_can_be_asked_again(
    page: Page, host: str, chat: FakeChat, codes: list[int], sentence: str
) -> None:
    open_chat(page, host)
    chat.refusals.extend(codes)
    chat.plays.append([Delta("From ni"), Close(1012)])
    ask(page)
    question = page.locator("article")
    expect(question).to_contain_text(sentence)
    expect(status_line(page)).to_contain_text(sentence)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    status_line(page).get_by_role("button", name="Try again").click()
    expect(status_line(page)).to_have_text("")
    expect(question).to_contain_text(sentence)
    chat.plays.append([Delta("From nine."), Done()])
    question.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("From nine.")).to_be_visible()
    expect(page.locator("article")).to_have_count(1)


def test_a_question_that_was_open_fails_on_the_next_page_when_that_is_refused(
    page: Page, host: str, chat: FakeChat
) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From ni"), Hold()])
    ask(page)
    expect(page.get_by_text("From ni")).to_be_visible()
    chat.refusals.append(4403)
    page.reload()
    question = page.locator("article")
    expect(question).to_contain_text("The chat is not enabled for this website.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    chat.plays.append([Delta("From nine."), Done()])
    question.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("From nine.")).to_be_visible()


# --- the token address -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "sentence", "again"),
    [
        ("en", "The chat is not available right now.", "Try again"),
        ("de", "Der Chat ist im Moment nicht verfügbar.", "Noch einmal"),
    ],
)
def test_a_refused_token_is_said_and_left_alone_until_the_visitor_tries_again(
    page: Page, host: str, chat: FakeChat, lang: str, sentence: str, again: str
) -> None:
    chat.attributes, chat.lang = "data-open", lang
    chat.no_token = Response("secret", status_code=404)
    page.clock.install()
    with page.expect_console_message(lambda message: message.text.startswith("chat widget: ")) as said:
        page.goto(host)
    assert said.value.type == "error"
    assert said.value.text == "chat widget: the token address answered 404"
    expect(status_line(page)).to_contain_text(sentence)
    ask(page)
    expect(page.locator("article")).to_contain_text(sentence)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.clock.run_for(120_000)
    assert requests == []
    chat.no_token = None
    status_line(page).get_by_role("button", name=again).click()
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    expect(status_line(page)).to_have_text("")


@pytest.mark.parametrize(
    "body",
    [
        "<!doctype html><title>v1.0 Log in</title>",
        '{"token": null}',
        '{"token": "s3cret-that-is-no-token"}',
        '{"token": "s3cret',
        "s3cret.bnVsbA.x",
        "",
    ],
)
def test_an_answer_that_is_no_token_is_a_fault_of_the_page(page: Page, host: str, chat: FakeChat, body: str) -> None:
    chat.attributes = "data-open"
    chat.no_token = Response(body, media_type="text/html")
    with page.expect_console_message(lambda message: message.text.startswith("chat widget: ")) as said:
        page.goto(host)
    assert said.value.text == "chat widget: the token address answered something that is no token"
    expect(status_line(page)).to_contain_text("The chat is not available right now.")
    assert chat.connections == 0


@pytest.mark.parametrize("status", [429, 503])
def test_what_may_pass_is_tried_again_and_told_the_console_once(
    page: Page, host: str, chat: FakeChat, status: int
) -> None:
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.text.startswith("chat widget: "):
            said.append(message.text)

    page.on("console", note)
    chat.attributes = "data-open"
    chat.no_token = Response(status_code=status)
    page.clock.install()
    page.goto(host)
    expect(status_line(page)).to_have_text("No connection. Trying again…")
    for _ in range(2):
        with page.expect_response(re.compile("/token$")):
            page.clock.run_for(4_000)
    chat.no_token = None
    with page.expect_response(re.compile("/token$")):
        page.clock.run_for(16_000)
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    assert said == [f"chat widget: the token address answered {status}"]


def test_a_token_address_that_cannot_be_reached_is_named_to_the_console(page: Page, host: str, chat: FakeChat) -> None:
    page.route("**/token", lambda route: route.abort())
    chat.attributes = "data-open"
    with page.expect_console_message(lambda message: message.text.startswith("chat widget: ")) as said:
        page.goto(host)
    assert said.value.text == "chat widget: the token address can't be reached: Failed to fetch"


# --- who is there ----------------------------------------------------------------------------------------------------


@pytest.fixture
def told(page: Page, host: str, chat: FakeChat) -> Page:
    """The page of a visitor who was told something personal, and has another question open."""
    open_chat(page, host)
    chat.plays.append([Delta("Your order is 4711." + "\n\nIt has come a long way." * 30), Done()])
    ask(page, "Where is it?")
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    chat.plays.append([Delta("Let me see"), Hold()])
    ask(page, "And my other one?")
    expect(page.get_by_text("Let me see")).to_be_visible()
    return page


def test_nothing_remembered_is_shown_to_whom_the_site_does_not_know(told: Page, chat: FakeChat) -> None:
    chat.no_token = Response(status_code=401)
    told.reload()
    expect(status_line(told)).to_contain_text("The chat is not available right now.")
    ask(told, "Who am I?")
    expect(told.locator("article")).to_have_count(1)
    expect(told.locator("article")).to_contain_text("Who am I?")
    chat.no_token, chat.visitor = None, "visitor-2"
    status_line(told).get_by_role("button", name="Try again").click()
    expect(status_line(told)).to_have_text("")
    until(lambda: chat.connections == 2)
    expect(told.locator("article")).to_have_count(1)
    assert len(chat.frames("ask")) == 2
    assert "4711" not in told.evaluate("JSON.stringify(sessionStorage)")


def test_what_is_remembered_comes_back_with_its_visitor_and_before_what_was_asked_meanwhile(
    told: Page, chat: FakeChat
) -> None:
    chat.no_token = Response(status_code=401)
    told.reload()
    expect(status_line(told)).to_contain_text("The chat is not available right now.")
    chat.no_token, chat.silent_tokens = None, 1
    told.reload()
    until(lambda: not chat.silent_tokens)
    expect(told.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    expect(told.get_by_role("button", name="When are you open?")).to_have_count(0)
    ask(told, "And a third?")
    expect(told.locator("article")).to_have_count(1)
    chat.plays.append([Delta("It is 4712."), Done()])
    chat.plays.append([Delta("There is none."), Done()])
    chat.go.set()
    expect(told.get_by_text("There is none.")).to_be_visible()
    expect(told.locator("article .question")).to_contain_text(["Where is it?", "And my other one?", "And a third?"])
    expect(told.locator("article").first).to_have_attribute("aria-live", "off")
    expect(told.locator("article .body")).to_contain_text(["Your order is 4711.", "It is 4712.", "There is none."])
    assert told.locator(".log").evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 2


def test_a_new_conversation_begun_by_an_unknown_visitor_forgets_the_remembered_one(told: Page, chat: FakeChat) -> None:
    chat.no_token = Response(status_code=401)
    told.reload()
    expect(status_line(told)).to_contain_text("The chat is not available right now.")
    told.get_by_role("button", name="New conversation").click()
    assert "4711" not in told.evaluate("JSON.stringify(sessionStorage)")


# --- stop ------------------------------------------------------------------------------------------------------------


def test_a_stop_that_was_lost_with_its_socket_goes_out_again_after_resume(
    page: Page, host: str, chat: FakeChat
) -> None:
    chat.resumable = True
    open_chat(page, host)
    chat.plays.append([Delta("It is a long"), UntilStop(), Close(1012)])
    chat.plays.append([UntilStop(), STOPPED])
    ask(page)
    expect(page.get_by_text("It is a long")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    assert kinds(chat) == ["ask", "stop", "resume", "stop"]
    assert len({frame["id"] for frame in chat.received if "id" in frame}) == 1


def test_a_stop_survives_the_page(page: Page, host: str, chat: FakeChat) -> None:
    chat.resumable = True
    open_chat(page, host)
    chat.plays.append([Delta("It is a long"), UntilStop(), Hold()])
    chat.plays.append([UntilStop(), STOPPED])
    ask(page)
    expect(page.get_by_text("It is a long")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.reload()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    assert kinds(chat) == ["ask", "stop", "resume", "stop"]


def test_a_stopped_answer_that_cannot_be_resumed_is_not_asked_for_again(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("It is a long"), UntilStop(), Close(1012)])
    ask(page)
    expect(page.get_by_text("It is a long")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.locator(".answer .body")).to_have_text("It is a long")
    assert len(chat.frames("ask")) == 1


def test_a_stop_without_connection_counts_at_once_and_is_told_later(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.silent_tokens = 1
    chat.plays.append([Delta("It is a long"), Close(1012)])
    ask(page)
    expect(status_line(page)).to_have_text("No connection. Trying again…")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    assert chat.frames("stop") == []
    chat.go.set()
    until(lambda: bool(chat.frames("stop")))
    assert kinds(chat) == ["ask", "stop"]
    assert chat.frames("stop")[0]["id"] == chat.frames("ask")[0]["id"]
    chat.plays.append([Delta("From nine."), Done(), Close(1012)])
    chat.plays.append([Delta("Until six."), Done()])
    ask(page)
    expect(page.get_by_text("From nine.")).to_be_visible()
    until(lambda: chat.connections == 3)
    ask(page, "Until when?")
    expect(page.get_by_text("Until six.")).to_be_visible()
    assert kinds(chat) == ["ask", "stop", "ask", "ask"]


def test_a_stop_that_nobody_answers_is_done_all_the_same(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    open_chat(page, host)
    chat.plays.append([Delta("It is a long"), UntilStop(), Hold(), Delta(" story"), Close(1012)])
    ask(page)
    expect(page.get_by_text("It is a long")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    until(lambda: bool(chat.frames("stop")))
    page.clock.run_for(6_000)
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    chat.go.set()
    page.clock.run_for(2_000)
    until(lambda: len(chat.frames("stop")) == 2)
    expect(page.locator(".answer .body")).to_have_text("It is a long")
    assert kinds(chat) == ["ask", "stop", "stop"]
