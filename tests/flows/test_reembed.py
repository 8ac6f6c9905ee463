"""A bot's model is changed while visitors ask: every answer is right, and comes from one space."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from chat_api.core.embeddings import EmbeddingSpace
from tests.chat_api.chat_world import Visit, wait_until
from tests.flows.world import World
from tests.servers import as_workers
from workers.cli import main
from workers.commands.reembed import reembed
from workers.spaces import tend_spaces

OLD = EmbeddingSpace("text-embedding-3-small", 256)
NEW = EmbeddingSpace("text-embedding-3-large", 128)
FACTS = {
    "What does delivery abroad cost?": "Delivery abroad costs 14.90 for every parcel.",
    "When is the workshop open?": "The workshop is open on weekdays until half past five.",
    "Which kettle whistles?": "The kettle named Bosun whistles as soon as its water boils.",
}


@dataclass
class Asker:
    """A visitor who asks one question after the other and keeps what was wrong."""

    visit: Visit
    answered: int = 0
    wrong: list[Any] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask_on(self) -> None:
        """Asks until it is over."""
        while not self.over.is_set():
            for question, fact in FACTS.items():
                self.ask(question, fact)

    def ask(self, question: str, fact: str) -> None:
        """Asks one question, whose answer is this fact."""
        frames = self.visit.asked(question, f"q{self.answered}")
        sources: list[Any] = next((frame["sources"] for frame in frames if frame["type"] == "sources"), [])
        if frames[-1]["type"] != "done" or fact not in frames[-1]["text"] or len(sources) != len(FACTS):
            self.wrong.append((question, frames))
        self.answered += 1


@contextmanager
def visiting(shop: World) -> Iterator[Visit]:
    address = str(shop.http.base_url).replace("http://", "ws://").rstrip("/") + "/api/chat/ws"
    token = shop.client.sign_token("chat", bot_id=shop.bot_id)
    headers = {"Authorization": f"Bearer {token}"}
    with connect(
        address, subprotocols=[Subprotocol("chat.v1")], additional_headers=headers, proxy=None, compression=None
    ) as socket, Visit(socket) as visit:  # fmt: skip
        assert visit.receive()["type"] == "ready"
        yield visit


@contextmanager
def asking(shop: World) -> Iterator[Asker]:
    """A visitor who asks all the while; at the end every answer was right."""
    with visiting(shop) as visit:
        asker = Asker(visit)
        thread = threading.Thread(target=asker.ask_on, daemon=True)
        thread.start()
        try:
            yield asker
        finally:
            asker.over.set()
            thread.join(30)
    assert not asker.wrong


def some_more(asker: Asker) -> None:
    """Waits until the visitor has asked everything twice more."""
    until = asker.answered + 2 * len(FACTS)
    wait_until(lambda: asker.answered >= until, 60)


@pytest.fixture
def trained(shop: World) -> World:
    shop.client.change_bot(shop.bot_id, "Shop", {"similarity_threshold": 0})
    for number, fact in enumerate(FACTS.values()):
        shop.train(shop.client.add_text_source(shop.bot_id, f"Page {number}", fact))
    return shop


def space_of(shop: World) -> tuple[str, int]:
    [row] = shop.chat(
        "SELECT model, dimensions FROM bots JOIN embedding_spaces USING (space_id) WHERE bot_id = %s", shop.bot_id
    )
    return row["model"], row["dimensions"]


def vectors(shop: World) -> dict[tuple[str, int], int]:
    rows = shop.chat(
        "SELECT model, dimensions, count(*) AS found, min(vector_dims(vector::vector)) AS least,"
        " max(vector_dims(vector::vector)) AS most FROM embeddings JOIN embedding_spaces USING (space_id)"
        " WHERE bot_id = %s GROUP BY model, dimensions",
        shop.bot_id,
    )
    assert all(row["least"] == row["most"] == row["dimensions"] for row in rows)
    return {(row["model"], row["dimensions"]): row["found"] for row in rows}


def begin(shop: World, space: EmbeddingSpace) -> None:
    said: list[str] = []
    reembed(shop.worker.engines.chat, space, [shop.bot_id], said.append)


def test_every_answer_is_right_while_the_model_is_changed(trained: World) -> None:
    with asking(trained) as asker:
        some_more(asker)
        begin(trained, NEW)
        some_more(asker)
        assert trained.work() == 3
        some_more(asker)
        assert space_of(trained) == (NEW.model, NEW.dimensions)
        tend_spaces(trained.worker.engines.chat)
        assert vectors(trained) == {(NEW.model, NEW.dimensions): 3}
        some_more(asker)
    asked_in_new = trained.provider.counts.models[NEW.model] - 3
    assert asked_in_new >= 2 * len(FACTS)


def test_a_training_after_the_change_writes_the_new_space_and_pays_for_nothing_again(trained: World) -> None:
    begin(trained, NEW)
    trained.work()
    trained.provider.reset()
    [source_id, *_] = [row["id"] for row in trained.client.sources(trained.bot_id)]
    job = trained.train(source_id, force=True)
    assert job["status"] == "succeeded", job
    assert trained.provider.counts.models == {}
    [row] = trained.chat(
        "SELECT DISTINCT model FROM embeddings JOIN embedding_spaces USING (space_id)"
        " JOIN sources USING (org_id, bot_id, source_id) WHERE source_id = %s AND generation = live_generation",
        source_id,
    )
    assert row["model"] == NEW.model


def test_a_question_during_the_switch_is_embedded_again(trained: World) -> None:
    question, fact = next(iter(FACTS.items()))
    begin(trained, NEW)
    trained.work()
    with visiting(trained) as visit:
        asker = Asker(visit)
        asker.ask(question, fact)
        trained.provider.reset()
        trained.provider.controls.latency_ms = 1000
        visit.ask(question, "during")
        wait_until(lambda: trained.provider.counts.running)
        begin(trained, OLD)  # its vectors are still there, so that this switches at once
        assert space_of(trained) == (OLD.model, OLD.dimensions)
        trained.provider.controls.latency_ms = 0
        frames = visit.answer()
        assert fact in frames[-1]["text"]
        # A follow-up is embedded twice: as it was asked, and rewritten.
        assert trained.provider.counts.models == {NEW.model: 2, OLD.model: 2}
        asker.ask(question, fact)
        assert trained.provider.counts.models == {NEW.model: 2, OLD.model: 4}  # the next one knows
        assert not asker.wrong


def test_the_command_changes_a_model_and_gives_it_up_again(
    trained: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(trained).items():
        monkeypatch.setenv(name, value)
    bot = str(trained.bot_id)
    assert main(["reembed", "--model", NEW.model, "--dimensions", "128", "--bot", bot]) == 0
    assert "from text-embedding-3-small (256) to text-embedding-3-large (128)" in capsys.readouterr().out
    assert main(["reembed", "--abandon", "--bot", bot]) == 0
    assert trained.work() == 0
    assert space_of(trained) == (OLD.model, OLD.dimensions)

    assert main(["reembed", "--model", NEW.model, "--dimensions", "128", "--bot", bot]) == 0
    worker = threading.Thread(target=trained.work)
    worker.start()
    assert main(["reembed", "--model", NEW.model, "--dimensions", "128", "--bot", bot, "--wait"]) == 0
    worker.join(30)
    assert space_of(trained) == (NEW.model, NEW.dimensions)
    capsys.readouterr()
    assert main(["reembed", "--model", NEW.model, "--dimensions", "128"]) == 0
    assert "reads text-embedding-3-large already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "unheard-of"], "add --dimensions"),
        (["--bot", str(UUID(int=7))], "There is no bot"),
    ],
)
def test_the_command_says_what_it_can_not_do(
    trained: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    for name, value in environment(trained).items():
        monkeypatch.setenv(name, value)
    assert main(["reembed", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert space_of(trained) == (OLD.model, OLD.dimensions)


def environment(shop: World) -> dict[str, str]:
    """What of the deployment's settings was set, as variables."""
    settings = as_workers(shop.settings)
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    plain = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in given.items()}
    return {name.upper(): str(value) for name, value in plain.items() if value is not None}
