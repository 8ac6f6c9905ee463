"""The main job on the embedded stack, by a client that knows only the public surfaces."""

import json
import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import boto3
import httpx2
import jwt
import psycopg
import pytest
from psycopg.types.json import Jsonb
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from deploy.local.sample.manual import write_manual

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

PAGE = "delivery.html"
QUESTIONS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "deploy/local/sample/questions.json").read_text(encoding="utf-8")
)
ASKED = [entry for entry in QUESTIONS if entry["expected"] == PAGE][:4]
ASKED += [entry for entry in QUESTIONS if entry["expected"] == "manual.pdf"][: 10 - len(ASKED)]
Frame = dict[str, Any]


class Stranger:
    """Rows by SQL, a file by S3, tokens by the stack's private key, the queue by HTTP, a question by WebSocket."""

    def __init__(self, stack: dict[str, Any]) -> None:
        self.stack, self.org_id, self.bot_id = stack, uuid4(), uuid4()
        self.sql("INSERT INTO orgs (id, name) VALUES (%s, 'Stranger')", self.org_id)
        self.sql("INSERT INTO bots (id, org_id, name) VALUES (%s, %s, 'Kilns')", self.bot_id, self.org_id)

    def sql(self, query: str, *values: object) -> None:
        with psycopg.connect(self.stack["dashboard_db_dsn"]) as connection:
            connection.execute(query.encode(), values)

    def token(self, scope: str, **claims: Any) -> str:
        now = int(time.time())
        key = Path(self.stack["jwt"]["private_key_path"]).read_bytes()
        own = {"sub": "stranger", "org_id": str(self.org_id), "scope": scope, "iat": now, "exp": now + 600}
        return jwt.encode({**own, **claims}, key, "RS256")

    def add_url(self, url: str) -> UUID:
        source_id = uuid4()
        self.sql(
            "INSERT INTO training_sources (id, org_id, bot_id, type, url, options) VALUES (%s, %s, %s, 'url', %s, %s)",
            *(source_id, self.org_id, self.bot_id, url, Jsonb({})),
        )
        return source_id

    def add_file(self, path: Path) -> UUID:
        s3, source_id, file_id = self.stack["s3"], uuid4(), uuid4()
        client = boto3.client(
            "s3", endpoint_url=s3["endpoint_url"], aws_access_key_id=s3["access_key_id"],
            aws_secret_access_key=s3["secret_access_key"], region_name="auto",
        )  # fmt: skip
        client.upload_file(str(path), s3["bucket"], f"strangers/{file_id}")
        self.sql(
            "INSERT INTO files (id, org_id, object_key, filename) VALUES (%s, %s, %s, %s)",
            *(file_id, self.org_id, f"strangers/{file_id}", path.name),
        )
        self.sql(
            "INSERT INTO training_sources (id, org_id, bot_id, type, file_id, options) VALUES (%s, %s, %s, 'file', %s, %s)",
            *(source_id, self.org_id, self.bot_id, file_id, Jsonb({})),
        )
        return source_id

    def train(self, source_ids: list[UUID]) -> list[Frame]:
        headers = {"Authorization": f"Bearer {self.token('training:write training:read')}"}
        with httpx2.Client(base_url=self.stack["api_url"], headers=headers, trust_env=False) as http:
            answer = http.post("/api/training/queue", json={"source_ids": [str(id_) for id_ in source_ids]})
            assert answer.status_code == 202, answer.text
            jobs = answer.json()["jobs"]
            deadline = time.monotonic() + 120
            while True:
                states = [http.get(f"/api/training/jobs/{job['job_id']}").json() for job in jobs]
                if all(state["status"] not in {"waiting", "running"} for state in states):
                    return cast(list[Frame], states)
                assert time.monotonic() < deadline, states
                time.sleep(0.2)

    def chat(self) -> ClientConnection:
        token = self.token("chat", bot_id=str(self.bot_id))
        headers = {"Authorization": f"Bearer {token}"}
        return connect(
            self.stack["ws_url"], subprotocols=[Subprotocol("chat.v1")], additional_headers=headers, proxy=None
        )


@pytest.fixture(scope="module")
def trained(stack: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Stranger, dict[str, str]]:
    """A stranger whose page and PDF are trained, and each source's name by its id."""
    stranger, manual = Stranger(stack), tmp_path_factory.mktemp("files") / "manual.pdf"
    write_manual(manual)
    page = stranger.add_url(f"{stack['dashboard_url']}/sample/{PAGE}")
    file = stranger.add_file(manual)
    states = stranger.train([page, file])
    assert [state["status"] for state in states] == ["succeeded", "succeeded"], states
    return stranger, {str(page): PAGE, str(file): "manual.pdf"}


def ask(socket: ClientConnection, question: str) -> tuple[list[Frame], Frame]:
    """The sources offered and the `done` frame; every frame's number is checked on the way."""
    ask_id = uuid4().hex
    frames: list[Frame] = []
    socket.send(json.dumps({"type": "ask", "id": ask_id, "text": question}))
    while not frames or frames[-1]["type"] not in {"done", "error"}:
        frames.append(json.loads(socket.recv(timeout=60)))
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {frame["id"] for frame in frames} == {ask_id}
    assert "".join(frame["text"] for frame in frames if frame["type"] == "delta") == frames[-1]["text"]
    return frames[0]["sources"], frames[-1]


def test_ten_questions_find_their_source(trained: tuple[Stranger, dict[str, str]]) -> None:
    stranger, names = trained
    assert len(ASKED) == 10
    found = {}
    with stranger.chat() as socket:
        assert json.loads(socket.recv(timeout=10))["bot"]["name"] == "Kilns"
        for entry in ASKED:
            sources, done = ask(socket, entry["question"])
            assert set(done["citations"]) <= {source["n"] for source in sources}
            found[entry["question"]] = entry["expected"] in [names[source["source_id"]] for source in sources[:3]]
    assert sum(found.values()) >= 9, found


def test_citations_lead_to_the_passage(trained: tuple[Stranger, dict[str, str]]) -> None:
    stranger, names = trained
    question = next(entry for entry in QUESTIONS if entry.get("demo"))
    with stranger.chat() as socket:
        socket.recv(timeout=10)
        sources, done = ask(socket, question["question"])
    cited = next(source for source in sources if source["n"] == done["citations"][0])
    assert names[cited["source_id"]] == PAGE
    assert cited["url"].startswith(f"{stranger.stack['dashboard_url']}/sample/{PAGE}#:~:text=")
    assert question["answer_contains"] in done["text"]


def test_another_org_sees_none_of_it(trained: tuple[Stranger, dict[str, str]]) -> None:
    other = Stranger(trained[0].stack)
    with other.chat() as socket:
        socket.recv(timeout=10)
        sources, done = ask(socket, ASKED[0]["question"])
    assert (sources, done["finish_reason"]) == ([], "no_answer")
