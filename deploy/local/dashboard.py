"""The stand-in dashboard: a page over the same public surfaces that the real dashboard uses, for one local user."""

import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx2
import psycopg
import uvicorn
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from deploy.local import dashboard_site
from deploy.local.client import DashboardClient, Refused, Row
from deploy.local.dashboard_deps import Client, StackFile, present_client

MAX_UPLOAD_BYTES = 512 * 1024 * 1024
UNREACHABLE = {
    psycopg.OperationalError: "The dashboard's database does not answer. Try again in a moment.",
    httpx2.TransportError: "The API does not answer. Try again in a moment.",
    BotoCoreError: "The file storage does not answer. Try again in a moment.",
    ClientError: "The file storage refused the file.",
    OSError: "The stack is not up yet. Try again in a moment.",
}
PENDING = "Saved, but the training could not be started: {} It starts by itself when that is over."

router = APIRouter(prefix="/dashboard/api")


Text = Annotated[str, Field(min_length=1, max_length=200)]


class BotForm(BaseModel):
    """What the page lets an owner set."""

    name: Text
    welcome_message: str = Field(default="", max_length=1000)
    fallback_message: str = Field(default="", max_length=1000)
    disclaimer: str = Field(default="", max_length=500)
    sample_questions: list[Text] = Field(default=[], max_length=6)

    def config(self) -> Row:
        """The bot's configuration; what was left empty keeps the service's default."""
        return {key: value or None for key, value in self.model_dump(exclude={"name"}).items()}


class Pair(BaseModel):
    """One of the owner's own questions with its answer."""

    question: str = Field(min_length=1, max_length=2000)
    answer: str = Field(min_length=1, max_length=20_000)


class SourceForm(BaseModel):
    """A source as the page's forms send it; files come as bodies of their own."""

    type: Literal["url", "site", "sitemap", "text", "qa"]
    url: str = Field(default="", max_length=4000)
    max_pages: int | None = Field(default=None, ge=1, le=50_000)
    title: str = Field(default="", max_length=200)
    text: str = Field(default="", max_length=2_000_000)
    pairs: list[Pair] = Field(default=[], max_length=500)

    def add(self, client: DashboardClient, bot_id: UUID) -> UUID:
        """Writes the row; its id."""
        match self.type:
            case "url":
                return client.add_url_source(bot_id, self.url)
            case "site":
                return client.add_site_source(bot_id, self.url, self.max_pages)
            case "sitemap":
                return client.add_sitemap_source(bot_id, self.url, self.max_pages)
            case "text":
                return client.add_text_source(bot_id, self.title or "Text", self.text)
            case "qa":
                pairs = [pair.model_dump() for pair in self.pairs]
                return client.add_qa_source(bot_id, self.title or "Questions and answers", pairs)


@router.get("/state")
def state(client: Client) -> dict[str, Any]:
    """What the page starts from."""
    return {"api_url": client.stack["api_url"], "bots": client.bots()}


@router.post("/bots", status_code=201)
def add_bot(form: BotForm, client: Client) -> dict[str, UUID]:
    """A new bot."""
    return {"id": client.add_bot(form.name, form.config())}


@router.put("/bots/{bot_id}", status_code=204)
def change_bot(bot_id: UUID, form: BotForm, client: Client) -> None:
    """Another name, other words."""
    client.change_bot(bot_id, form.name, form.config())


@router.get("/bots/{bot_id}/sources")
def sources(bot_id: UUID, client: Client) -> list[Row]:
    """The bot's sources and how far each has come."""
    return client.sources(bot_id)


@router.post("/bots/{bot_id}/sources", status_code=201)
def add_source(bot_id: UUID, form: SourceForm, client: Client) -> dict[str, Any]:
    """Adds a source and has it trained."""
    return _queued(client, form.add(client, bot_id))


@router.post("/bots/{bot_id}/files", status_code=201)
async def add_file(bot_id: UUID, filename: Annotated[str, Query(max_length=255)], request: Request) -> dict[str, Any]:
    """Adds the file that is the request's body and has it trained."""
    with tempfile.TemporaryFile() as body:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > MAX_UPLOAD_BYTES:
                raise Refused(413, "too_large", f"Files may have {MAX_UPLOAD_BYTES >> 20} MB at most.")
            body.write(piece)
        body.seek(0)
        client = await run_in_threadpool(present_client, request)
        name = Path(filename).name or "file"
        source_id = await run_in_threadpool(client.add_file, bot_id, name, body, size)
        return await run_in_threadpool(_queued, client, source_id)


@router.post("/sources/{source_id}/train")
def train(source_id: UUID, client: Client) -> Row:
    """Trains a source again."""
    return client.queue(source_id)


@router.delete("/sources/{source_id}")
def delete(source_id: UUID, client: Client) -> Row:
    """Deletes a source."""
    return client.delete_source(source_id)


@router.get("/jobs/{job_id}")
def job(job_id: UUID, client: Client) -> Row:
    """A job's stage, progress and receipt."""
    return client.job(job_id)


def _queued(client: DashboardClient, source_id: UUID) -> dict[str, Any]:
    try:
        return {"source_id": source_id, "job": client.queue(source_id), "notice": None}
    except httpx2.TransportError:
        return {"source_id": source_id, "job": None, "notice": PENDING.format("the API does not answer.")}
    except Refused as refusal:
        if refusal.status < 500:
            raise
        return {"source_id": source_id, "job": None, "notice": PENDING.format(refusal.detail)}


def _refused(_: Request, refusal: Exception) -> JSONResponse:
    assert isinstance(refusal, Refused)
    return JSONResponse({"code": refusal.code, "detail": refusal.detail}, refusal.status)


def _unreachable(_: Request, error: Exception) -> JSONResponse:
    detail = next(detail for kind, detail in UNREACHABLE.items() if isinstance(error, kind))
    return JSONResponse({"code": "unavailable", "detail": detail}, 503)


async def _own_pages_only(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    # The page has no login: another website that the user has open must not write through it.
    if request.method not in {"GET", "HEAD"} and request.headers.get("sec-fetch-site", "none") not in {
        "none",
        "same-origin",
    }:
        return JSONResponse({"code": "forbidden_origin", "detail": "Only the dashboard's own pages may do this."}, 403)
    return await call_next(request)


def create_app(stack_json: Path) -> FastAPI:
    """The dashboard over the stack that `stack_json` describes; it may come up later."""
    app = FastAPI(title="Stand-in dashboard", openapi_url=None)
    app.state.stack_file = StackFile(stack_json)
    app.middleware("http")(_own_pages_only)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app.add_exception_handler(Refused, _refused)
    for kind in UNREACHABLE:
        app.add_exception_handler(kind, _unreachable)
    app.include_router(router)
    dashboard_site.include(app)
    return app


def main() -> None:
    """Serves the dashboard on 127.0.0.1:$DASHBOARD_PORT for the stack in $STACK_JSON."""
    app = create_app(Path(os.environ["STACK_JSON"]))
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["DASHBOARD_PORT"]), log_level="warning")


if __name__ == "__main__":
    main()
