"""What a socket withstands: bad frames, other visitors, slow readers, restarts, and databases that are away."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor, wait
from uuid import uuid4

import psycopg
import pytest
from websockets.exceptions import ConnectionClosed

from chat_api.chat.bot import DASHBOARD_WITHIN_S
from chat_api.core.settings import Settings
from tests.chat_api.chat_world import Chat, TestBot, serving, wait_until

pytestmark = pytest.mark.stack

PARCELS = "Parcels ordered by 11:30 leave on the same day."
PALLETS = "Pallets leave on Mondays."

# --- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        "", "nonsense", "[]", "null", "1", '"ask"', "{}", '{"type":"nothing"}', '{"type":1}', '{"type":"ask"}',
        '{"type":"ask","id":"1"}', '{"type":"ask","id":"","text":"hi"}', '{"type":"ask","id":1,"text":"hi"}',
        '{"type":"ask","id":"1","text":"   "}', '{"type":"ask","id":"1","text":["hi"]}',
        '{"type":"ask","id":"1","text":"hi","conversation_id":"mine"}', '{"type":"ask","id":"\\u0000","text":"hi"}',
        '{"type":"ask","id":"1","text":"a\\u0000b"}', '{"type":"ask","id":"1","text":"\\ud800"}',
        '{"type":"stop"}', '{"type":"feedback","message_id":"x","value":"up"}', b"\x00\x01", b'{"type":"ping"}',
        "[" * 20_000, '{"type":"ask","id":"' + "x" * 65 + '","text":"hi"}',
    ],
)  # fmt: skip
def test_a_bad_frame_is_said_and_survived(chat: Chat, frame: str | bytes) -> None:
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        visit.send(frame)
        error = visit.receive()
        assert (error["type"], error["code"]) == ("error", "bad_frame")
        visit.send({"type": "ping"})
        assert visit.receive() == {"type": "pong"}


def test_the_id_of_a_bad_question_is_told(chat: Chat) -> None:
    with chat.visit(chat.add_bot(PARCELS)) as visit:
        visit.ask("x" * 4_001, "long")
        assert {"code": "too_long", "id": "long"}.items() <= visit.receive().items()
        visit.ask("  ", "blank")
        assert {"code": "bad_frame", "id": "blank"}.items() <= visit.receive().items()
        assert visit.asked("  " + "é" * 4_000 + "  ", "fits")[-1]["type"] == "done"


def test_a_frame_that_is_too_big_closes_the_socket(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    for size in (32 * 1024 + 1, 100_000):
        with chat.visit(bot) as visit:
            visit.send("x" * size)
            assert visit.close_code() == 1009
    with chat.visit(bot) as visit:
        visit.send("é" * 17_000)
        assert visit.close_code() == 1009, "bytes are counted, not characters"
    with chat.visit(bot) as visit:
        visit.send(b"x" * (32 * 1024 + 1))
        assert visit.close_code() == 1009
    with chat.dial() as unknown:
        unknown.send(b"x" * (32 * 1024 + 1))
        assert unknown.close_code() == 1009


@pytest.mark.parametrize("frame", ['{"type":"ping"}', "nonsense", b"\x00"])
def test_a_flood_of_frames_ends_the_socket_that_sends_it(chat: Chat, frame: str | bytes) -> None:
    bot = chat.add_bot(PARCELS)
    with chat.visit(bot) as quiet, chat.visit(bot) as flooding:
        for _ in range(300):
            flooding.send(frame)
        assert flooding.last_words() == 4429
        quiet.send({"type": "ping"})
        assert quiet.receive() == {"type": "pong"}


# --- how many ---------------------------------------------------------------------------------------------------------


def test_sockets_are_capped_by_bot_org_and_process(chat: Chat, chat_settings: Settings) -> None:
    caps = {"max_sockets": 4, "max_sockets_per_org": 3, "max_sockets_per_bot": 2}
    bot = chat.add_bot(PARCELS)
    sibling, stranger = chat.add_bot(PARCELS, org_id=bot.org_id), chat.add_bot(PARCELS)

    def refused(who: TestBot) -> int | None:
        with full.dial(headers={"Authorization": f"Bearer {who.token()}"}) as late:
            try:
                late.receive()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006
        return None

    with serving(chat_settings.model_copy(update=caps)) as address, contextlib.ExitStack() as stack:
        full = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        first = stack.enter_context(full.visit(bot))
        stack.enter_context(full.visit(bot))
        assert refused(bot) == 4429
        stack.enter_context(full.visit(sibling))
        assert refused(sibling) == 4429
        stack.enter_context(full.visit(stranger))
        assert refused(stranger) == 1013
        first.socket.close()
        wait_until(lambda: refused(stranger) is None)
        with full.visit(bot) as again:
            assert again.asked()[-1]["type"] == "done"


def test_a_half_open_socket_is_dropped(chat_settings: Settings, chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    with serving(chat_settings, ws_ping_interval=0.2, ws_ping_timeout=0.2) as address:
        host, port = address.split("/")[2].split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.settimeout(10)
            silent.sendall(
                f"GET /api/chat/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"Sec-WebSocket-Protocol: chat.v1\r\nAuthorization: Bearer {bot.token()}\r\n\r\n".encode()
            )
            while silent.recv(65_536):
                pass  # pings among them, which are not answered


# --- whose is what ----------------------------------------------------------------------------------------------------


def test_a_bot_answers_from_its_own_live_passages_alone(chat: Chat) -> None:
    bot = chat.add_bot("Ours is red.")
    sibling = chat.add_bot("The sibling's is blue.", org_id=bot.org_id)
    chat.add_bot("A stranger's is green.")
    gone = chat.teach(bot, ["Ours was yellow."])
    old = chat.teach(bot, ["Ours was white."])
    chat.rows("UPDATE sources SET deleted_at = now() WHERE source_id = %s", gone)
    chat.rows("UPDATE sources SET live_generation = 2 WHERE source_id = %s", old)
    with chat.visit(bot) as visit:
        found = visit.asked("Which colour is it?")[0]["sources"]
    assert [source["snippet"] for source in found] == ["Ours is red."]
    with chat.visit(sibling) as visit:
        found = visit.asked("Which colour is it?")[0]["sources"]
    assert [source["snippet"] for source in found] == ["The sibling's is blue."]


def test_another_visitors_conversation_is_not_to_be_had(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS)
    with chat.visit(bot) as owner, chat.visit(bot, claims={"sub": "visitor-2"}) as stranger:
        message_id = owner.asked()[-1]["message_id"]
        theirs = owner.ready["conversation_id"]
        error = stranger.asked(conversation_id=theirs)[-1]
        assert (error["type"], error["id"]) == ("error", "q1")
        stranger.send({"type": "feedback", "message_id": message_id, "value": "down"})
        assert stranger.receive()["code"] == "bad_frame"
        assert len(chat.turns(bot)) == 1
        owner.send({"type": "feedback", "message_id": message_id, "value": "up", "comment": "Thanks"})
        wait_until(
            lambda: (
                chat.rows("SELECT feedback, feedback_comment FROM turns WHERE bot_id = %s", bot.bot_id)
                == [("up", "Thanks")]
            )
        )
    sibling = chat.add_bot(PARCELS, org_id=bot.org_id)
    with chat.visit(sibling) as visit:
        assert visit.asked(conversation_id=theirs)[-1]["type"] == "done"
    assert len(chat.turns(bot)) == 1


# --- the deployment around it -----------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_a_restart_closes_with_1012_and_records_what_was_said(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS)
    chat.provider.controls.token_delay_ms = 20
    chat.provider.controls.answers.append("word " * 500)
    with serving(chat_settings) as address:
        visit = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider).visit(bot)
        visit.ask()
        for _ in range(3):
            visit.receive()
    assert visit.last_words() == 1012
    wait_until(lambda: [turn[2:] for turn in chat.turns(bot)] == [("stopped", "disconnected")])


def test_chat_goes_on_while_the_dashboards_database_is_away(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS, welcome_message="Still here.")
    with chat.visit(bot):
        pass
    away = chat_settings.model_copy(update={"dashboard_db_port": 1})
    with serving(away) as address:
        alone = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        with alone.visit(bot) as visit:
            assert visit.ready["bot"]["welcome_message"] == "Still here."
            assert visit.asked()[-1]["finish_reason"] == "stop"
        with alone.dial(headers={"Authorization": f"Bearer {bot.token(bot_id=str(uuid4()))}"}) as unknown:
            assert unknown.close_code() in {1013, 4403}


def test_a_new_bots_first_visitor_waits_for_a_slow_dashboard(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, welcome_message="Worth the wait.")
    with psycopg.connect(chat.dashboard_dsn) as held, ThreadPoolExecutor(1) as pool:
        held.execute("LOCK TABLE bots IN ACCESS EXCLUSIVE MODE")
        visiting = pool.submit(chat.visit, bot)
        assert wait([visiting], timeout=DASHBOARD_WITHIN_S + 1).not_done
        held.rollback()
        with visiting.result() as visit:
            assert visit.ready["bot"]["welcome_message"] == "Worth the wait."


def test_extractive_answers_quote_and_say_so(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS, PALLETS)
    quoting = chat_settings.model_copy(update={"llm_provider": "extractive"})
    with serving(quoting) as address:
        visit = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider).visit(bot)
        done = visit.asked("When do parcels leave?")[-1]
    assert PARCELS in done["text"]
    assert 1 in done["citations"]
    assert done["finish_reason"] == "stop"
    assert chat.provider.counts.requests["chat"] == 0


@pytest.mark.timeout(90)
def test_a_slow_reader_is_cut_and_the_provider_call_with_it(chat: Chat) -> None:
    bot = chat.add_bot(PARCELS, max_tokens=16_000)
    chat.provider.controls.answers.append(" ".join(["x" * 20_000] * 2_000))
    with chat.visit(bot, max_queue=1) as visit:
        visit.ask()
        wait_until(lambda: chat.provider.counts.client_closed == 1, 40)
        assert visit.last_words() == 1013
    wait_until(lambda: [turn[2:] for turn in chat.turns(bot)] == [("stopped", "disconnected")])


def test_a_database_that_is_away_is_said(chat: Chat, chat_settings: Settings) -> None:
    bot = chat.add_bot(PARCELS)
    with serving(chat_settings.model_copy(update={"python_chat_db_port": 1})) as address:
        alone = Chat(address, chat.chat_dsn, chat.dashboard_dsn, chat.provider)
        with alone.dial(headers={"Authorization": f"Bearer {bot.token()}"}) as visit:
            assert visit.close_code() == 1013
