"""The judge over HTTP and WebSocket, for a client under check."""

import time
from itertools import count
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, WebSocket
from fastapi.middleware.cors import CORSMiddleware

from tests.conformance.judge import Judge
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.scripted import serving, unsigned_token
from tests.conformance.verdicts import Verdicts


def create_app(judge: Judge) -> FastAPI:
    """`/api/chat/ws` for the client, `/token`, `/` with scenarios and verdicts, `POST /shown/NAME` for what it shows."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    verdicts, numbers = judge.verdicts, count(1)

    @app.get("/token")
    def token() -> dict[str, str]:
        return {"token": unsigned_token(next(numbers), issued_at=int(time.time()))}

    @app.get("/")
    def scenarios() -> list[dict[str, Any]]:
        listed = enumerate(verdicts.results.items())
        return [
            {
                "number": number,
                "name": name,
                "owes": result.scenario.owes,
                "shows": result.scenario.shows,
                "verdict": verdicts.of(result),
                "problems": result.problems,
            }
            for number, (name, result) in listed
        ]

    @app.post("/shown/{name}")
    def shown(name: str, shows: Annotated[dict[str, Any], Body()]) -> dict[str, list[str]]:
        result = verdicts.find(name)
        if result is None:
            raise HTTPException(404, "there is no such scenario")
        if not isinstance(shows.get("text"), str):
            raise HTTPException(422, 'what is shown has a "text"')
        return {"problems": verdicts.take_shown(result, shows)}

    @app.websocket("/api/chat/ws")
    async def socket(websocket: WebSocket) -> None:
        await judge.serve(websocket)

    return app


def run(names: list[str], *, port: int, limit_s: float, wants_shown: bool) -> int:
    """Serves until each scenario of these names (all where there are none) has its verdict, or the time is over.

    0 when all passed, else 1. Raises TimeoutError when it cannot listen on the port, which is a free one for 0.
    """
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    verdicts = Verdicts(chosen, wants_shown=wants_shown, say=lambda line: print(line, flush=True))
    with serving(create_app(Judge(verdicts)), port) as taken:
        print(f"A chat.v1 server for clients: ws://127.0.0.1:{taken}/api/chat/ws")
        print(f"Tokens: http://127.0.0.1:{taken}/token   scenarios and verdicts: http://127.0.0.1:{taken}/")
        print("Ask these, by name or number:", flush=True)
        for number, name in enumerate(verdicts.results):
            if number:
                print(f"{number:>4}  {name}: the client {verdicts.results[name].scenario.owes}", flush=True)
        try:
            verdicts.finished.wait(limit_s)
        except KeyboardInterrupt:
            print()
    return _sum_up(verdicts)


def _sum_up(verdicts: Verdicts) -> int:
    outcomes = {name: verdicts.of(result) for name, result in verdicts.results.items()}
    for name in (name for name, outcome in outcomes.items() if outcome == "waiting"):
        print(f"FAIL   not played, or not told what it shows: {name}")
    passed = sum(outcome == "ok" for outcome in outcomes.values())
    print(f"{passed} of {len(outcomes)} scenarios passed")
    return 0 if passed == len(outcomes) else 1
