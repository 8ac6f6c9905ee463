"""Which embedder serves a space: the settings' own, another model of the same server, MiniLM in process, or nobody."""

import asyncio
import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from chat_api.core.embeddings import LOCAL_SPACE, Embedders, EmbeddingSpace, OpenAIEmbedder, make_embedder
from chat_api.core.errors import EmbeddingMisconfigured
from chat_api.core.settings import Settings
from tests.provider import Provider

SMALL = EmbeddingSpace("text-embedding-3-small", 1536)
LARGE = EmbeddingSpace("text-embedding-3-large", 256)
HAS_RUNTIME = bool(importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tokenizers"))


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.reset()
    return running


def settings(**changes: Any) -> Settings:
    names = ["dashboard_db_host", "dashboard_db_username", "dashboard_db_name"]
    names += ["python_chat_db_host", "python_chat_db_username", "python_chat_db_name", "r2_account_id"]
    fixed: dict[str, Any] = dict.fromkeys(names, "x")
    return Settings.model_validate(fixed | {"openai_api_key": "sk-test", "llm_provider": "extractive"} | changes)


def test_another_space_than_the_settings_is_asked_of_the_same_server(provider: Provider) -> None:
    embedder = make_embedder(settings(embedding_base_url=provider.base_url), LARGE)
    assert embedder.space == LARGE
    assert embedder.embed(["one", "two"]).shape == (2, 256)
    assert provider.counts.models == {"text-embedding-3-large": 2}


def test_models_do_not_share_vectors(provider: Provider) -> None:
    given = settings(openai_base_url=provider.base_url)
    small, large = make_embedder(given), make_embedder(given, EmbeddingSpace("text-embedding-3-large", 1536))
    assert abs(float(small.embed(["delivery costs"])[0] @ large.embed(["delivery costs"])[0])) < 0.5
    assert np.allclose(small.embed(["delivery costs"]), small.embed(["delivery costs"]))


@pytest.mark.parametrize("space", [LARGE, EmbeddingSpace("some-model", 100)])
def test_dimensions_that_are_not_the_models_own_are_asked_for(provider: Provider, space: EmbeddingSpace) -> None:
    embedder = make_embedder(settings(openai_base_url=provider.base_url), space)
    assert embedder.embed(["x"]).shape == (1, space.dimensions)


def test_a_space_of_a_server_without_a_key_says_what_to_do() -> None:
    given = settings(embedding_provider="local", openai_api_key=None)
    with pytest.raises(EmbeddingMisconfigured, match=r"text-embedding-3-large \(256 .*workers\.cli reembed"):
        make_embedder(given, LARGE)


@pytest.mark.skipif(HAS_RUNTIME, reason="MiniLM's runtime is installed")
def test_the_local_space_without_its_runtime_says_what_to_do() -> None:
    with pytest.raises(EmbeddingMisconfigured, match=r"all-MiniLM-L6-v2 .*workers\.cli reembed"):
        make_embedder(settings(), LOCAL_SPACE)


@pytest.mark.skipif(not HAS_RUNTIME, reason="MiniLM's runtime is not installed")
def test_the_local_space_is_served_in_process_whatever_the_settings_say() -> None:
    embedder = make_embedder(settings(openai_base_url="http://127.0.0.1:1/v1"), LOCAL_SPACE)
    assert embedder.space == LOCAL_SPACE
    assert embedder.embed(["hello"]).shape == (1, 384)


def test_a_server_that_serves_the_local_model_by_its_settings_is_asked(provider: Provider) -> None:
    given = settings(
        embedding_model=LOCAL_SPACE.model,
        embedding_dimensions=LOCAL_SPACE.dimensions,
        openai_base_url=provider.base_url,
    )
    assert make_embedder(given).embed(["x"]).shape == (1, 384)
    assert make_embedder(given, LOCAL_SPACE).embed(["x"]).shape == (1, 384)
    assert provider.counts.models == {LOCAL_SPACE.model: 2}


def test_a_process_has_one_embedder_for_each_space(provider: Provider) -> None:
    embedders = Embedders(settings(openai_base_url=provider.base_url))
    assert embedders.space == SMALL
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(embedders.of, [SMALL, LARGE] * 8))
    assert {id(embedder) for embedder in found} == {id(embedders.of(SMALL)), id(embedders.of(LARGE))}
    assert [embedder.space for embedder in found[:2]] == [SMALL, LARGE]


def test_a_space_that_could_not_be_served_is_tried_again(provider: Provider) -> None:
    embedders = Embedders(settings(embedding_provider="local", openai_api_key=None))
    for _ in range(2):
        with pytest.raises(EmbeddingMisconfigured):
            embedders.of(LARGE)


def test_what_was_given_is_used_for_its_space_and_left_open(provider: Provider) -> None:
    given = OpenAIEmbedder(EmbeddingSpace("mine", 12), api_key="sk-test", base_url=provider.base_url)
    embedders = Embedders(settings(openai_base_url=provider.base_url), given)
    assert embedders.space == given.space
    assert embedders.of(given.space) is given
    given.embed(["x"])
    embedders.of(LARGE).embed(["x"])
    asyncio.run(embedders.aclose())
    assert given.embed(["x"]).shape == (1, 12)
    with pytest.raises(RuntimeError, match="closed"):
        embedders.of(LARGE).embed(["x"])
