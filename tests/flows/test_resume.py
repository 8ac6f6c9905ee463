"""Two API processes: the one that streams is killed or told to stop; every visitor resumes on the other, and nothing is lost.

`RESUMED_ANSWERS=100 RESUMED_AT_ONCE=25 python -m pytest tests/flows/test_resume.py -s` does it at full size and prints
what it took.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import httpx2
import pytest
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed

from chat_api.core.settings import Settings
from tests.chat_api.chat_world import DIMENSIONS, MODEL, Chat, Frame, TestBot, Visit, wait_until
from tests.chat_api.forge import Forge, public_pem
from tests.conftest import make_settings
from tests.flows.test_processes import environment
from tests.flows.world import dsn_of
from tests.provider import Provider
from tests.servers import REPOSITORY, Servers, free_port

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ANSWERS = int(os.environ.get("RESUMED_ANSWERS", "6"))
AT_ONCE = int(os.environ.get("RESUMED_AT_ONCE", "10"))
WORDS = 40
PARCELS = "Parcels ordered by 11:30 leave on the same day."
STARTED_WITHIN_S = 60.0


class Replica:
    """An API process on its own port."""

    def __init__(self, settings: Settings, log: Path) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        bounded = ("--http", "chat_api.server:BoundedHttp", "--ws", "chat_api.server:BoundedSocket")
        options = (*bounded, "--ws-per-message-deflate", "false", "--ws-max-size", "65536", "--no-access-log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "chat_api.main:app", "--port", str(port), *options],
                env=environment(settings), cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Returns once it answers."""

        def answers() -> bool:
            with contextlib.suppress(httpx2.HTTPError):
                return httpx2.get(f"{self.address}/healthz", trust_env=False).status_code == 200
            return False

        wait_until(answers, STARTED_WITHIN_S)

    def kill(self) -> None:
        """Ends it without a word."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> float:
        """Tells it to stop, and waits; the seconds that took."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(30) in {0, -signal.SIGTERM}
        return time.monotonic() - began


@dataclass
class Deployment:
    """Replicas come and go; databases, Redis and provider stay."""

    settings: Settings
    chat_dsn: str
    dashboard_dsn: str
    provider: Provider
    folder: Path
    replicas: list[Replica]

    def start(self, count: int = 1) -> list[Chat]:
        """Further replicas."""
        new = [Replica(self.settings, self.folder / "api.log") for _ in range(count)]
        self.replicas += new
        for replica in new:
            replica.wait()
        return [self.on(replica) for replica in new]

    def on(self, replica: Replica) -> Chat:
        """The deployment as seen through one replica."""
        address = replica.address.replace("http", "ws", 1) + "/api/chat/ws"
        return Chat(address, self.chat_dsn, self.dashboard_dsn, self.provider)


@pytest.fixture
def deployment(
    servers: Servers, chat_db: str, dashboard_db: str, redis_url: str, bucket: str, session_provider: Provider,
    tmp_path: Path,
) -> Iterator[Deployment]:  # fmt: skip
    key_file = tmp_path / "public.pem"
    key_file.write_bytes(public_pem(Forge().ours))
    session_provider.reset()
    settings = make_settings(servers, chat_db, dashboard_db, redis_url, bucket).model_copy(
        update={
            "jwt_public_key_path": str(key_file),
            "embedding_provider": "openai",
            "embedding_model": MODEL,
            "embedding_dimensions": DIMENSIONS,
            "llm_provider": "openai",
            "openai_base_url": session_provider.base_url,
            "openai_api_key": SecretStr("sk-test"),
        }
    )
    made = Deployment(settings, chat_db, dsn_of(settings, chat=False), session_provider, tmp_path, [])
    try:
        yield made
    finally:
        for replica in made.replicas:
            replica.kill()


@dataclass
class Visitor:
    """Somebody who asks one question and wants a whole answer, whatever becomes of the connection."""

    bot: TestBot
    number: int
    frames: list[Frame]
    conversation_id: str = ""
    sent: int = 0

    def __post_init__(self) -> None:
        self.ask_id = f"question-{self.number}"
        self.asked = threading.Event()

    def ask(self, chat: Chat) -> int:
        """Asks, and reads until the end of the answer or of the connection; its code, 0 at the answer's end."""
        with chat.visit(self.bot, claims={"sub": f"visitor-{self.number}"}) as visit:
            self.conversation_id = visit.ready["conversation_id"]
            visit.ask(f"When do parcels leave, {self.number}?", self.ask_id)
            return self._read(visit)

    def resume(self, chat: Chat) -> int:
        """Asks for the rest."""
        with chat.visit(self.bot, claims={"sub": f"visitor-{self.number}"}) as visit:
            wanted = {"conversation_id": self.conversation_id, "id": self.ask_id, "after": len(self.frames)}
            visit.send({"type": "resume", **wanted})
            return self._read(visit)

    def _read(self, visit: Visit) -> int:
        try:
            while not self.frames or self.frames[-1]["type"] not in {"done", "error"}:
                self.frames.append(visit.receive())
                if len(self.frames) >= 3:
                    self.asked.set()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        return 0

    def assert_whole(self) -> None:
        """One answer, without a gap, that a client shows as a whole."""
        assert [frame for frame in self.frames if frame["type"] == "error"] == []
        assert [frame["seq"] for frame in self.frames] == list(range(1, len(self.frames) + 1))
        shown = ""
        for frame in self.frames:
            shown = "" if frame["type"] == "sources" else shown + (frame["text"] if frame["type"] == "delta" else "")
        assert shown == self.frames[-1]["text"]
        assert len(shown.split()) == WORDS


def visitors(deployment: Deployment, chat: Chat) -> list[Visitor]:
    """A bot's visitors, whose answers take long enough for all that ask at once to be in the middle of theirs."""
    deployment.provider.controls.token_delay_ms = 5 * AT_ONCE
    deployment.provider.controls.answers.extend([" ".join(f"w{n}" for n in range(WORDS))] * (3 * ANSWERS))
    bot = chat.add_bot(PARCELS, answer_cache=False)
    return [Visitor(bot, number, []) for number in range(ANSWERS)]


def attempts(chat: Chat, bot: TestBot) -> dict[str, int]:
    return dict(chat.rows("SELECT ask_id, CAST(attempt AS int) FROM answers WHERE bot_id = %s", bot.bot_id))


def test_every_answer_of_a_killed_replica_is_resumed_on_another(deployment: Deployment) -> None:
    (other,) = deployment.start()
    everybody = visitors(deployment, other)
    took: list[float] = []
    for start in range(0, ANSWERS, AT_ONCE):
        group = everybody[start : start + AT_ONCE]
        (first,) = deployment.start()
        with ThreadPoolExecutor(2 * AT_ONCE) as pool:
            codes = [pool.submit(visitor.ask, first) for visitor in group]
            for number, visitor in enumerate(group):
                visitor.asked.wait(30)
                time.sleep(0.01 * number)  # so that the kill meets answers at different places
            deployment.replicas[-1].kill()
            assert {code.result(30) for code in codes} <= {0, 1006}
            began = time.monotonic()
            resumed = [pool.submit(visitor.resume, other) for visitor in group if visitor.frames[-1]["type"] != "done"]
            assert {code.result(60) for code in resumed} <= {0}
            took.append(time.monotonic() - began)
    for visitor in everybody:
        visitor.assert_whole()
    made = attempts(other, everybody[0].bot)
    paid = deployment.provider.counts.requests["chat"]
    assert paid == sum(made.values()) <= 2 * ANSWERS
    assert paid > ANSWERS, "answers were under way"
    assert len(other.turns(everybody[0].bot)) == ANSWERS
    print(f"\n{ANSWERS} answers, replicas killed: begun {Counter(made.values())} times, {paid} provider calls,"
          f" whole again within {max(took):.1f} s")  # fmt: skip


def test_an_answer_whose_end_was_kept_is_paid_once(deployment: Deployment) -> None:
    first, other = deployment.start(2)
    everybody = visitors(deployment, other)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set(pool.map(lambda visitor: visitor.ask(first), everybody)) == {0}
    deployment.replicas[0].kill()
    for visitor in everybody:
        whole, visitor.frames = visitor.frames, visitor.frames[: 2 + visitor.number % WORDS]
        assert visitor.resume(other) == 0
        assert visitor.frames == whole
    assert deployment.provider.counts.requests["chat"] == ANSWERS


def test_a_planned_restart_loses_nothing(deployment: Deployment) -> None:
    first, other = deployment.start(2)
    everybody = visitors(deployment, other)
    deployment.provider.controls.answers[0] = deployment.provider.controls.answers[0] + " and on" * 200
    slow, quick = everybody[0], everybody[1:]
    with first.visit(slow.bot) as idle, ThreadPoolExecutor(AT_ONCE) as pool:
        slow_code = pool.submit(slow.ask, first)
        slow.asked.wait(30)
        codes = [pool.submit(visitor.ask, first) for visitor in quick]
        for visitor in quick:
            visitor.asked.wait(30)
        took = deployment.replicas[0].terminate()
        assert idle.close_code() == 1012
        assert {code.result(10) for code in codes} == {0}, "answers that end within the limit are not cut"
        assert slow_code.result(10) == 1012
    deployment.provider.controls.token_delay_ms = 1
    began = time.monotonic()
    assert slow.resume(other) == 0
    resumed_after = time.monotonic() - began
    for visitor in quick:
        visitor.assert_whole()
    assert slow.frames[-1]["type"] == "done"
    assert [frame["seq"] for frame in slow.frames] == list(range(1, len(slow.frames) + 1))
    assert sorted(attempts(other, slow.bot).values()) == [*[1] * (ANSWERS - 1), 2]
    print(f"\nrestart: drained in {took:.1f} s; the answer that was cut began again after {resumed_after:.2f} s")


def test_a_followed_event_stream_does_not_hold_a_stop_up(deployment: Deployment) -> None:
    [chat] = deployment.start()
    token = chat.add_bot(PARCELS).token(scope="training:read", sub="owner")
    address = f"{deployment.replicas[0].address}/api/training/events"
    with httpx2.stream(
        "GET", address, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
    ) as stream, ThreadPoolExecutor(1) as pool:  # fmt: skip
        assert stream.status_code == 200
        following = pool.submit(lambda: list(stream.iter_lines()))
        try:
            deployment.replicas[0].terminate()
        finally:
            deployment.replicas[0].kill()
        following.result(10)


def test_stop_closes_the_providers_call_soon(deployment: Deployment) -> None:
    first, other = deployment.start(2)
    bot = first.add_bot(PARCELS, answer_cache=False)
    controls, counts = deployment.provider.controls, deployment.provider.counts
    controls.token_delay_ms = 20
    took: dict[str, list[float]] = {"here": [], "elsewhere": []}
    for number in range(2 * ANSWERS):
        where = "here" if number % 2 else "elsewhere"
        controls.answers.append("word " * 2_000)
        with first.visit(bot) as visit, other.visit(bot) as second:
            visit.ask(f"When, {number}?", f"stopped-{number}")
            for _ in range(4):
                visit.receive()
            closed, began = counts.client_closed, time.monotonic()
            (visit if where == "here" else second).send({"type": "stop", "id": f"stopped-{number}"})
            wait_until(lambda closed=closed: counts.client_closed > closed)
            took[where].append(time.monotonic() - began)
            assert visit.answer()[-1]["finish_reason"] == "stopped"
    for where, seconds in took.items():
        cuts = quantiles(seconds, n=100, method="inclusive")
        print(f"\nstop {where}: p50 {1000 * cuts[49]:.0f} ms, p99 {1000 * cuts[98]:.0f} ms until the provider sees it")
