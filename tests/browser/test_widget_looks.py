"""What a visitor sees and hears of the widget: focus, language, colours, notes, and controls that do what they show."""

from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_chat import FakeChat
from tests.browser.test_widget import HOURS, ask, open_chat
from tests.conformance.scripted import Delta, Done, Error, Frame, Hold, Sources

pytestmark = pytest.mark.browser

MONTH_S = 30 * 24 * 3600
OTHER_QUESTIONS: Frame = {"sample_questions": ["Do you rent?"]}

CONTRASTS = """widget => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const linear = (channel) => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((channel) => linear(channel / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(node.parentElement) : colour;
  };
  const names = [".cite", ".sources a", ".chip", ".body a:not(.cite)", ".question", ".send", ".launcher", ".note", ".disclaimer"];
  return Object.fromEntries(names.map((name) => {
    const node = widget.shadowRoot.querySelector(name);
    const [dark, bright] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => a - b);
    return [name, (bright + 0.05) / (dark + 0.05)];
  }));
}"""
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
COLOURS = [
    "#ffdd55",
    "white",
    "black",
    "#ff6600",
    "rgb(0 120 165)",
    "oklch(0.92 0.17 100)",
    "oklch(0.3 0.1 260)",
    "color(display-p3 1 0.9 0.3)",
]


def speaks(page: Page, selector: str, language: str) -> bool:
    """Whether there is such an element and the browser takes all of them for this language."""
    return bool(
        page.locator(selector).evaluate_all(
            "(nodes, language) => nodes.length > 0 && nodes.every((node) => node.matches(`:lang(${language})`))",
            language,
        )
    )


def test_the_stop_button_leaves_its_focus_to_the_input(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From nine."), Hold(), Done()])
    ask(page)
    page.get_by_role("button", name="Stop").focus()
    chat.go.set()
    expect(page.get_by_role("textbox")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_source_keeps_its_focus_when_the_answer_ends(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("From nine [1]."), Done([1])])
    chat.plays.append([Sources([HOURS]), Delta("Until six [1]."), Hold(), Done([1])])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    ask(page, "Until when?")
    link = page.locator(".sources a").nth(1)
    link.focus()
    chat.go.set()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_have_count(2)
    expect(link).to_be_focused()


def test_a_citation_keeps_its_focus_while_more_words_come(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("From nine [1]"), Hold(), Delta(" until six.")])
    ask(page)
    citation = page.locator(".cite")
    citation.focus()
    chat.go.set()
    expect(page.get_by_text("until six.")).to_be_visible()
    expect(citation).to_be_focused()


def test_a_link_that_went_with_the_answer_leaves_its_focus_to_the_input(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Sources([HOURS]), Delta("From nine [1]."), Hold(), Done([], more={"text": "From nine."})])
    ask(page)
    page.locator(".sources a").focus()
    chat.go.set()
    expect(page.get_by_role("textbox")).to_be_focused()


def test_an_answer_that_ends_leaves_the_selection_alone(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("From nine."), Hold(), Done()])
    ask(page)
    expect(page.locator(".answer p")).to_have_text("From nine.")
    page.locator("chat-widget").evaluate(
        "({ shadowRoot }) => shadowRoot.getSelection().selectAllChildren(shadowRoot.querySelector('.answer p'))"
    )
    chat.go.set()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    expect(page.locator(".answer")).not_to_have_attribute("aria-live", "off")
    assert page.locator("chat-widget").evaluate("it => it.shadowRoot.getSelection().toString()") == "From nine."


@pytest.mark.parametrize("lang", ["fr", ""])
def test_the_bots_words_are_of_the_pages_language(page: Page, host: str, chat: FakeChat, lang: str) -> None:
    chat.lang = lang
    open_chat(page, host)
    assert not speaks(page, ".chip", "en")
    chat.plays.append([Sources([HOURS]), Delta("De neuf heures [1]."), Done([1], more=OTHER_QUESTIONS)])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    for selector in (".body", ".chip", ".disclaimer", ".question > :not(.quiet)", ".sources a > :first-child", "h2"):
        assert speaks(page, selector, lang) if lang else not speaks(page, selector, "en"), selector
    for selector in ("textarea", ".launcher", ".quiet", ".tool", ".sources h3", ".status", ".log"):
        assert speaks(page, selector, "en"), selector


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_is_readable_in_both_schemes(page: Page, host: str, chat: FakeChat, colour: str) -> None:
    chat.attributes = f'data-color="{colour}"'
    open_chat(page, host)
    answer = Delta("From nine [1], see https://harbour.example/hours.")
    chat.plays.append([Sources([HOURS]), answer, Done([1], "stopped", OTHER_QUESTIONS)])
    ask(page)
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_visible()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        contrasts = page.locator("chat-widget").evaluate(CONTRASTS)
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}, scheme


@pytest.mark.parametrize(("lang", "note"), [("en", "The answer ends here"), ("de", "Die Antwort endet hier")])
def test_an_answer_that_got_too_long_says_so(page: Page, host: str, chat: FakeChat, lang: str, note: str) -> None:
    chat.attributes = f'data-open data-lang="{lang}"'
    page.goto(host)
    chat.plays.append([Delta("From nine until"), Done(finish_reason="length")])
    ask(page)
    expect(page.locator(".note", has_text=note)).to_be_visible()


def test_back_online_the_last_status_is_shown_again(page: Page, host: str, chat: FakeChat) -> None:
    chat.refusals.append(4403)
    page.goto(host)
    page.get_by_role("button", name="Open chat").click()
    refusal = page.get_by_text("The chat is not enabled for this website.")
    expect(refusal).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    page.context.set_offline(False)
    expect(refusal).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_notice_goes_after_a_while(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    open_chat(page, host)
    chat.plays.append([Delta("From nine."), Error("internal", {"id": None}), Done()])
    ask(page)
    notice = page.get_by_text("Something went wrong on our side.")
    expect(notice).to_be_visible()
    page.clock.run_for(15_000)
    expect(notice).to_have_count(0)


def test_what_would_ask_waits_for_the_answer(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    chat.plays.append([Delta("I don't know."), Done(finish_reason="no_answer", more=OTHER_QUESTIONS)])
    chat.plays.append([Error("internal")])
    chat.plays.append([Error("rate_limited", {"retry_after": 3600})])
    chat.plays.append([Hold(), Delta("Until six."), Done()])
    again = page.get_by_role("button", name="Try again")
    other = page.get_by_role("button", name="Do you rent?")
    ask(page)
    expect(other).to_be_enabled()
    ask(page)
    expect(again).to_have_count(1)
    ask(page)
    expect(again).to_have_count(2)
    ask(page)
    for button in (other, again.nth(0), again.nth(1)):
        expect(button).to_be_disabled()
    expect(page.get_by_role("button", name="Helpful", exact=True)).to_be_enabled()
    chat.go.set()
    expect(page.get_by_text("Until six.")).to_be_visible()
    expect(other).to_be_enabled()
    expect(again.nth(0)).to_be_enabled()
    expect(again.nth(1)).to_be_disabled()


def test_the_launchers_title_says_what_it_does(page: Page, host: str, chat: FakeChat) -> None:
    open_chat(page, host)
    launcher = page.locator(".launcher")
    expect(launcher).to_have_attribute("title", "Close chat")
    launcher.click()
    expect(launcher).to_have_attribute("title", "Open chat")


def test_a_budget_that_is_used_up_has_no_period(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    open_chat(page, host)
    chat.plays.append([Error("budget_exhausted", {"retry_after": MONTH_S})])
    ask(page)
    expect(page.get_by_text("The assistant has reached its limit for now.")).to_be_visible()
    page.clock.run_for(2_000)
    expect(page.get_by_role("button", name="Try again")).to_be_disabled()


def test_a_wait_goes_on_over_the_next_page(page: Page, host: str, chat: FakeChat) -> None:
    page.clock.install()
    open_chat(page, host)
    chat.plays.append([Error("rate_limited", {"retry_after": 300})])
    ask(page)
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    page.clock.run_for(200_000)
    page.reload()
    expect(again).to_be_disabled()
    page.clock.run_for(150_000)
    expect(again).to_be_enabled()
