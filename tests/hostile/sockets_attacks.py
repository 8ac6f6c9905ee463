"""What hostile peers do to the chat's sockets, each attack in a process of its own.

`python -m tests.hostile.sockets_attacks NAME ORDERS`: says `begun`, goes on until its input ends, then says what it met as JSON.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random

from tests.hostile.sockets_wire import (
    CONTINUATION,
    PING,
    TEXT,
    Peer,
    connected,
    framed,
    handshake,
    visiting,
)

AT_ONCE = 50
"""Connections that are being made at the same time."""
CUT_WITHIN_S = 60.0
TOO_BIG = 33 * 1024
ASK = {"type": "ask", "id": "endless", "text": "Tell me all that you have."}
BAD_FRAMES = (
    framed(b"nonsense"), framed(b'{"type":"ask"}'), framed(b"\x00\xff", 2), framed(b"[" * 20_000),
    framed(b'{"type":"ask","id":"x","text":"' + b" " * 5_000 + b'"}'),
    b"\x81\x05hello", b"\xf1\x80\x00\x00\x00\x00", framed(b"x", 3), framed(b"\xff\xfe"), framed(b"x" * 126, PING),
    framed(b"x", CONTINUATION), b"\x88\x81\x00\x00\x00\x00\x01",
)  # fmt: skip
"""Frames that chat.v1 does not know, and such as WebSocket itself forbids: unmasked, reserved bits, torn UTF-8."""


@dataclass
class Orders:
    """Whom to attack and how: `number` of peers, `rate` of what is done a second, by all."""

    port: int
    tokens: list[str]
    number: int
    rate: float
    seed: int
    sources: list[str]

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.over = asyncio.Event()
        self.met: Counter[str] = Counter()
        self.begun = asyncio.Event()

    def token(self) -> str:
        """Some visitor's."""
        return self.random.choice(self.tokens)

    def source(self) -> str:
        """Some address of the loopback net."""
        return self.random.choice(self.sources)

    async def steadily(self, act: Callable[[], Awaitable[None]]) -> None:
        """Does something `rate` times a second until it is over, whatever each time takes."""
        self.begun.set()
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        due = loop.time()
        while not self.over.is_set():
            due = max(due + 1 / self.rate, loop.time() - 1)
            if len(running) < self.number:
                running.add(task := asyncio.create_task(self._counted(act)))
                task.add_done_callback(running.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0, due - loop.time())):
                    await self.over.wait()
        if running:
            await asyncio.wait(running, timeout=CUT_WITHIN_S)

    async def _counted(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except (OSError, TimeoutError) as error:
            self.met[type(error).__name__] += 1

    async def all_visiting(self, *, silent: bool = False) -> list[Peer]:
        """As many greeted visitors as ordered, a few at a time."""
        peers: list[Peer] = []
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            source = self.sources[number % len(self.sources)]
            async with room:
                try:
                    peers.append(await visiting(self.port, self.token(), source, silent=silent))
                except (OSError, TimeoutError) as error:
                    self.met[type(error).__name__] += 1

        await asyncio.gather(*(one(number) for number in range(self.number)))
        return peers


async def idle(orders: Orders) -> None:
    """Sockets that are greeted, answer pings and do nothing else."""
    peers = await orders.all_visiting()
    orders.begun.set()
    await orders.over.wait()
    orders.met["open"] = sum(not peer.closed.is_set() for peer in peers)
    orders.met["lost"] = sum(peer.closed.is_set() for peer in peers)
    _leave(peers)


async def handshakes(orders: Orders) -> None:
    """Handshakes: with a good token, a bad one, none, or broken off in the middle."""

    async def one() -> None:
        peer = await connected(orders.port, orders.source())
        request = handshake(orders.random.choice([orders.token(), "nonsense", None]))
        whole = orders.random.random() < 0.75
        peer.transport.write(request if whole else request[: orders.random.randrange(len(request))])
        if not whole or orders.random.random() < 0.5:
            peer.transport.close()
        orders.met[str(await peer.ended(0.5))] += 1
        peer.transport.abort()

    await orders.steadily(one)


async def frames(orders: Orders) -> None:
    """Visitors who send frames in bursts until they are cut, and come back."""

    async def one() -> None:
        peer = await visiting(orders.port, orders.token(), orders.source())
        frame = framed(orders.random.choice([b'{"type":"ping"}', b"nonsense", b'{"type":"stop","id":"nothing"}']))
        for _ in range(30):
            if peer.closed.is_set():
                break
            peer.transport.write(frame * 10)
            await asyncio.sleep(0.01)
        orders.met[str(await peer.ended(10))] += 1
        peer.transport.abort()

    await orders.steadily(one)


async def pings(orders: Orders) -> None:
    """Peers that send pings without end and read no pong."""
    peers = await orders.all_visiting()
    for peer in peers:
        peer.transport.pause_reading()
    orders.begun.set()
    burst = framed(b"x" * 125, PING) * 40
    while not orders.over.is_set():
        for peer in peers:
            if not peer.closed.is_set() and peer.transport.get_write_buffer_size() < 2**20:
                peer.transport.write(burst)
        await asyncio.sleep(len(peers) * 40 / orders.rate)
    orders.met["peers"] = len(peers)
    _leave(peers)


async def readers(orders: Orders) -> None:
    """Visitors who ask for an endless answer and read nothing of it."""
    loop = asyncio.get_running_loop()
    stuck = [await _stuck(loop, orders) for _ in range(orders.number)]
    orders.begun.set()
    await orders.over.wait()
    orders.met["readers"] = len(stuck)
    for each in stuck:
        each.close()


async def _stuck(loop: asyncio.AbstractEventLoop, orders: Orders) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(connection, ("127.0.0.1", orders.port))
    await loop.sock_sendall(connection, handshake(orders.token()))
    await loop.sock_recv(connection, 1024)
    await loop.sock_sendall(connection, framed(json.dumps(ASK).encode()))
    return connection


async def oversized(orders: Orders) -> None:
    """Frames that are too big, declare to be, or are in endless pieces."""

    def too_big() -> Iterable[bytes]:
        kind = orders.random.randrange(4)
        if kind == 0:
            return [framed(b"x" * orders.random.randrange(TOO_BIG, 2**20))]
        if kind == 1:
            return [framed(b"x" * 1024, declared=2**62)]
        if kind == 2:
            return [framed(b"x" * 8192, TEXT, last=False), *[framed(b"x" * 8192, CONTINUATION, last=False)] * 100]
        return [framed(b"", TEXT, last=False), *[framed(b"", CONTINUATION, last=False)] * 5_000]

    async def one() -> None:
        peer = await visiting(orders.port, orders.token(), orders.source())
        peer.transport.write(b"".join(too_big()))
        orders.met[str(await peer.ended(10))] += 1
        peer.transport.abort()

    await orders.steadily(one)


async def half_open(orders: Orders) -> None:
    """Connections that fall silent: before a word, within the handshake, before the token, or that vanish later."""
    starts = [b"", handshake()[:40], handshake(), handshake(orders.token())]
    peers = []
    for number in range(orders.number):
        peer = await connected(orders.port, orders.sources[number % len(orders.sources)], silent=True)
        peer.transport.write(starts[number % len(starts)])
        peers.append(peer)
    orders.begun.set()
    await orders.over.wait()
    for peer in peers:
        orders.met[str(await peer.ended(CUT_WITHIN_S))] += 1
    _leave(peers)


async def bad_frames(orders: Orders) -> None:
    """Frames that mean nothing, or break the protocol."""

    async def one() -> None:
        peer = await visiting(orders.port, orders.token(), orders.source())
        for frame in orders.random.choices(BAD_FRAMES, k=5):
            peer.transport.write(frame)
        orders.met[str(await peer.ended(1))] += 1
        peer.transport.abort()

    await orders.steadily(one)


def _leave(peers: Iterable[Peer]) -> None:
    for peer in peers:
        peer.transport.abort()


ATTACKS = {each.__name__: each for each in (idle, handshakes, frames, pings, readers, oversized, half_open, bad_frames)}


async def main(name: str, said: str) -> None:
    """One attack, until the input ends."""
    orders = Orders(**json.loads(said))
    attack = asyncio.create_task(ATTACKS[name](orders))
    begun = asyncio.create_task(orders.begun.wait())
    await asyncio.wait([attack, begun], return_when=asyncio.FIRST_COMPLETED)
    print("begun", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    orders.over.set()
    await attack
    print(json.dumps(orders.met), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
