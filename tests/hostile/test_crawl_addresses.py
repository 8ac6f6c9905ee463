"""A part of the forbidden addresses by every road; `python -m tests.hostile.addresses` takes them all."""

import pytest

from tests.hostile.addresses import EVERYBODY_ALLOWED, ROADS, Road, good_ones, travel
from tests.hostile.spellings import forbidden_addresses, loopback_hosts

EVERY = 13


@pytest.mark.parametrize("road", ROADS.values(), ids=ROADS)
def test_no_road_leads_to_a_forbidden_address(road: Road) -> None:
    outcomes, connects = travel(road, every=EVERY)
    assert (connects, outcomes["reached"]) == (0, 0)
    assert outcomes.total() >= 9


@pytest.mark.parametrize("road", [road for name, road in ROADS.items() if name != "link"])
def test_without_the_guard_every_road_but_a_link_leads_there(road: Road) -> None:
    assert travel(road, EVERYBODY_ALLOWED, 40)[1] > 0


def test_good_addresses_are_dialled_as_they_are() -> None:
    tried, passed = good_ones()
    assert tried == passed >= 100


def test_there_are_vectors_of_every_kind() -> None:
    assert len(loopback_hosts()) > 800
    assert len(forbidden_addresses()) > 100
