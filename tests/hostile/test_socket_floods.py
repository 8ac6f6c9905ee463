"""Attacks on the chat's sockets in small: ordinary visitors lose nothing, and memory is bounded.

`python -m tests.hostile.sockets` makes all of them, at full size; how silent peers and slow readers end is in test_server.py.
"""

from pathlib import Path

import pytest

from tests.hostile.sockets import Size, run
from tests.hostile.sockets_world import deployed
from tests.servers import Servers

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SMALL = Size(
    idle=200, peers=10, rate=10, seconds=2, attacks=("idle", "handshakes", "frames", "oversized", "bad_frames")
)


def test_floods_harm_nobody_else(servers: Servers, tmp_path: Path) -> None:
    with deployed(servers, tmp_path) as target:
        figures = run(target, SMALL)
    assert [figure for figure in figures if figure.broken] == []
