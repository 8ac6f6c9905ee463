"""A deployment for hostile peers: real servers, one API process, ordinary visitors who ask at a steady rate, and its figures."""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chat_api.core.settings import Settings
from tests.chat_api.chat_world import DIMENSIONS, MODEL, Chat, TestBot
from tests.chat_api.forge import Forge, public_pem
from tests.conftest import make_settings
from tests.flows.test_resume import Replica
from tests.flows.world import dsn_of
from tests.hostile import sockets_provider
from tests.provider import Provider
from tests.servers import (
    REPOSITORY,
    Servers,
    as_api,
    copied_database,
    make_chat_template,
    make_dashboard_template,
    running,
)

PASSAGES = ("Parcels ordered by 11:30 leave on the same day.", "Pallets leave on Mondays and on Thursdays.")
TOKENS = 50
"""Visitors whom all peers of an attack pretend to be."""
ANSWERED_WITHIN_S = 30.0
SETTLED_WITHIN_S = 90.0
RAISED = ("max_sockets", "max_sockets_per_org", "max_sockets_per_bot")


@dataclass
class Turns:
    """What ordinary visitors met: seconds to an answer's first piece and to its end, and what went wrong."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Turns") -> None:
        """Counts another window's too."""
        self.first += other.first
        self.whole += other.whole
        self.wrong += other.wrong


@dataclass
class Target:
    """The API process under attack, a bot of good visitors and one of bad ones."""

    replica: Replica
    chat: Chat
    good: TestBot
    bad: TestBot
    log: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.replica.address.rsplit(":", 1)[1])

    @property
    def process(self) -> psutil.Process:
        """The API's process."""
        return psutil.Process(self.replica.process.pid)

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int(self.process.memory_info().rss)

    def files(self) -> int:
        """How many files and sockets it has open, those among them that it is closing."""
        return int(self.process.num_fds())

    def spent(self) -> float:
        """Its processor time in seconds."""
        times = self.process.cpu_times()
        return times.user + times.system

    async def settled(self, most: int) -> float:
        """Waits until it has no more files open than that; the seconds it took, or infinity."""
        began = time.monotonic()
        while time.monotonic() - began < SETTLED_WITHIN_S:
            if self.files() <= most:
                return time.monotonic() - began
            await asyncio.sleep(0.25)
        return float("inf")

    @contextlib.asynccontextmanager
    async def attacked(self, name: str, number: int, rate: float, seed: int) -> AsyncIterator["Attack"]:
        """An attack in its own process, from when it has begun; it ends with the context."""
        endless = name == "readers"
        tokens = [
            (self.bad if endless else self.good).token(sub=f"peer-{each}", exp=_tomorrow()) for each in range(TOKENS)
        ]
        sources = [f"127.0.0.{2 + each}" for each in range(8)]
        orders = {
            **{"port": self.port, "tokens": tokens, "number": number, "rate": rate, "seed": seed, "sources": sources}
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hostile.sockets_attacks", name, json.dumps(orders),
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        attack = Attack(name)
        try:
            assert await process.stdout.readline() == b"begun\n", f"{name} did not begin"
            yield attack
            process.stdin.close()
            attack.met = json.loads(await process.stdout.readline())
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@dataclass
class Attack:
    """An attack, and what its peers met: close codes, errors and counts."""

    name: str
    met: dict[str, int] = field(default_factory=dict)


def _tomorrow() -> int:
    return int(time.time()) + 80_000


class Visitors:
    """Ordinary visitors on sockets of their own, each asking again once it has its answer."""

    def __init__(self, target: Target, rate: float, number: int) -> None:
        """`rate`: questions a second, by all."""
        self._target, self._rate, self._number = target, rate, number
        self._sockets: asyncio.Queue[ClientConnection] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator["Visitors"]:
        """Has them come, and leave at the end."""
        async with contextlib.AsyncExitStack() as stack:
            for number in range(self._number):
                token = self._target.good.token(sub=f"good-{number}", exp=_tomorrow())
                socket = await stack.enter_async_context(
                    connect(
                        self._target.chat.ws_url, subprotocols=[Subprotocol("chat.v1")], proxy=None, compression=None,
                        additional_headers={"Authorization": f"Bearer {token}"},
                    )
                )  # fmt: skip
                assert json.loads(await socket.recv())["type"] == "ready"
                self._sockets.put_nowait(socket)
            yield self

    async def ask(self, seconds: float) -> Turns:
        """Has them ask at the steady rate for some time. A turn's time begins when it was due."""
        turns, loop = Turns(), asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as asking:
            for number in range(int(seconds * self._rate)):
                due = began + number / self._rate
                await asyncio.sleep(max(0, due - loop.time()))
                asking.create_task(self._turn(turns, due))
        return turns

    async def _turn(self, turns: Turns, due: float) -> None:
        loop = asyncio.get_running_loop()
        socket = await self._sockets.get()
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                ask = {"type": "ask", "id": uuid4().hex, "text": f"When do parcels leave, {uuid4()}?"}
                await socket.send(json.dumps({**ask, "conversation_id": str(uuid4())}))
                first, frame = 0.0, {"type": ""}
                while frame["type"] not in {"done", "error"}:
                    frame = json.loads(await socket.recv())
                    if frame.get("id") != ask["id"]:
                        frame = {"type": ""}  # of an answer that was given up
                    first = first or (loop.time() - due if frame["type"] == "delta" else 0)
        except Exception as error:  # noqa: BLE001  # whatever befalls a good visitor is counted
            turns.wrong[type(error).__name__] += 1
            return
        finally:
            self._sockets.put_nowait(socket)
        if (how := frame.get("code") or frame["finish_reason"]) != "stop":
            turns.wrong[how] += 1
        else:
            turns.first.append(first)
            turns.whole.append(loop.time() - due)


@contextlib.contextmanager
def deployment() -> Iterator[Target]:
    """Servers, databases, a provider and the API, thrown away at the end."""
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(running())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-sockets-")))
        yield stack.enter_context(deployed(servers, folder))


@contextlib.contextmanager
def deployed(servers: Servers, folder: Path) -> Iterator[Target]:
    """The deployment on servers that run already."""
    cluster = servers.cluster_dsn
    with contextlib.ExitStack() as stack:
        suffix = uuid4().hex[:8]
        chat_db, dashboard_db = (
            stack.enter_context(copied_database(cluster, template))
            for template in (
                make_chat_template(cluster, f"sockets_{suffix}_template"),
                make_dashboard_template(cluster, f"shops_{suffix}_template"),
            )
        )
        settings = _settings(servers, chat_db, dashboard_db, stack.enter_context(_provider()), folder)
        replica = Replica(as_api(settings), folder / "api.log")
        stack.callback(replica.kill)
        replica.wait()
        address = replica.address.replace("http", "ws", 1) + "/api/chat/ws"
        chat = Chat(address, chat_db, dsn_of(settings, chat=False), Provider())
        good = chat.add_bot(*PASSAGES, answer_cache=False)
        bad = chat.add_bot(*PASSAGES, answer_cache=False, model=sockets_provider.MODEL, max_tokens=16_000)
        yield Target(replica, chat, good, bad, folder / "api.log")


@contextlib.contextmanager
def _provider() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.hostile.sockets_provider"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _settings(servers: Servers, chat_db: str, dashboard_db: str, base_url: str, folder: Path) -> Settings:
    key_file = folder / "public.pem"
    key_file.write_bytes(public_pem(Forge().ours))
    rates = {f"{name}_messages_per_minute": 1_000_000 for name in ("visitor", "address", "bot", "org")}
    changed: dict[str, Any] = {
        **rates,
        **dict.fromkeys(RAISED, 1_000_000),
        "jwt_public_key_path": str(key_file),
        "embedding_provider": "openai",
        "embedding_model": MODEL,
        "embedding_dimensions": DIMENSIONS,
        "llm_provider": "openai",
        "openai_base_url": base_url,
        "openai_api_key": SecretStr("sk-test"),
    }
    return make_settings(servers, chat_db, dashboard_db, servers.redis_url, "none").model_copy(update=changed)
