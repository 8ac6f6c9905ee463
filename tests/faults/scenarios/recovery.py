"""R2 alone: one worker is killed at a time, while others stand by; how long its tasks wait for them."""

from tests.faults.report import Figure
from tests.faults.scenarios import storm
from tests.faults.size import Size

KILLS = {"kill group": 1, "kill parent": 1, "kill child": 1}
GAP_S = (8.0, 12.0)
"""A pool is back after five seconds at most."""


def run(size: Size, broken: str = "") -> list[Figure]:
    """The storm's figures, with nothing but single deaths in it."""
    return storm.run(size, broken, weights=KILLS, gap_s=GAP_S)
