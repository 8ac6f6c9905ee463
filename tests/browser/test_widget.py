"""The widget against a scripted server, on a host page whose policy forbids inline style, eval and HTML strings."""

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_chat import FakeChat
from tests.conformance.scripted import (
    Again,
    Close,
    Delta,
    Done,
    Error,
    Frame,
    Hold,
    Sources,
    UntilStop,
    conversation_id,
    message_id,
)

pytestmark = pytest.mark.browser

HOURS: Frame = {
    "n": 1,
    "title": "Opening hours",
    "url": "https://harbour.example/hours#:~:text=open",
    "page": None,
    "heading": "Winter",
}
MANUAL: Frame = {"n": 2, "title": "Workshop manual", "url": None, "page": 7, "heading": "Brakes"}


def until(condition: Callable[[], bool]) -> None:
    """Waits for something on the server's side, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def open_chat(page: Page, host: str) -> None:
    """The host page with its panel open and ready."""
    page.goto(host)
    page.get_by_role("button", name="Open chat").click()
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()


def ask(page: Page, question: str = "When are you open?") -> None:
    """Types a question and presses Enter."""
    page.get_by_role("textbox").fill(question)
    page.get_by_role("textbox").press("Enter")


def test_an_answer_streams_and_names_its_sources(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append(
        [
            Sources([HOURS, MANUAL, {**HOURS, "n": 3, "title": "Not cited"}]),
            Delta("From **nine** [1]"),
            Hold(),
            Delta(", see the manual [2]. [9]"),
            Done([1, 2]),
        ]
    )
    ask(page)
    answer = page.locator(".answer")
    expect(answer.locator("strong")).to_have_text("nine")
    expect(answer).to_have_attribute("aria-live", "off")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    chat.go.set()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    expect(answer).not_to_have_attribute("aria-live", "off")
    expect(answer.locator(".cite")).to_have_text(["1", "2"])
    expect(answer.locator("p").first).to_contain_text("[9]")
    sources = answer.get_by_role("list", name="").locator("li")
    expect(sources).to_have_count(2)
    link = sources.nth(0).get_by_role("link", name="Opening hours")
    expect(link).to_have_attribute("href", str(HOURS["url"]))
    expect(link).to_have_attribute("rel", "noopener")
    expect(link).to_have_attribute("target", "_blank")
    expect(sources.nth(0)).to_contain_text("Winter · harbour.example")
    expect(sources.nth(1)).to_contain_text("page 7 · Brakes")
    expect(sources.nth(1).get_by_role("link")).to_have_count(0)
    answer.locator(".cite").nth(1).click()
    expect(sources.nth(1)).to_be_focused()


def test_the_ask_frame_is_the_protocols(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host + "?secret=1#x")
    chat.plays.append([Delta("Nine."), Done()])
    ask(page, "  When?  ")
    until(lambda: bool(chat.frames("ask")))
    auth, frame = chat.received[:2]
    assert auth["type"] == "auth"
    assert auth["token"].count(".") == 2
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", frame.pop("id"))
    assert frame == {"type": "ask", "text": "When?", "conversation_id": conversation_id(1), "page_url": host}


HOSTILE = [
    "<img src=x onerror=window.pwned=1>",
    "<script>window.pwned=1</script>",
    "[click](javascript:window.pwned=1)",
    "[click](JaVaScRiPt&colon;window.pwned=1)",
    "[click](data:text/html,<script>window.pwned=1</script>)",
    "[click](vbscript:msgbox)",
    "[click](//evil.example/x)",
    "[click](https://bank.example@evil.example/)",
    '[a](https://ok.example/"onmouseover="window.pwned=1)',
    "![pixel](https://evil.example/pixel.png)",
    "`</code><svg onload=window.pwned=1>`",
    "```\n</pre><iframe src=javascript:window.pwned=1></iframe>",
    "**<b onclick=window.pwned=1>bold</b>**",
    "> <style>@import 'https://evil.example/x.css'</style>",
    "- <a href='javascript:window.pwned=1'>item</a>",
    "{{constructor.constructor('window.pwned=1')()}} __proto__ \u202egnp.exe",
]


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_text_stays_text(page: Page, host: str, chat: FakeChat, payload: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    chat.bot |= {
        "name": payload,
        "welcome_message": payload + "\n\nHello! Ask about repairs.",
        "sample_questions": [payload],
        "disclaimer": payload,
    }
    open_chat(page, host)
    source = {"n": 1, "title": payload, "url": "javascript:window.pwned=1", "page": payload, "heading": payload}
    chat.plays.append([Sources([source]), Delta(payload + " [1]"), Done([1], more={"sample_questions": [payload]})])
    ask(page, payload)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    expect(page.locator(".sources li")).to_contain_text(re.sub(r"\s+", " ", payload))
    made = "script, img, iframe, style, link, object, b, svg[onload], [onerror], [onclick], [onmouseover], [style]"
    assert page.locator("chat-widget").locator(made).count() == 0
    for address in page.locator("chat-widget a:not(.cite)").evaluate_all("links => links.map(link => link.href)"):
        assert re.match(r"https?://[^/@]+/", address)
    assert page.evaluate("window.pwned") is None
    assert all(url.startswith(("http://localhost:", "http://127.0.0.1:")) for url in requests)


def test_markdown_becomes_elements(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    text = "# Title\nTwo *soft*\nlines.\n\n- one\n- `two`\n  more\n\n3. three\n4. four\n\n> quoted\n\n```js\na <b> [1]\n```\n[ours](https://a.example/x_(y)) and https://b.example/."
    chat.plays.append([Delta(text), Done()])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    body = page.locator(".answer .body")
    assert body.locator("> *").evaluate_all("nodes => nodes.map(node => node.tagName)") == [
        "P",
        "P",
        "UL",
        "OL",
        "BLOCKQUOTE",
        "PRE",
        "P",
    ]
    expect(body.locator("em")).to_have_text("soft")
    expect(body.locator("ul li")).to_have_text(["one", "two more"])
    expect(body.locator("ol")).to_have_attribute("start", "3")
    expect(body.locator("pre")).to_have_text("a <b> [1]")
    assert body.locator("a").evaluate_all("links => links.map(link => link.href)") == [
        "https://a.example/x_(y)",
        "https://b.example/",
    ]


def test_a_table_keeps_its_columns_and_a_quote_its_blocks(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    table = "| Place | Price |\n|---|:--|\n| *Skye* | £129 [1] |\n"
    chat.plays.append([Sources([HOURS]), Delta(table + "\n> - one\n> - two\n> > three"), Done([1])])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    body = page.locator(".answer .body")
    expect(body.locator("th")).to_have_text(["Place", "Price"])
    expect(body.locator("td")).to_have_text(["Skye", "£129 1"])
    expect(body.locator("td .cite")).to_have_count(1)
    expect(body.locator("blockquote li")).to_have_text(["one", "two"])
    expect(body.locator("blockquote p")).to_have_text("> three")


def test_a_replayed_frame_counts_once(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From "), Again(), Delta("nine."), Again(), Hold(), Done()])
    ask(page)
    expect(page.locator(".answer .body")).to_have_text("From nine.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()


MARKS = ["[", "*", "`", "> ", "[a](", "[a](b(", "1. ", "|", "\n|a|", "\n> |", "https://a."]


@pytest.mark.parametrize(
    "text", [*(mark * 5_000 for mark in MARKS), "|" * 5_000 + "\n|a|" * 5_000], ids=[*MARKS, "wide"]
)
def test_a_long_run_of_marks_does_not_hang_the_page(page: Page, host: str, chat: FakeChat, text: str) -> None:
    open_chat(page, host)
    chat.plays.append([Delta(text), Done()])
    ask(page)
    page.get_by_role("button", name="Helpful", exact=True).wait_for(timeout=5_000)


def test_stop_ends_the_answer(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("It is a long story"), UntilStop(), Done(finish_reason="stopped")])
    ask(page)
    expect(page.get_by_text("It is a long story")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("textbox")).to_be_focused()
    assert chat.frames("stop") == [{"type": "stop", "id": chat.frames("ask")[0]["id"]}]


def test_after_a_cut_the_rest_of_the_answer_is_asked_for(page: Page, host: str, chat: FakeChat) -> None:
    chat.resumable = True
    open_chat(page, host)
    chat.plays.append([Sources([]), Delta("From ni"), Close(1012)])
    chat.plays.append([Delta("ne "), Close(1011)])
    chat.plays.append([Delta("to five."), Done()])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    expect(page.locator(".answer .body")).to_have_text("From nine to five.")
    (asked,) = chat.frames("ask")
    expected = {"type": "resume", "conversation_id": asked["conversation_id"], "id": asked["id"]}
    assert chat.frames("resume") == [{**expected, "after": 2}, {**expected, "after": 3}]


def test_an_answer_that_begins_again_starts_over_on_the_screen(page: Page, host: str, chat: FakeChat) -> None:
    chat.resumable = True
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("Old words"), Close(1012)])
    chat.plays.append([Sources([]), Delta("New words"), Hold(), Done(more={"text": "New words"})])
    ask(page)
    expect(page.locator(".answer .body")).to_have_text("New words")
    chat.go.set()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    expect(page.locator(".answer .body")).to_have_text("New words")


def test_an_answer_that_begins_again_with_the_same_words_shows_them(page: Page, host: str, chat: FakeChat) -> None:
    chat.resumable = True
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("From nine"), Close(1012)])
    chat.plays.append([Sources([]), Hold(), Delta("From nine")])
    ask(page)
    expect(page.locator(".answer .thinking")).to_be_visible()
    chat.go.set()
    expect(page.locator(".answer .body")).to_have_text("From nine")


def test_what_cannot_be_resumed_is_asked_again_under_its_id(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From ni"), Close(1012)])
    chat.plays.append([Delta("From nine."), Done()])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    expect(page.locator(".answer .body")).to_have_text("From nine.")
    first, second = chat.frames("ask")
    assert first == second
    assert [frame["after"] for frame in chat.frames("resume")] == [1]
    assert chat.connections == 2


def test_a_question_that_kills_every_connection_is_given_up(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    open_chat(page, host)
    chat.plays.extend([[Close(1011)]] * 9)
    ask(page)
    failed = page.get_by_role("button", name="Try again")
    for _ in range(60):
        page.clock.run_for(10_000)
        if failed.is_visible():
            break
        page.wait_for_timeout(100)
    expect(page.get_by_text("Something went wrong on our side.")).to_be_visible()
    assert len(chat.frames("ask")) == 5


def test_an_error_is_said_and_a_retry_is_a_new_question(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("Sor"), Error("provider_unavailable", {"retry_after": 1})])
    chat.plays.append([Delta("From nine."), Done()])
    ask(page)
    expect(page.get_by_text("The assistant can't answer right now.")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("textbox")).to_be_focused()
    expect(page.get_by_text("From nine.")).to_be_visible()
    first, second = chat.frames("ask")
    assert first["text"] == second["text"]
    assert first["id"] != second["id"]
    expect(page.locator("article")).to_have_count(1)


def test_an_unknown_error_shows_the_servers_sentence(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Error("something_new")])
    ask(page)
    expect(page.get_by_text("From the server.")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_an_error_of_something_else_leaves_the_question_open(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From nine."), Done()])
    chat.plays.append([Hold(), Error("internal", {"id": None}), Delta("Until six."), Done()])
    ask(page)
    expect(page.get_by_text("From nine.")).to_be_visible()
    ask(page, "Until when?")
    page.get_by_role("button", name="Helpful", exact=True).click()
    until(lambda: bool(chat.frames("feedback")))
    chat.go.set()
    expect(page.get_by_text("Until six.")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Something went wrong on our side.")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_half_a_character_does_not_spoil_a_question(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    page.get_by_role("textbox").evaluate("box => { box.value = 'When\\ud83d?'; box.dispatchEvent(new Event('input')) }")
    chat.plays.append([Delta("From nine."), Done()])
    page.get_by_role("textbox").press("Enter")
    expect(page.get_by_text("From nine.")).to_be_visible()
    assert chat.frames("ask")[0]["text"] == "When\ufffd?"


def test_a_token_that_does_not_come_is_asked_for_again(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    chat.silent_tokens = 1
    page.goto(host)
    page.get_by_role("button", name="Open chat").click()
    until(lambda: chat.tokens == 1)
    with page.expect_event("requestfailed"):
        page.clock.run_for(16_000)
    page.clock.run_for(2_000)
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    assert chat.tokens == 2


def test_a_renewal_that_does_not_come_is_tried_again(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    chat.token_lifetime_s = 2
    open_chat(page, host)
    chat.silent_tokens = 1
    page.clock.run_for(1_700)
    until(lambda: not chat.silent_tokens)
    with page.expect_event("requestfailed"):
        page.clock.run_for(16_000)
    page.clock.run_for(16_000)
    until(lambda: len(chat.frames("auth")) >= 2)
    assert chat.connections == 1


def test_more_words_leave_focus_and_selection_alone(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("From nine [1].\n\nUntil"), Hold(), Delta(" six.")])
    ask(page)
    link = page.locator(".sources a")
    link.focus()
    page.locator(".body p", has_text="From nine").evaluate("p => p.getRootNode().getSelection().selectAllChildren(p)")
    chat.go.set()
    expect(page.get_by_text("Until six.")).to_be_visible()
    expect(link).to_be_focused()
    selected = page.locator("chat-widget").evaluate("widget => widget.shadowRoot.getSelection().toString()")
    assert selected.startswith("From nine")


def test_a_site_that_is_not_allowed_is_told_so_and_left_alone(page: Page, host: str, chat: FakeChat) -> None:
    chat.refusals.extend([4403])
    page.clock.install()
    page.goto(host)
    page.get_by_role("button", name="Open chat").click()
    expect(page.get_by_text("The chat is not enabled for this website.")).to_be_visible()
    page.clock.run_for(120_000)
    assert chat.connections == 1
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("textbox")).to_be_focused()
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_an_expired_token_is_replaced_once(page: Page, host: str, chat: FakeChat) -> None:
    chat.refusals.extend([4401])
    open_chat(page, host)
    assert chat.tokens == 2
    chat.refusals.extend([4401, 4401])
    chat.plays.append([Close(4401)])
    ask(page)
    status = page.locator(".status")
    expect(status).to_contain_text("The chat could not sign you in.")
    expect(status.get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.parametrize("code", [1013, 4429])
def test_an_overloaded_server_is_left_in_peace_for_a_while(page: Page, host: str, chat: FakeChat, code: int) -> None:
    chat.refusals.extend([code])
    page.clock.install()
    page.goto(host)
    page.get_by_role("button", name="Open chat").click()
    expect(page.get_by_text("No connection. Trying again…")).to_be_visible()
    page.clock.run_for(2_000)
    page.wait_for_timeout(300)
    assert chat.connections == 1
    page.clock.run_for(6_000)
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    assert chat.connections == 2


def test_the_token_is_renewed_on_the_open_socket(page: Page, host: str, chat: FakeChat) -> None:
    chat.token_lifetime_s = 2
    open_chat(page, host)
    until(lambda: len(chat.frames("auth")) >= 2)
    assert chat.connections == 1
    assert len({frame["token"] for frame in chat.frames("auth")}) >= 2


def test_a_silent_server_is_noticed(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    open_chat(page, host)
    page.clock.run_for(26_000)
    until(lambda: bool(chat.frames("ping")))
    page.clock.run_for(26_000)
    until(lambda: chat.connections == 2)


def test_offline_is_said_and_the_question_waits(page: Page, host: str, chat: FakeChat) -> None:
    page.goto(host)
    page.context.set_offline(True)
    page.get_by_role("button", name="Open chat").click()
    expect(page.get_by_text("You are offline.")).to_be_visible()
    ask(page)
    chat.plays.append([Delta("From nine."), Done()])
    page.context.set_offline(False)
    expect(page.get_by_text("From nine.")).to_be_visible()
    expect(page.get_by_text("You are offline.")).to_have_count(0)


def test_history_survives_the_next_page_and_a_new_conversation_forgets_it(
    page: Page, host: str, chat: FakeChat
) -> None:
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("From nine [1]."), Done([1])])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    page.goto(host + "?next")
    expect(page.get_by_text("From nine")).to_be_visible()
    expect(page.get_by_role("link", name="Opening hours (opens in a new tab)")).to_be_visible()
    until(lambda: chat.connections == 2)
    chat.plays.append([Delta("Until six."), Done()])
    ask(page, "Until?")
    expect(page.get_by_text("Until six.")).to_be_visible()
    assert chat.frames("ask")[1]["conversation_id"] == conversation_id(1)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("article")).to_have_count(0)
    chat.plays.append([Delta("Hello."), Done()])
    expect(page.get_by_role("button", name="When are you open?")).to_be_visible()
    page.get_by_role("button", name="When are you open?").click()
    expect(page.get_by_text("Hello.", exact=True)).to_be_visible()
    assert chat.frames("ask")[2]["conversation_id"] == conversation_id(3)


def test_another_visitor_of_the_same_tab_sees_nothing_of_it(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("Your order is 4711."), Done()])
    ask(page)
    expect(page.get_by_text("4711")).to_be_visible()
    chat.visitor = "visitor-2"
    page.reload()
    until(lambda: chat.connections == 2)
    expect(page.get_by_text("4711")).to_have_count(0)


def test_feedback_is_sent_once_connected_again(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From nine."), Done(), Close(1012)])
    ask(page)
    page.get_by_role("button", name="Not helpful").click()
    expect(page.get_by_role("button", name="Not helpful")).to_have_attribute("aria-pressed", "true")
    until(lambda: bool(chat.frames("feedback")))
    assert chat.frames("feedback") == [
        {"type": "feedback", "message_id": message_id(chat.frames("ask")[0]["id"]), "value": "down"}
    ]


def test_no_answer_offers_other_questions(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append(
        [Delta("I don't know."), Done(finish_reason="no_answer", more={"sample_questions": ["Do you rent?"]})]
    )
    chat.plays.append([Delta("We do."), Done()])
    ask(page)
    page.get_by_role("button", name="Do you rent?").click()
    expect(page.get_by_text("We do.")).to_be_visible()


def test_the_keyboard_is_enough(page: Page, host: str, chat: FakeChat) -> None:
    page.goto(host)
    launcher = page.get_by_role("button", name="Open chat")
    expect(launcher).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    box = page.get_by_role("textbox")
    expect(box).to_be_focused()
    box.press_sequentially("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    expect(box).to_have_value("one\ntwo")
    chat.plays.append([Delta("Yes."), Done()])
    expect(page.get_by_text("Hello! Ask about repairs.")).to_be_visible()
    box.press("Enter")
    until(lambda: bool(chat.frames("ask")))
    assert chat.frames("ask")[0]["text"] == "one\ntwo"
    box.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(launcher).to_be_focused()


def test_screen_readers_hear_the_log(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    log = page.get_by_role("log", name="Conversation")
    expect(log).to_have_attribute("aria-live", "polite")
    expect(page.get_by_role("dialog", name="Harbour Lane")).to_be_visible()
    expect(page.get_by_text("Answers can be wrong.")).to_be_visible()


def test_the_panel_fills_a_phone(page: Page, host: str, chat: FakeChat) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    chat.attributes = "data-open"
    page.goto(host)
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Open chat").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box == {"x": 0, "y": 0, "width": 390, "height": 844}
    chat.plays.append([Delta("W" * 400 + " `" + "x" * 300 + "`"), Done()])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".log").evaluate("log => log.scrollWidth <= log.clientWidth")
    page.get_by_role("button", name="Close chat").click()
    expect(page.get_by_role("button", name="Open chat")).to_be_focused()


def test_attributes_place_colour_and_translate(page: Page, host: str, chat: FakeChat) -> None:
    chat.attributes = 'data-open data-title="Werkstatt" data-position="left" data-color="#ffdd55" data-lang="de"'
    page.goto(host)
    panel = page.get_by_role("dialog", name="Werkstatt")
    expect(panel).to_be_visible()
    box = panel.bounding_box()
    assert box is not None
    assert box["x"] == 20
    expect(page.get_by_role("textbox", name="Stellen Sie eine Frage…")).to_be_visible()
    launcher = page.get_by_role("button", name="Chat schließen").last
    expect(launcher).to_have_css("background-color", "rgb(255, 221, 85)")
    expect(launcher).to_have_css("color", "rgb(0, 0, 0)")


def test_a_target_holds_the_panel_inline(page: Page, host: str, chat: FakeChat) -> None:
    chat.attributes = 'data-target="#chat"'
    page.goto(host)
    expect(page.locator("#chat").get_by_text("Hello! Ask about repairs.")).to_be_visible()
    expect(page.get_by_role("button", name="Open chat")).to_have_count(0)
    page.get_by_role("textbox").press("Escape")
    expect(page.get_by_role("region", name="Harbour Lane")).to_be_visible()


def test_a_removed_widget_hangs_up(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    page.evaluate("document.querySelector('chat-widget').remove()")
    until(lambda: chat.open == 0)
    page.wait_for_timeout(300)
    assert chat.connections == 1


def test_no_socket_until_the_panel_is_opened(page: Page, host: str, chat: FakeChat) -> None:
    page.goto(host)
    expect(page.get_by_role("button", name="Open chat")).to_be_visible()
    assert chat.connections == 0
    assert chat.tokens == 0
