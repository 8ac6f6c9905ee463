"""Bad servers as the program that measures them meets them: one typed error each, in little memory."""

import pytest

from tests.hostile.bad_servers import SERVERS, cost_of
from tests.hostile.server_scripts import LARGE
from tests.workers.fetch.loopback import reply

BOMBS = [name for name in LARGE if "bomb" in name or "never ends" in name]


def test_there_are_enough_of_them() -> None:
    assert len(SERVERS) >= 40


@pytest.mark.parametrize("name", [BOMBS[0], "sends a gzip bomb"])
def test_what_is_too_large_does_not_fill_the_memory(name: str) -> None:
    cost = cost_of(LARGE[name], 30)
    assert cost.code == "too_large"
    assert cost.megabytes < 8


def test_a_good_page_is_one() -> None:
    assert cost_of(reply(b"page"), 30).code == "page"
