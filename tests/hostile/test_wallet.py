"""A crowd that wants to empty an owner's wallet: two API processes, one daily budget, and Redis killed midway.

`WALLET_ATTACKERS=100 python -m pytest tests/hostile/test_wallet.py -s` does it at full size and prints what it took.
"""

import asyncio
import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from chat_api.core.settings import Settings
from deploy.local import servers as programs
from tests.chat_api.chat_world import DIMENSIONS, MODEL, Chat, TestBot, wait_until
from tests.chat_api.forge import Forge, public_pem
from tests.conftest import make_settings
from tests.flows.test_processes import redis_on
from tests.flows.test_resume import Replica
from tests.flows.world import dsn_of
from tests.provider import Provider
from tests.servers import Servers, free_port

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ATTACKERS = int(os.environ.get("WALLET_ATTACKERS", "12"))
REPLICAS = 2
ANSWERS_EACH = 3
"""How many answers the budget has room for, by attacker."""
MOST_REQUESTS = 40
REFUSALS = 4
"""After so many an attacker gives up."""
MAX_TOKENS = 60
BUDGET = ATTACKERS * ANSWERS_EACH * 400
PASSAGES = ["Parcels ordered by 11:30 leave on the same day.", "Pallets leave on Mondays and on Thursdays."]


@dataclass
class Attack:
    """What the crowd met."""

    chats: Sequence[Chat]
    bot: TestBot
    outcomes: Counter[str] = field(default_factory=Counter)
    spent_at_kill: int = 0

    @property
    def spent(self) -> int:
        """Tokens that the provider has worked through."""
        return sum(self.chats[0].provider.counts.tokens.values())

    async def run(self, redis: contextlib.ExitStack) -> None:
        """All attackers at once; Redis is killed when half of the budget is gone."""
        async with httpx2.AsyncClient(timeout=60, trust_env=False, limits=httpx2.Limits(max_connections=None)) as http:
            crowd = [asyncio.create_task(self._attack(http, number)) for number in range(ATTACKERS)]
            killer = asyncio.create_task(self._kill(redis))
            await asyncio.gather(*crowd)
            await killer

    async def _kill(self, redis: contextlib.ExitStack) -> None:
        await asyncio.to_thread(wait_until, lambda: self.spent >= BUDGET / 2, 300)
        self.spent_at_kill = self.spent
        await asyncio.to_thread(redis.close)

    async def _attack(self, http: httpx2.AsyncClient, attacker: int) -> None:
        refusals = 0
        for number in range(MOST_REQUESTS):
            outcome = await self._ask(http, attacker, number)
            self.outcomes[outcome] += 1
            refusals += outcome in {"budget", "budget_exhausted"}
            if refusals == REFUSALS:
                return

    async def _ask(self, http: httpx2.AsyncClient, attacker: int, number: int) -> str:
        """One question; every third attacker hangs up before the answer. What came of it."""
        chat = self.chats[(attacker + number) % REPLICAS]
        address = chat.ws_url.replace("ws://", "http://").removesuffix("/ws") + "/messages"
        headers = {"Authorization": f"Bearer {self.bot.token(sub=f'attacker-{attacker}')}"}
        body = {"id": str(number), "text": f"When do parcels of number {attacker}-{number} leave?"}
        patience = 0.2 if attacker % 3 == 0 and number < ANSWERS_EACH else 60
        try:
            answer = await http.post(address, headers=headers, json=body, timeout=patience)
        except httpx2.TimeoutException:
            return "hung up"
        except httpx2.TransportError:
            return "connection lost"
        found = answer.json()
        return str(found["finish_reason"] if answer.status_code == 200 else found["code"])


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def open_settings(
    servers: Servers, chat_db: str, dashboard_db: str, bucket: str, provider: Provider, tmp_path: Path
) -> Settings:
    """Settings under which nothing but the budget holds the crowd up."""
    key_file = tmp_path / "public.pem"
    key_file.write_bytes(public_pem(Forge().ours))
    rates = dict.fromkeys(("visitor", "address", "bot", "org"), 1_000_000)
    return make_settings(servers, chat_db, dashboard_db, servers.redis_url, bucket).model_copy(
        update={
            **{f"{name}_messages_per_minute": rate for name, rate in rates.items()},
            "jwt_public_key_path": str(key_file),
            "embedding_provider": "openai",
            "embedding_model": MODEL,
            "embedding_dimensions": DIMENSIONS,
            "llm_provider": "openai",
            "openai_base_url": provider.base_url,
            "openai_api_key": SecretStr("sk-test"),
        }
    )


def test_a_crowd_spends_no_more_than_the_budget(
    open_settings: Settings, provider: Provider, chat_db: str, tmp_path: Path
) -> None:
    port, password = free_port(), secrets.token_hex(8)
    settings = open_settings.model_copy(update={"redis_url": SecretStr(programs.redis_url(port, password))})
    with contextlib.ExitStack() as redis, contextlib.ExitStack() as running:
        redis.enter_context(redis_on(port, password, tmp_path))
        replicas = [Replica(settings, tmp_path / "api.log") for _ in range(REPLICAS)]
        for replica in replicas:
            running.callback(replica.kill)
        for replica in replicas:
            replica.wait()
        addresses = [replica.address.replace("http", "ws", 1) + "/api/chat/ws" for replica in replicas]
        chats = [Chat(address, chat_db, dsn_of(settings, chat=False), provider) for address in addresses]
        bot = chats[0].add_bot(*PASSAGES, daily_token_budget=BUDGET, max_tokens=MAX_TOKENS, answer_cache=False)
        provider.controls.token_delay_ms = 5
        attack = Attack(chats, bot)
        asyncio.run(attack.run(redis))
        known = ledger(chats[0], bot)
        alive = [replica.process.poll() is None for replica in replicas]
    report(attack, known)
    assert all(alive)
    assert attack.outcomes["stop"] >= ATTACKERS, "the budget was there to be spent"
    assert attack.spent_at_kill < BUDGET, "Redis was killed midway"
    assert attack.spent <= BUDGET * 1.01 + REPLICAS * (attack.spent / attack.outcomes["stop"])
    assert known >= attack.spent, "all of it is in the ledger, or still set aside"


def ledger(chat: Chat, bot: TestBot) -> int:
    """Tokens that were used, and those that are still set aside because their use could not be written."""
    ((used, reserved),) = chat.rows(
        "SELECT (SELECT sum(prompt_tokens + completion_tokens) FROM usage_days WHERE bot_id = %s),"
        " (SELECT coalesce(sum(tokens), 0) FROM budget_reservations WHERE bot_id = %s)",
        *[bot.bot_id, bot.bot_id],
    )
    return int(used + reserved)


def report(attack: Attack, known: int) -> None:
    """Prints what the attack came to."""
    over = 100 * max(0, attack.spent - BUDGET) / BUDGET
    print(f"\n{ATTACKERS} attackers on {REPLICAS} API processes, Redis killed at {attack.spent_at_kill} tokens")
    print(f"  budget {BUDGET}, spent {attack.spent} ({over:.2f} % over it), in the ledger or set aside {known}")
    print("  " + ", ".join(f"{outcome}: {count}" for outcome, count in attack.outcomes.most_common()))
