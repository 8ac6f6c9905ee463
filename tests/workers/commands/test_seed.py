"""`seed`: the same made-up org each time, trained when asked, and gone without a trace of anything else."""

import pytest

from tests.workers.commands.conftest import Operator
from workers.commands.seed_content import SIZES, seed_bots, seed_org

pytestmark = pytest.mark.stack
SMALL = seed_org("small")


def rows(operator: Operator) -> dict[str, list[object]]:
    """The dashboard's ids, by table."""
    return {
        table: [row["id"] for row in operator.world.dashboard(f"SELECT id FROM {table} ORDER BY id")]
        for table in ("orgs", "bots", "files", "training_sources")
    }


@pytest.mark.parametrize("size", SIZES)
def test_everything_made_up_is_the_same_each_time(size: str) -> None:
    bots, (count, written) = list(seed_bots(size, "https://a.example")), SIZES[size]
    assert bots == list(seed_bots(size, "https://a.example/"))
    assert len({source.source_id for bot in bots for source in bot.sources}) == count * (written + 3)
    assert {source.type for source in bots[0].sources} == {"url", "site", "sitemap", "file", "text", "qa"}


def test_it_is_made_once_trained_and_taken_away(operator: Operator) -> None:
    before = rows(operator)
    site = operator.world.site.url("")
    assert operator.run("seed", "--size", "small", "--site", site)[0] == 0
    (bot,) = seed_bots("small", site)
    made = rows(operator)
    code, out, _ = operator.run("seed", "--size", "small", "--site", site, "--process")
    assert (code, rows(operator), set(operator.objects())) == (1, made, set(bot.objects))
    assert str(SMALL) in out
    assert str(bot.bot_id) in out
    assert "3 failed, 6 succeeded" in out
    assert len(operator.live(bot.bot_id)) > 6
    assert operator.run("seed", "--size", "small", "--clear")[0] == 0
    assert (rows(operator), operator.objects(), operator.live(bot.bot_id)) == (before, {}, [])


def test_what_somebody_added_to_it_stays(operator: Operator) -> None:
    operator.run("seed", "--size", "small")
    (bot,) = seed_bots("small", "https://example.com")
    operator.world.dashboard(
        "INSERT INTO training_sources (id, org_id, bot_id, type) VALUES (gen_random_uuid(), %s, %s, 'text')",
        *(SMALL, bot.bot_id),
    )
    code, out, _ = operator.run("seed", "--size", "small", "--clear")
    assert (code, "stays: something else is in it" in out) == (0, True)
    assert len(operator.sources(bot.bot_id)) == 1
    operator.world.dashboard("DELETE FROM training_sources WHERE org_id = %s", SMALL)
    assert operator.run("seed", "--size", "small", "--clear")[0] == 0
    assert SMALL not in rows(operator)["orgs"]


def test_production_is_no_place_for_it(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(operator)
    monkeypatch.setenv("APP_ENV", "production")
    for options in ([], ["--clear"]):
        code, _, err = operator.run("seed", "--size", "small", *options)
        assert (code, "a production deployment" in err, rows(operator)) == (2, True, before)
