"""The stand-in dashboard and its client: rows, files, tokens and calls, against real servers and a scripted API."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from deploy.local.client import DashboardClient, Refused, Stack
from deploy.local.dashboard import create_app
from tests.conformance.scripted import serving
from tests.servers import Servers, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SITE = "http://127.0.0.1:4000"
Call = tuple[str, str, Any, str]


@pytest.fixture(scope="module")
def private_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dashboard's signing key."""
    path = tmp_path_factory.mktemp("jwt") / "private.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return path


@pytest.fixture
def calls() -> list[Call]:
    """What reached the scripted API: method, path, body, authorization."""
    return []


@contextmanager
def scripted_api(calls: list[Call]) -> Iterator[str]:
    """An API that takes every source but those it is told of by a special id."""
    app = FastAPI(openapi_url=None)

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def anything(request: Request, path: str) -> JSONResponse:
        text = await request.body()
        calls.append((request.method, "/" + path, json.loads(text) if text else None, request.headers["authorization"]))
        if path.endswith(str(UUID(int=404))):
            problem = {"status": 404, "code": "unknown_source", "detail": "There is no source with this id."}
            return JSONResponse(problem, 404, media_type="application/problem+json")
        looks = sum(call[1].startswith("/api/training/jobs/") for call in calls)
        return JSONResponse({"jobs": [{"job_id": "j"}], "status": "succeeded" if looks > 2 else "running"})

    with serving(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def stack(servers: Servers, dashboard_db: str, bucket: str, private_key: Path, calls: list[Call]) -> Iterator[Stack]:
    """A stack of real servers with the scripted API in it."""
    with scripted_api(calls) as api_url:
        yield {
            "api_url": api_url,
            "dashboard_url": SITE,
            "dashboard_db_dsn": dashboard_db,
            "s3": {
                "endpoint_url": servers.s3_endpoint,
                "bucket": bucket,
                "access_key_id": servers.s3_access_key,
                "secret_access_key": servers.s3_secret_key,
            },
            "jwt": {"private_key_path": str(private_key), "public_key_path": ""},
        }


@pytest.fixture
def client(stack: Stack) -> DashboardClient:
    """A dashboard user at work."""
    return DashboardClient(stack)


@pytest.fixture
def bot(client: DashboardClient) -> UUID:
    """A bot of the sample company."""
    return client.add_bot("Kilns", {"welcome_message": "Hello!"})


@pytest.fixture
def stack_json(tmp_path: Path, stack: Stack) -> Path:
    """The stack's description on disk."""
    path = tmp_path / "stack.json"
    path.write_text(json.dumps(stack))
    return path


@pytest.fixture
def site(stack_json: Path) -> Iterator[TestClient]:
    """The dashboard, as a browser at its address sees it."""
    with TestClient(create_app(stack_json), base_url=SITE, raise_server_exceptions=False) as client:
        yield client


def rows(stack: Stack, query: str) -> list[tuple[Any, ...]]:
    """What the dashboard database holds."""
    with psycopg.connect(stack["dashboard_db_dsn"]) as connection:
        return connection.execute(query.encode()).fetchall()


def claims(token: str) -> dict[str, Any]:
    """A token's claims, unverified."""
    return jwt.decode(token, options={"verify_signature": False})


# --- the client ------------------------------------------------------------------------------------------------------


def test_each_kind_of_source_is_a_row_as_the_service_reads_it(client: DashboardClient, bot: UUID, stack: Stack) -> None:
    client.add_url_source(bot, "https://a.example/")
    client.add_site_source(bot, "https://b.example/", max_pages=7)
    client.add_sitemap_source(bot, "https://c.example/sitemap.xml")
    client.add_text_source(bot, "Hours", "From nine.")
    client.add_qa_source(bot, "Questions", [{"question": "When?", "answer": "At nine."}])
    found = rows(stack, "SELECT type, url, title, content, options, status FROM training_sources ORDER BY created_at")
    assert found == [
        ("url", "https://a.example/", None, None, {}, "pending"),
        ("site", "https://b.example/", None, None, {"max_pages": 7}, "pending"),
        ("sitemap", "https://c.example/sitemap.xml", None, None, {}, "pending"),
        ("text", None, "Hours", {"text": "From nine."}, {}, "pending"),
        ("qa", None, "Questions", {"pairs": [{"question": "When?", "answer": "At nine."}]}, {}, "pending"),
    ]


def test_a_file_lies_in_the_bucket_under_its_rows_key(
    client: DashboardClient, bot: UUID, stack: Stack, s3: "S3Client", tmp_path: Path
) -> None:
    path = tmp_path / "Über uns.PDF"
    path.write_bytes(b"%PDF-1.7 x")
    source_id = client.add_file_source(bot, path)
    [(key, name, kind, size)] = rows(stack, "SELECT object_key, filename, content_type, size_bytes FROM files")
    assert (name, kind, size) == ("Über uns.PDF", "application/pdf", 10)
    assert key.endswith(".pdf")
    answer = s3.get_object(Bucket=stack["s3"]["bucket"], Key=key)
    assert (answer["Body"].read(), answer["ContentType"]) == (b"%PDF-1.7 x", "application/pdf")
    assert [(row["id"], row["title"]) for row in client.sources(bot)] == [(source_id, "Über uns.PDF")]


def test_the_bot_of_a_name_is_made_once(client: DashboardClient) -> None:
    first = client.ensure_org_and_bot("Demo", {"welcome_message": "Hi"})
    assert client.ensure_org_and_bot("Demo", {}) == first
    assert [(bot["name"], bot["config"]) for bot in client.bots()] == [("Demo", {"welcome_message": "Hi"})]


def test_another_orgs_bots_and_sources_are_out_of_reach(client: DashboardClient, bot: UUID, stack: Stack) -> None:
    client.add_url_source(bot, "https://a.example/")
    stranger = DashboardClient(stack, org_id=uuid4())
    assert stranger.bots() == []
    assert stranger.sources(bot) == []
    with pytest.raises(Refused):
        stranger.change_bot(bot, "Mine", {})


def test_a_token_says_who_for_whom_and_how_long(client: DashboardClient, bot: UUID) -> None:
    found = claims(client.sign_token("chat", bot_id=bot, subject="visitor-1", origins=[SITE]))
    assert (found["sub"], found["org_id"], found["bot_id"]) == ("visitor-1", str(client.org_id), str(bot))
    assert (found["scope"], found["origins"]) == ("chat", [SITE])
    assert found["exp"] - found["iat"] <= 3600
    assert abs(found["iat"] - time.time()) < 60
    assert not {"bot_id", "origins"} & claims(client.sign_token("training:read")).keys()


def test_a_source_is_queued_with_a_training_token(client: DashboardClient, calls: list[Call]) -> None:
    assert client.queue(UUID(int=1)) == {"job_id": "j"}
    [(method, path, body, authorization)] = calls
    assert (method, path, body) == ("POST", "/api/training/queue", {"source_id": str(UUID(int=1)), "force": False})
    assert claims(authorization.removeprefix("Bearer "))["scope"] == "training:write training:read"


def test_a_deleted_source_leaves_the_list_after_the_service_took_it(
    client: DashboardClient, bot: UUID, calls: list[Call]
) -> None:
    source_id = client.add_url_source(bot, "https://a.example/")
    client.delete_source(source_id)
    assert [call[:2] for call in calls] == [("DELETE", f"/api/training/delete/{source_id}")]
    assert client.sources(bot) == []


def test_waiting_ends_with_the_job_and_shows_every_look(client: DashboardClient) -> None:
    seen: list[str] = []
    [job] = client.wait_until_done(["j"], lambda job: seen.append(job["status"]))
    assert job["status"] == "succeeded"
    assert seen == ["running", "running", "succeeded"]


def test_waiting_has_an_end(client: DashboardClient) -> None:
    with pytest.raises(TimeoutError):
        client.wait_until_done(["j"], lambda _: None, timeout_s=0)


# --- its server ------------------------------------------------------------------------------------------------------


def test_a_page_added_on_the_page_is_queued(site: TestClient, bot: UUID, calls: list[Call]) -> None:
    answer = site.post(f"/dashboard/api/bots/{bot}/sources", json={"type": "url", "url": "https://a.example/"})
    assert answer.status_code == 201
    assert answer.json()["notice"] is None
    [source] = site.get(f"/dashboard/api/bots/{bot}/sources").json()
    assert (source["url"], source["status"], source["progress"]) == ("https://a.example/", "pending", 0)
    assert calls[0][2] == {"source_id": source["id"], "force": False}


def test_settings_are_saved_and_emptied_ones_left_to_the_service(site: TestClient, client: DashboardClient) -> None:
    form = {"name": "A", "welcome_message": "Hi", "sample_questions": ["When?"]}
    bot = site.post("/dashboard/api/bots", json=form).json()["id"]
    assert client.bots()[0]["config"] == {"welcome_message": "Hi", "sample_questions": ["When?"]}
    assert site.put(f"/dashboard/api/bots/{bot}", json={"name": "B", "disclaimer": "May err."}).status_code == 204
    assert [(row["name"], row["config"]) for row in client.bots()] == [("B", {"disclaimer": "May err."})]


def test_an_upload_becomes_a_queued_file(site: TestClient, bot: UUID, stack: Stack, calls: list[Call]) -> None:
    url = f"/dashboard/api/bots/{bot}/files"
    assert site.post(url, params={"filename": "../../a b.md"}, content=b"# Hi").status_code == 201
    assert rows(stack, "SELECT filename, content_type, size_bytes FROM files") == [("a b.md", "text/markdown", 4)]
    assert calls[0][1] == "/api/training/queue"


def test_without_an_api_the_source_is_kept_and_the_owner_told(
    site: TestClient, bot: UUID, stack: Stack, stack_json: Path
) -> None:
    stack_json.write_text(json.dumps({**stack, "api_url": f"http://127.0.0.1:{free_port()}"}))
    answer = site.post(f"/dashboard/api/bots/{bot}/sources", json={"type": "text", "title": "T", "text": "x"})
    assert answer.status_code == 201
    assert "starts by itself" in answer.json()["notice"]
    assert len(site.get(f"/dashboard/api/bots/{bot}/sources").json()) == 1


def test_the_apis_refusal_arrives_as_its_sentence(site: TestClient) -> None:
    answer = site.delete(f"/dashboard/api/sources/{UUID(int=404)}")
    assert answer.status_code == 404
    assert answer.json() == {"code": "unknown_source", "detail": "There is no source with this id."}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda stack, port: {**stack, "dashboard_db_dsn": f"postgresql://u@127.0.0.1:{port}/d"}, "database"),
        (lambda stack, port: {**stack, "api_url": f"http://127.0.0.1:{port}"}, "API"),
    ],
)
def test_what_is_away_is_named(
    site: TestClient, stack: Stack, stack_json: Path, change: Callable[[Stack, int], Any], word: str
) -> None:
    stack_json.write_text(json.dumps(change(stack, free_port())))
    path = "/dashboard/api/state" if word == "database" else f"/dashboard/api/jobs/{UUID(int=1)}"
    answer = site.get(path)
    assert answer.status_code == 503
    assert word in answer.json()["detail"]


def test_a_stack_that_comes_up_or_moves_is_followed(site: TestClient, stack: Stack, stack_json: Path) -> None:
    stack_json.unlink()
    assert site.get("/dashboard/api/state").status_code == 503
    stack_json.write_text(json.dumps(stack))
    assert site.get("/dashboard/api/state").json()["api_url"] == stack["api_url"]
    stack_json.write_text(json.dumps({**stack, "api_url": "http://127.0.0.1:1"}))
    os.utime(stack_json, ns=(1, 1))
    assert site.get("/dashboard/api/state").json()["api_url"] == "http://127.0.0.1:1"


def test_a_visitor_keeps_the_cookie_and_gets_a_chat_token_for_this_origin(
    site: TestClient, bot: UUID, stack: Stack
) -> None:
    first, second = (site.get("/widget-token", params={"bot_id": str(bot)}) for _ in range(2))
    one, two = (claims(answer.json()["token"]) for answer in (first, second))
    assert one["sub"] == two["sub"]
    assert one["sub"].startswith("visitor-")
    assert (one["scope"], one["bot_id"], one["origins"]) == ("chat", str(bot), [SITE])
    assert "HttpOnly" in first.headers["set-cookie"]
    assert first.headers["cache-control"] == "no-store"
    site.get(f"http://localhost:4000/widget-token?bot_id={bot}")
    assert rows(stack, "SELECT allowed_origins FROM bots") == [([SITE, "http://localhost:4000"],)]


def test_a_token_for_an_unknown_bot_is_refused(site: TestClient) -> None:
    assert site.get("/widget-token", params={"bot_id": str(uuid4())}).status_code == 404


def test_other_websites_can_not_write_through_it(site: TestClient, bot: UUID) -> None:
    path, body = f"/dashboard/api/bots/{bot}/sources", {"type": "url", "url": "https://a.example/"}
    assert site.post(path, json=body, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert site.post(path, json=body, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201


def test_a_name_that_was_rebound_to_loopback_is_refused(site: TestClient) -> None:
    assert site.get("/dashboard/api/state", headers={"Host": "evil.example"}).status_code == 400


def test_pages_carry_the_widget_and_a_strict_policy(site: TestClient, bot: UUID, stack: Stack) -> None:
    page = site.get("/demo")
    assert f'src="{stack["api_url"]}/widget.js" data-token-url="/widget-token?bot_id={bot}"' in page.text
    assert f"script-src 'self' {stack['api_url']};" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for address in ("/assets/app.js", "/assets/style.css", "/assets/demo.css"):
        assert site.get(address).status_code == 200
    assert site.get("/assets/nothing.js").status_code == 404


def test_the_demo_page_without_a_bot_leads_to_the_dashboard(site: TestClient) -> None:
    assert site.get("/demo", follow_redirects=False).headers["location"] == "/"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("index.html", "text/html"),
        ("", "text/html"),
        ("style.css", "text/css"),
        ("sitemap.xml", "application/xml"),
        ("robots.txt", "text/plain"),
    ],
)
def test_the_sample_site_says_no_charset(site: TestClient, path: str, media_type: str) -> None:
    answer = site.get(f"/sample/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type


def test_the_sample_sites_own_addresses_are_the_real_ones(site: TestClient) -> None:
    assert f"<loc>{SITE}/sample/delivery.html</loc>" in site.get("/sample/sitemap.xml").text
    assert f"Sitemap: {SITE}/sample/sitemap.xml" in site.get("/sample/robots.txt").text


def test_an_unchanged_sample_page_is_not_sent_again(site: TestClient) -> None:
    tag = site.get("/sample/index.html").headers["etag"]
    assert site.get("/sample/index.html", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("path", ["/sample/../client.py", "/sample/%2e%2e/%2e%2e/client.py", "/assets/..%2fclient.py"])
def test_no_file_outside_is_served(site: TestClient, path: str) -> None:
    assert site.get(path).status_code in {404, 422}
