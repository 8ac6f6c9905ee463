"""`make demo`: starts the embedded stack, trains a site and a PDF, asks a question, prints the answer with its sources."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from websockets.sync.client import connect

from deploy.local import sample, stack
from deploy.local.client import DashboardClient, Refused, Row, read_stack
from deploy.local.sample.manual import write_manual
from deploy.local.state import StackError

BOT = "Help centre"
ANSWER_WITHIN_S = 60
SAMPLE = Path(sample.__file__).parent


def main(environ: Mapping[str, str]) -> int:
    """Runs the demo; its exit code."""
    root = Path(environ.get("STATE") or ".local")
    print("Starting the embedded stack (PostgreSQL, Redis, S3, API, workers, dashboard) ...", flush=True)
    try:
        stack.up_with(root, environ)
        client = DashboardClient(read_stack(root / "stack.json"))
        bot_id = client.ensure_org_and_bot(BOT, {"welcome_message": "Hello! Ask me anything about our shop."})
        trained = train(client, bot_id, sources(client, bot_id, root, environ))
        answered = trained and ask(client, bot_id, question(environ))
    except (StackError, Refused, OSError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"\nThe stack is up: dashboard and widget at {client.stack['dashboard_url']}  (`make down` ends it)")
    return 0 if answered else 1


def sources(client: DashboardClient, bot_id: UUID, root: Path, environ: Mapping[str, str]) -> list[UUID]:
    """The sources to train: URL or FILE where given, else the sample company's site and manual; made once."""
    known = {row["url"] or row["title"]: row["id"] for row in client.sources(bot_id)}
    if url := environ.get("URL"):
        return [known.get(url) or client.add_url_source(bot_id, url)]
    if file := environ.get("FILE"):
        return [client.add_file_source(bot_id, Path(file))]
    site, manual = f"{client.stack['dashboard_url']}/sample/index.html", root / "manual.pdf"
    write_manual(manual)
    return [
        known.get(site) or client.add_site_source(bot_id, site),
        known.get(manual.name) or client.add_file_source(bot_id, manual),
    ]


def train(client: DashboardClient, bot_id: UUID, source_ids: list[UUID]) -> bool:
    """Queues the sources and shows how far they are; whether all of them were trained."""
    names = {row["id"]: row["url"] or row["title"] for row in client.sources(bot_id)}
    jobs = [client.queue(source_id) for source_id in source_ids]
    print("Queued; the workers fetch, read, chunk, embed and store:", flush=True)
    told = Told({job["job_id"]: names[UUID(job["source_id"])] for job in jobs})
    finished = client.wait_until_done([job["job_id"] for job in jobs], told)
    return all(job["status"] == "succeeded" for job in finished)


class Told:
    """Prints a line about a job whenever its status or stage has changed."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._lines: dict[str, str] = {}

    def __call__(self, job: Row) -> None:
        line = f"  {self._names[job['job_id']]}: {_state(job)}"
        if self._lines.get(job["job_id"]) != line:
            self._lines[job["job_id"]] = line
            print(line, flush=True)


def _state(job: Row) -> str:
    if job["status"] == "succeeded":
        pages, chunks = job["receipt"]["pages"]["changed"], job["receipt"]["chunks"]["total"]
        return f"trained, {pages} page(s), {chunks} chunks, {job['receipt']['seconds']['total']:.1f} s"
    if job["error"]:
        return f"{job['status']}: {job['error']['message']}"
    return str(job["stage"] if job["status"] == "running" else job["status"])


def question(environ: Mapping[str, str]) -> str:
    """QUESTION, or one about what was trained."""
    if given := environ.get("QUESTION"):
        return given
    if environ.get("URL") or environ.get("FILE"):
        return "What is this about?"
    questions = json.loads((SAMPLE / "questions.json").read_text(encoding="utf-8"))
    return str(next(entry["question"] for entry in questions if entry.get("demo")))


def ask(client: DashboardClient, bot_id: UUID, text: str) -> bool:
    """Asks over the WebSocket, as a server would, prints the answer as it comes, then its sources; whether there was one."""
    token = client.sign_token("chat", bot_id=bot_id, subject="demo")
    address = client.stack["api_url"].replace("http", "ws", 1) + "/api/chat/ws"
    headers = {"Authorization": f"Bearer {token}"}
    offered: list[Row] = []
    print(f"\nQ: {text}\nA: ", end="")
    with connect(address, subprotocols=["chat.v1"], additional_headers=headers, proxy=None) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "ask", "id": "demo", "text": text}))
        while (frame := _frame(socket.recv(timeout=ANSWER_WITHIN_S)))["type"] != "done":
            if frame["type"] == "sources":
                offered = frame["sources"]
            elif frame["type"] == "delta":
                print(frame["text"], end="", flush=True)
            elif frame["type"] == "error":
                print(frame["message"])
                return False
    print("\n\nSources:")
    for source in offered:
        if source["n"] in frame["citations"]:
            page = f", page {source['page']}" if source["page"] else ""
            print(f"  [{source['n']}] {source['title']}{page}  {(source['url'] or '').partition('#:~:')[0]}".rstrip())
    return True


def _frame(raw: str | bytes) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(raw)
    return frame


if __name__ == "__main__":
    sys.exit(main(os.environ))
