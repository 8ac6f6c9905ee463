"""The widget under the conformance kit's judge of clients: every scenario, and what it shows at each one's end."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from fastapi import Request, Response
from playwright.sync_api import Page

from chat_api.widget import widget_script
from tests.browser.fake_chat import HOST_PAGE
from tests.browser.test_widget import ask
from tests.conformance.judge import Judge
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.scripted import serving
from tests.conformance.serve import create_app
from tests.conformance.verdicts import Verdicts

pytestmark = pytest.mark.browser

WITHIN_S = 60
SHOWN = """widget => {
  const body = widget.shadowRoot.querySelector(".answer .body").cloneNode(true);
  for (const link of body.querySelectorAll(".cite")) link.textContent = `[${link.textContent}]`;
  const cited = Array.from(widget.shadowRoot.querySelectorAll(".sources .n"), (node) => Number(node.textContent));
  return { text: body.textContent, citations: cited };
}"""


@contextmanager
def judging(name: str, script: str) -> Iterator[tuple[Verdicts, str]]:
    """A judge of one scenario, and the address of a page with this widget, from another origin than the API's."""
    chosen = [scenario for scenario in SCENARIOS if scenario.name == name]
    verdicts = Verdicts(chosen, wants_shown=True, say=print)
    app = create_app(Judge(verdicts))

    @app.get("/widget.js")
    def widget() -> Response:
        return Response(script, media_type="text/javascript")

    @app.get("/page")
    def page(request: Request) -> Response:
        api = f"http://127.0.0.1:{request.url.port}"
        return Response(HOST_PAGE.format(api=api, attributes="data-open", lang="en"), media_type="text/html")

    with serving(app) as port:
        yield verdicts, f"http://localhost:{port}/page"


def play(page: Page, address: str, verdicts: Verdicts, name: str) -> None:
    """Has the widget ask for the scenario, and tells the judge what it shows."""
    page.goto(address)
    page.get_by_role("button", name=name, exact=True).wait_for()
    ask(page, name)
    if name == "a stop":
        page.get_by_text("It is a long").wait_for()
        page.get_by_role("button", name="Stop").click()
    deadline = WITHIN_S * 20
    while verdicts.results[name].seconds is None and deadline:
        page.wait_for_timeout(50)
        deadline -= 1
    shown = page.locator("chat-widget").evaluate(SHOWN)
    base = address.removesuffix("page").replace("localhost", "127.0.0.1")
    httpx2.post(f"{base}shown/{name}", json=shown, trust_env=False).raise_for_status()


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_the_widget_passes(page: Page, name: str) -> None:
    with judging(name, widget_script()) as (verdicts, address):
        play(page, address, verdicts, name)
        assert [(result.problems, verdicts.of(result)) for result in verdicts.results.values()] == [([], "ok")] * 2


@pytest.mark.parametrize(
    ("name", "right", "wrong", "problem"),
    [
        ("an error after frames that came twice", "if (frame.seq <= turn.seq) return;", "", "it shows text"),
        ("a cut connection", "if (turn.sends > 1) this.#resume(turn);", "turn.id += 'x'; if (0);", "under another id"),
        (
            "a stop",
            'this.connection.send({ type: "stop"',
            'this.connection.send({ type: "halt"',
            "no frame of the schema",
        ),
    ],
)
def test_a_widget_that_is_wrong_is_found_out(page: Page, name: str, right: str, wrong: str, problem: str) -> None:
    assert right in widget_script()
    with judging(name, widget_script().replace(right, wrong)) as (verdicts, address):
        play(page, address, verdicts, name)
        assert problem in str(verdicts.results[name].problems)
