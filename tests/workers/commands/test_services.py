"""The doctor's look at Redis, the bucket and the embedding provider: real ones, wrong ones, and ones that are silent."""

import json
import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from chat_api.core.settings import Settings
from tests.conftest import make_settings
from tests.provider import Provider
from tests.servers import Servers, free_port
from tests.workers.reconcile.two_databases import TwoDatabases
from workers.cli import main
from workers.commands.services import examine_services

pytestmark = pytest.mark.stack
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:1/nowhere"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """The loopback model provider."""
    with Provider() as started:
        yield started


@pytest.fixture
def serving(servers: Servers, redis_url: str, bucket: str, provider: Provider) -> Settings:
    """A deployment whose Redis, bucket and embedding provider serve."""
    provider.reset()
    return make_settings(servers, NOWHERE, NOWHERE, redis_url, bucket).model_copy(
        update={
            "embedding_provider": "openai",
            "embedding_model": "text-embedding-3-small",
            "embedding_dimensions": 256,
            "openai_base_url": provider.base_url,
            "openai_api_key": SecretStr("sk-test"),
        }
    )


def troubles(settings: Settings, limit_s: float = 20) -> dict[str, list[str]]:
    return {finding.name: finding.names for finding in examine_services(settings, limit_s)}


def test_what_serves_is_asked_for_one_vector_and_is_no_finding(serving: Settings, provider: Provider) -> None:
    assert troubles(serving) == {}
    assert (provider.counts.requests["embeddings"], provider.counts.inputs) == (1, 1)


def test_without_a_key_no_provider_is_asked(serving: Settings, provider: Provider) -> None:
    assert troubles(serving.model_copy(update={"embedding_provider": "local"})) == {}
    assert not provider.counts.requests


def test_what_is_away_or_wrong_is_said(serving: Settings, servers: Servers) -> None:
    wrong_word = servers.redis_url.replace("://:", "://:not-")
    assert wrong_word != servers.redis_url
    wrong = {
        "redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0"),
        "r2_bucket": "nowhere",
        "openai_base_url": f"http://127.0.0.1:{free_port()}/v1",
    }
    found = troubles(serving.model_copy(update=wrong))
    assert found["redis_away"] == ["ConnectionError"]
    assert found["bucket_away"] == ["There is no bucket nowhere."]
    assert len(found["embedding_provider"]) == 1
    found = troubles(serving.model_copy(update={"redis_url": SecretStr(wrong_word)}))
    assert found == {"redis_away": ["AuthenticationError"]}


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, None, "The embedding provider refused the API key (HTTP 401)."),
        (429, "insufficient_quota", "The embedding provider's account has no credit left."),
        (404, None, "The embedding provider does not serve text-embedding-3-small here (HTTP 404)."),
    ],
)
def test_a_provider_that_refuses_is_said_with_its_reason(
    serving: Settings, provider: Provider, status: int, code: str | None, words: str
) -> None:
    provider.fail(status, code=code)
    assert troubles(serving) == {"embedding_provider": [words]}


def test_a_provider_that_is_busy_serves(serving: Settings, provider: Provider) -> None:
    provider.fail(429)
    assert troubles(serving) == {}


def test_what_is_silent_is_not_waited_for(serving: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        mute = {
            "redis_url": SecretStr(f"redis://{address}/0"),
            "r2_endpoint_url": f"http://{address}",
            "openai_base_url": f"http://{address}/v1",
        }
        said = ["no answer within 0.2 s"]
        found = troubles(serving.model_copy(update=mute), 0.2)
    assert found == {"redis_away": said, "bucket_away": said, "embedding_provider": said}


def test_the_doctor_says_so_and_its_exit_code_too(
    deployed: TwoDatabases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.sweep()
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "Nothing is wrong.\n"
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    assert main(["doctor", "--fix", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["name"], finding["done"], finding["fixable"]) == ("redis_away", None, False)
