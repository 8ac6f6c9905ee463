"""The loopback provider, whose model `endless` never comes to an end: `python -m tests.hostile.sockets_provider`."""

import sys
from typing import Any

from tests.provider import Provider
from tests.provider_wire import Exchange

MODEL = "endless"
LATENCY_MS, TOKEN_DELAY_MS = 100, 30
ANSWER = " ".join(["x" * 2_000] * 4_000)


class Endless(Provider):
    """Answers within 100 ms, as a provider does, with thirty to each piece."""

    async def _chat(self, exchange: Exchange, body: dict[str, Any]) -> None:
        if body["model"] == MODEL:
            self.controls.answers.append(ANSWER)
        await super()._chat(exchange, body)


if __name__ == "__main__":
    with Endless(latency_ms=LATENCY_MS) as provider:
        provider.controls.token_delay_ms = TOKEN_DELAY_MS
        print(provider.base_url, flush=True)
        sys.stdin.read()
