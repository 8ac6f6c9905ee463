"""A running API with a provider behind it, for tests that talk chat.v1: bots by SQL, passages by SQL, frames by socket."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast
from uuid import UUID, uuid4

import psycopg
import uvicorn
from psycopg.types.json import Jsonb
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chat_api.core.settings import Settings
from chat_api.main import create_app
from chat_api.server import BoundedHttp, BoundedSocket
from tests.chat_api.forge import Forge
from tests.provider import Provider
from tests.provider_model import HashedEmbeddings
from tests.servers import as_api

Frame = dict[str, Any]
DIMENSIONS = 64
MODEL = "text-embedding-3-small"
WAIT_S = 15.0


@contextlib.contextmanager
def serving(settings: Settings, **options: Any) -> Iterator[str]:
    """The API on a free port of this process, as it is started in production; its WebSocket's address.

    `options`: further ones of the server's.
    """
    usual: dict[str, Any] = {
        **{"port": 0, "log_config": None, "access_log": False, "timeout_graceful_shutdown": 3},
        **{"http": BoundedHttp, "ws": BoundedSocket, "ws_per_message_deflate": False, "ws_max_size": 65_536},
    }
    config = uvicorn.Config(create_app(as_api(settings)), **{**usual, **options})
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    deadline = time.monotonic() + WAIT_S
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise TimeoutError("the API did not start")
        time.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api/chat/ws"
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass(frozen=True)
class TestBot:
    """A bot of an org, and the tokens of its visitors."""

    __test__ = False

    org_id: UUID
    bot_id: UUID

    def token(self, **claims: object) -> str:
        """A visitor's token for this bot."""
        mine = {"org_id": str(self.org_id), "bot_id": str(self.bot_id), "scope": "chat", "sub": "visitor-1"}
        return Forge().token(**{**mine, **claims})


@dataclass
class Chat:
    """The deployment under test."""

    ws_url: str
    chat_dsn: str
    dashboard_dsn: str
    provider: Provider

    def add_bot(
        self, *passages: str, origins: Sequence[str] = (), org_id: UUID | None = None, **config: Any
    ) -> TestBot:
        """A bot that lets every passage through, knowing these passages."""
        bot = TestBot(org_id or uuid4(), uuid4())
        settings = {"similarity_threshold": 0, **config}
        with psycopg.connect(self.dashboard_dsn) as connection:
            connection.execute("INSERT INTO orgs (id, name) VALUES (%s, 'Org') ON CONFLICT DO NOTHING", [bot.org_id])
            connection.execute(
                "INSERT INTO bots (id, org_id, name, config, allowed_origins) VALUES (%s, %s, 'Robin', %s, %s)",
                [bot.bot_id, bot.org_id, Jsonb(settings), list(origins)],
            )
        if passages:
            self.teach(bot, passages)
        return bot

    def teach(self, bot: TestBot, passages: Sequence[str], *, page: int | None = None, url: str | None = None) -> UUID:
        """Gives the bot one trained source with these passages; its id."""
        source_id, document_id = uuid4(), uuid4()
        key = [bot.org_id, bot.bot_id, source_id]
        vectors = HashedEmbeddings().embed(passages, DIMENSIONS)
        with psycopg.connect(self.chat_dsn) as connection:
            run = connection.execute
            run(
                "INSERT INTO embedding_spaces (model, dimensions) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [MODEL, DIMENSIONS],
            )
            run(
                "INSERT INTO sources (org_id, bot_id, source_id, live_generation, last_generation) VALUES (%s, %s, %s, 1, 1)",
                key,
            )
            run(
                "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
                " SELECT %s, %s, %s, 1, 'live', space_id, %s, 'v' FROM embedding_spaces WHERE model = %s AND dimensions = %s",
                [*key, uuid4(), MODEL, DIMENSIONS],
            )
            run(
                "INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, url, title, media_type, text_sha256)"
                " VALUES (%s, %s, %s, 1, %s, %s, 'Title', 'text/html', '')",
                [*key, document_id, url],
            )
            for ordinal, (passage, vector) in enumerate(zip(passages, vectors, strict=True)):
                chunk_id = uuid4()
                run(
                    "INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal, heading,"
                    " page, text, tokens, embedded_sha256) VALUES (%s, %s, %s, 1, %s, %s, %s, 'Heading', %s, %s, 9, '')",
                    [*key, chunk_id, document_id, ordinal, page, passage],
                )
                run(
                    "INSERT INTO embeddings (org_id, bot_id, source_id, generation, chunk_id, space_id, vector)"
                    " SELECT %s, %s, %s, 1, %s, space_id, %s::halfvec FROM embedding_spaces WHERE model = %s AND dimensions = %s",
                    [*key, chunk_id, str(vector.tolist()), MODEL, DIMENSIONS],
                )
        return source_id

    def rows(self, query: str, *values: object) -> list[Any]:
        """Rows of the chat database."""
        with psycopg.connect(self.chat_dsn) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def dashboard(self, query: str, *values: object) -> None:
        """A statement in the dashboard database."""
        with psycopg.connect(self.dashboard_dsn) as connection:
            connection.execute(query.encode(), values)

    def turns(self, bot: TestBot) -> list[tuple[str, str, str, str | None]]:
        """(question, answer, finish_reason, error_code) of the bot's turns, oldest first."""
        query = "SELECT question, answer, finish_reason, error_code FROM turns WHERE bot_id = %s ORDER BY created_at"
        return self.rows(query, bot.bot_id)

    def visit(self, bot: TestBot, **options: Any) -> "Visit":
        """A visitor on the bot's socket who has been greeted; `options` as for `dial`, `token`'s claims as `claims`."""
        token = bot.token(**options.pop("claims", {}))
        visit = self.dial(headers={"Authorization": f"Bearer {token}"}, **options)
        visit.ready = visit.receive()
        assert visit.ready["type"] == "ready", visit.ready
        return visit

    def dial(
        self,
        *,
        headers: dict[str, str] | None = None,
        protocols: Sequence[str] = ("chat.v1",),
        query: str = "",
        origin: str | None = None,
        **options: Any,
    ) -> "Visit":
        """A socket with nothing said on it yet."""
        offered = [Subprotocol(protocol) for protocol in protocols]
        lines = {**(headers or {}), **({"Origin": origin} if origin else {})}
        return Visit(
            connect(
                self.ws_url + query,
                subprotocols=offered,
                additional_headers=lines,
                proxy=None,
                compression=None,
                legacy=True,
                **options,
            )
        )


@dataclass
class Visit:
    """One visitor's socket."""

    socket: ClientConnection
    ready: Frame = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, frame: Frame | str | bytes) -> None:
        """Sends a frame; text and bytes as they are."""
        self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    def receive(self) -> Frame:
        """The next frame."""
        return cast(Frame, json.loads(self.socket.recv(timeout=WAIT_S)))

    def ask(self, text: str = "What is it?", ask_id: str = "q1", **more: object) -> None:
        """Asks a question."""
        self.send({"type": "ask", "id": ask_id, "text": text, **more})

    def answer(self) -> list[Frame]:
        """All frames up to the one that ends the answer."""
        frames = [self.receive()]
        while frames[-1]["type"] not in {"done", "error"}:
            frames.append(self.receive())
        return frames

    def asked(self, text: str = "What is it?", ask_id: str = "q1", **more: object) -> list[Frame]:
        """Asks, and gives the whole answer."""
        self.ask(text, ask_id, **more)
        return self.answer()

    def close_code(self) -> int:
        """The code with which the server closes; frames before it are an error."""
        try:
            frame = self.socket.recv(timeout=WAIT_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError(f"not closed, but: {frame!r}")

    def last_words(self) -> int:
        """Reads whatever is still to come; the code with which the server closes then."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.receive()
        return self.close_code()


def wait_until(condition: Any, seconds: float = WAIT_S) -> None:
    """Returns once `condition()` is true. TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.01)
