"""What a worker process is made of, and what it says of that."""

import pytest
from structlog.testing import capture_logs

from chat_api.core.settings import Settings
from workers.bootstrap import bootstrap


@pytest.mark.parametrize("allowed", ["", "127.0.0.1:8099"])
def test_an_opened_address_guard_is_told_by_every_process_that_fetches(allowed: str) -> None:
    databases = {
        f"{database}_{name}": "x"
        for database in ("dashboard_db", "python_chat_db")
        for name in ("host", "username", "name")
    }
    settings = Settings.model_validate(
        {
            **databases,
            "embedding_provider": "local",
            "llm_provider": "extractive",
            "r2_endpoint_url": "http://127.0.0.1:1",
            "access_key_id": "x",
            "secret_access_key": "x",
            "fetch_allow": allowed,
        }
    )
    with capture_logs() as lines:
        bootstrap(settings)
    told = [line["fetch_allow"] for line in lines if line["event"] == "address_guard_opened"]
    assert told == [allowed] * bool(allowed)
