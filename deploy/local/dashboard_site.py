"""The stand-in dashboard's pages: its own, the shop window with the floating widget, and the sample company's site."""

import html
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Cookie, FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import StringConstraints
from starlette.types import Scope

from deploy.local.client import DashboardClient, Refused
from deploy.local.dashboard_deps import Client

PAGES = Path(__file__).with_name("dashboard_page")
SAMPLE = Path(__file__).with_name("sample") / "site"
# Files that name the site by its whole address, which is known only once it is asked for.
TEMPLATES = {"sitemap.xml": "application/xml", "robots.txt": "text/plain"}
A_YEAR_S = 365 * 24 * 3600

router = APIRouter()


class SampleSite(StaticFiles):
    """The sample company's files as its server sends them: without a charset, and under whatever address."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file; its media type stands alone, so that readers must find out the charset by themselves."""
        if path in TEMPLATES:
            base = str(Request(scope).base_url).rstrip("/") + scope["root_path"]
            text = (SAMPLE / path).read_text(encoding="utf-8").replace("{base}", base)
            return Response(text, headers={"content-type": TEMPLATES[path]})
        response = await super().get_response(path, scope)
        if "content-type" in response.headers:
            response.headers["content-type"] = response.headers["content-type"].partition(";")[0]
        return response


@router.get("/")
def index(client: Client) -> Response:
    """The dashboard's only page."""
    return _page("index.html", client)


@router.get("/demo")
def demo(client: Client, bot_id: UUID | None = None) -> Response:
    """The company's shop window with the widget floating over it, for this bot or the first one."""
    chosen = bot_id or next((bot["id"] for bot in client.bots()), None)
    if chosen is None:
        return RedirectResponse("/")
    return _page("demo.html", client, token_url=f"/widget-token?bot_id={chosen}")


@router.get("/widget-token")
def widget_token(
    request: Request,
    response: Response,
    client: Client,
    bot_id: UUID,
    visitor: Annotated[str, Cookie(pattern="^[0-9a-f]{32}$")] = "",
) -> dict[str, str]:
    """A visitor's token for this page's origin; the visitor is known by a cookie."""
    if all(bot["id"] != bot_id for bot in client.bots()):
        raise Refused(404, "unknown_bot", "There is no bot with this id.")
    visitor = visitor or uuid4().hex
    origin = str(request.base_url).rstrip("/")
    client.allow_origin(bot_id, origin)
    response.set_cookie("visitor", visitor, max_age=A_YEAR_S, httponly=True, samesite="lax")
    response.headers["Cache-Control"] = "no-store"
    return {"token": client.sign_token("chat", bot_id=bot_id, subject=f"visitor-{visitor}", origins=[origin])}


@router.get("/assets/{name}")
def asset(name: Annotated[str, StringConstraints(pattern=r"^[a-z]+\.(js|css)$")]) -> Response:
    """A script or style sheet of these pages."""
    if not (PAGES / name).is_file():
        raise Refused(404, "not_found", "There is no such file.")
    return FileResponse(PAGES / name, headers={"Cache-Control": "no-cache"})


def include(app: FastAPI) -> None:
    """Adds these pages and the sample company's."""
    app.include_router(router)
    app.mount("/sample", SampleSite(directory=SAMPLE, html=True, check_dir=False))


def _page(name: str, client: DashboardClient, **values: str) -> Response:
    api = client.stack["api_url"]
    page = (PAGES / name).read_text(encoding="utf-8")
    for key, value in {"api_url": api, **values}.items():
        page = page.replace(f"{{{key}}}", html.escape(value))
    # Nothing but the widget comes from elsewhere; this holds for the widget, too, and shows that it needs no more.
    policy = (
        f"default-src 'none'; script-src 'self' {api}; style-src 'self'; img-src 'self' data:;"
        f" connect-src 'self' {api} {api.replace('http', 'ws', 1)}; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "Referrer-Policy": "same-origin"}
    return Response(page, media_type="text/html", headers=headers)
