"""Refreshes: due when their period is over, a few of an org at once, and never what its owner has settled otherwise."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.reconcile.two_databases import TwoDatabases
from workers.reconcile import refresh as module
from workers.reconcile.refresh import PERIOD_S, REFRESH, Refresher, period_s

pytestmark = pytest.mark.stack
DAY_S = 86_400


def scheduled(
    two: TwoDatabases, count: int = 1, refresh: str = "daily", *, days: float = 1.2, **columns: Any
) -> list[UUID]:
    """Sources with a schedule, trained so many days ago."""
    sources = [two.add_source(f"Words {number}.", **columns) for number in range(count)]
    two.converge()
    two.there(
        "UPDATE training_sources SET options = jsonb_build_object('refresh', CAST(:refresh AS text)) WHERE id = ANY (:ids)",
        refresh=refresh,
        ids=sources,
    )
    two.converge()  # an edit of the options is a new version
    age(two, days)
    return sources


def age(two: TwoDatabases, days: float) -> None:
    two.here("UPDATE generations SET switched_at = now() - make_interval(secs => :age_s)", age_s=days * DAY_S)
    two.here(
        "UPDATE training_jobs SET created_at = created_at - make_interval(secs => :age_s),"
        " finished_at = finished_at - make_interval(secs => :age_s)",
        age_s=days * DAY_S,
    )


def refresh(two: TwoDatabases) -> int:
    return Refresher(two.engines, 2).refresh()


def test_a_source_is_trained_again_when_its_day_is_over(two: TwoDatabases) -> None:
    [source_id] = scheduled(two, days=0.8)
    assert refresh(two) == 0
    age(two, 1.2)
    assert (refresh(two), refresh(two)) == (1, 0)
    [run] = two.here("SELECT priority, request_id, source_id FROM training_jobs WHERE status = 'waiting'")
    assert run == {"priority": "bulk", "request_id": REFRESH, "source_id": source_id}
    two.converge()
    assert (refresh(two), two.status(source_id)) == (0, "trained")


@pytest.mark.parametrize(
    ("name", "days", "due"), [("weekly", 6, 0), ("weekly", 8, 1), ("monthly", 26, 0), ("monthly", 34, 1)]
)
def test_a_source_is_due_when_its_period_is_over(two: TwoDatabases, name: str, days: float, due: int) -> None:
    scheduled(two, refresh=name, days=days)
    assert refresh(two) == due


def test_an_unknown_schedule_is_none(two: TwoDatabases) -> None:
    scheduled(two, refresh="hourly")
    assert refresh(two) == 0


def test_so_many_of_an_org_at_once_and_the_stalest_first(two: TwoDatabases) -> None:
    sources = scheduled(two, 5)
    org_id, bot_id = two.add_bot(other_org=True)
    other = scheduled(two, org_id=org_id, bot_id=bot_id)
    two.here("UPDATE generations SET switched_at = switched_at - interval '1 day' WHERE source_id = :id", id=sources[3])
    assert (refresh(two), refresh(two)) == (3, 0)
    waiting = {row["source_id"] for row in two.here("SELECT source_id FROM training_jobs WHERE status = 'waiting'")}
    assert {sources[3], *other} < waiting
    two.claim()
    assert refresh(two) == 0
    two.here(
        "UPDATE training_jobs SET status = 'succeeded', finished_at = now() WHERE status IN ('waiting', 'running')"
    )
    assert refresh(two) == 3


def test_while_any_are_due_each_sweep_fills_what_is_free_and_then_it_rests(two: TwoDatabases) -> None:
    scheduled(two, 5)
    refresher = Refresher(two.engines, 2)
    assert (refresher.refresh(), refresher.refresh()) == (2, 0)
    two.work()
    assert refresher.refresh() == 2
    two.work()
    assert refresher.refresh() == 1
    two.work()
    assert refresher.refresh() == 0
    age(two, 1.2)
    assert (refresher.refresh(), refresh(two)) == (0, 2)


def test_pages_take_turns_also_when_there_is_only_ever_room_at_the_first(
    two: TwoDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sorted(scheduled(two, 8))
    monkeypatch.setattr(module, "PAGE", 3)
    refresher, pages = Refresher(two.engines, 1), [sources[:3], sources[3:6], sources[6:]]
    served: list[int] = []
    for _ in sources:
        assert sum(refresher.refresh() for _ in pages) == 1
        [run] = two.here("SELECT source_id FROM training_jobs WHERE status = 'waiting'")
        served += [number for number, page in enumerate(pages) if run["source_id"] in page]
        two.work()
    assert served == [0, 1, 2, 0, 1, 2, 0, 1]


LEFT_ALONE = {
    "pinned": "UPDATE sources SET pinned_version = 'any'",
    "gone from the dashboard": "UPDATE sources SET removal_held_at = now()",
    "deleted here": "UPDATE sources SET deleted_at = now()",
    "in training": "UPDATE training_jobs SET status = 'running'",
    "failed for good within the period": "UPDATE training_jobs SET status = 'failed', error_retryable = false,"
    " finished_at = now() - interval '2 hours'",
    "cancelled within the period": "UPDATE training_jobs SET status = 'cancelled', finished_at = now() - interval '2 hours'",
    "given up on within the hour": "UPDATE training_jobs SET status = 'failed', error_retryable = true,"
    " finished_at = now() - interval '50 minutes'",
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_a_source_is_left_alone_that_is(two: TwoDatabases, why: str) -> None:
    scheduled(two)
    newest = " WHERE job_id = (SELECT job_id FROM training_jobs ORDER BY created_at DESC LIMIT 1)"
    two.here(LEFT_ALONE[why] + (newest if "training_jobs" in LEFT_ALONE[why] else ""))
    assert refresh(two) == 0


def test_what_was_given_up_on_is_tried_again_after_an_hour(two: TwoDatabases) -> None:
    scheduled(two)
    two.here(
        "UPDATE training_jobs SET status = 'failed', error_retryable = true, finished_at = now() - interval '2 hours'"
    )
    assert refresh(two) == 1


def test_what_a_months_pages_did_not_allow_is_tried_in_the_next_month(two: TwoDatabases) -> None:
    scheduled(two, refresh="monthly", days=40)
    month = "date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
    failed = "UPDATE training_jobs SET status = 'failed', error_code = 'quota_exceeded', error_retryable = false"
    two.here(f"{failed}, finished_at = greatest({month}, now() - interval '1 minute')")
    assert refresh(two) == 0
    two.here(f"{failed}, finished_at = {month} - interval '1 second'")
    assert refresh(two) == 1


@given(st.uuids(), st.sampled_from(sorted(PERIOD_S)))
def test_a_period_is_its_own_give_or_take_a_tenth_and_always_the_same(source_id: UUID, name: str) -> None:
    assert 0.9 * PERIOD_S[name] <= period_s(source_id, name) <= 1.1 * PERIOD_S[name]
    assert period_s(source_id, name) == period_s(source_id, name)


def test_periods_are_spread() -> None:
    found = [period_s(uuid4(), "daily") / DAY_S for _ in range(200)]
    assert min(found) < 0.93
    assert max(found) > 1.07
