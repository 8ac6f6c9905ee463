"""Redis that failed is left alone for a while, and then asked again."""

from redis import ConnectionError as RedisGoneError
from structlog.testing import capture_logs

from chat_api.core.redis_client import AWAY_FOR_S, Away


def test_redis_is_left_alone_for_a_while_after_each_failure() -> None:
    now = [1000.0]
    away = Away("counted_alone", lambda: now[0])
    assert not away
    with capture_logs() as lines:
        away.note(RedisGoneError())
    assert [(line["event"], line["error"]) for line in lines] == [("counted_alone", "ConnectionError")]
    now[0] += AWAY_FOR_S - 1
    assert away
    away.note(RedisGoneError())
    now[0] += AWAY_FOR_S - 1
    assert away
    now[0] += 1
    assert not away
