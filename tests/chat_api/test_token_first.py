"""What a request's token decides before anything else is looked at: from which pages it counts, and whose body is read."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.chat_api.forge import MISSING, Forge

SHOP, EVIL = "https://shop.example", "https://evil.example"
SCOPES = "training:write training:read chat usage:read conversations:read conversations:erase"
ID = "5b0a5a52-6b4f-4f0b-9c1e-2f6f6a2d9b01"
ROUTES = [
    ("POST", "/api/training/queue"),
    ("GET", "/api/training/jobs"),
    ("GET", f"/api/training/jobs/{ID}"),
    ("POST", f"/api/training/jobs/{ID}/cancel"),
    ("DELETE", f"/api/training/delete/{ID}"),
    ("GET", f"/api/training/sources/{ID}/pages"),
    ("GET", f"/api/training/sources/{ID}/generations"),
    ("POST", f"/api/training/sources/{ID}/rollback"),
    ("POST", f"/api/training/sources/{ID}/generations/1/release"),
    ("GET", "/api/training/events"),
    ("POST", "/api/search"),
    ("GET", "/api/usage"),
    ("DELETE", "/api/visitors/visitor-1"),
    ("GET", "/api/chat/conversations"),
    ("GET", "/api/chat/unanswered"),
    ("POST", "/api/chat/messages"),
]
BODIES: dict[str, Any] = {
    "/api/training/queue": {"source_id": ID},
    "/api/search": {"bot_id": ID, "query": "Where?"},
    "/api/chat/messages": {"id": "q1", "text": "Where?"},
    f"/api/chat/messages/{ID}/feedback": {"value": "up"},
}
UNREADABLE: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"{", 422),
    "no UTF-8": (b'{"\xff": 1}', 400),
    "too large": (b" " * (1024 * 1024 + 1), 413),
}


def call(client: TestClient, method: str, path: str, origin: str | None = None, **claims: object) -> tuple[int, str]:
    """The status and code of what is answered while no database is."""
    headers = {"Authorization": f"Bearer {Forge().token(**{'scope': SCOPES, **claims})}"}
    answer = client.request(
        method, path, json=BODIES.get(path), headers={**headers, **({"Origin": origin} if origin else {})}
    )
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_token_counts_from_its_origins_alone(offline_client: TestClient, method: str, path: str) -> None:
    bound = ["https://other.example", f"{SHOP}:443/"]
    for origin in (EVIL, None, "null"):
        assert call(offline_client, method, path, origin, origins=bound) == (403, "forbidden_origin")
    assert call(offline_client, method, path, SHOP, origins=[]) == (403, "forbidden_origin")
    assert call(offline_client, method, path, SHOP, origins=bound) == (503, "database_unavailable")
    assert call(offline_client, method, path, EVIL) == (503, "database_unavailable")


def in_pieces(body: bytes) -> Any:
    """The body without its length."""
    return iter([body[:1000], body[1000:]])


@pytest.mark.parametrize("unread", UNREADABLE)
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("sent", [bytes, in_pieces])
def test_nobody_learns_what_is_wrong_with_a_body_but_who_may_send_one(
    offline_client: TestClient, path: str, unread: str, sent: Callable[[bytes], Any]
) -> None:
    body, status = UNREADABLE[unread]

    def answered(token: str | None) -> int:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        return offline_client.post(path, content=sent(body), headers=headers).status_code

    assert answered(None) == answered(Forge().token(exp=1_000, iat=900)) == 401
    assert answered(Forge().token(scope="usage:read")) == 403
    assert answered(Forge().token(scope=SCOPES, origins=[SHOP])) == 403
    assert answered(Forge().token(scope=SCOPES)) == status


def test_a_visitor_without_a_bot_may_not_search_whatever_the_body_says(offline_client: TestClient) -> None:
    token = Forge().token(scope="chat", bot_id=MISSING)
    answer = offline_client.post("/api/search", content=b"{", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_bot")


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/api/training/queue", "force", "yes"),
        ("/api/training/queue", "force", 1),
        ("/api/training/queue", "dry_run", 1),
        ("/api/training/queue", "dry_run", "true"),
        ("/api/search", "k", True),
        ("/api/search", "k", "7"),
        ("/api/search", "k", 7.0),
    ],
)
def test_a_value_of_another_type_is_refused(offline_client: TestClient, path: str, field: str, value: object) -> None:
    headers = {"Authorization": f"Bearer {Forge().token(scope=SCOPES)}"}
    answer = offline_client.post(path, json={**BODIES[path], field: value}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert [each["field"] for each in answer.json()["errors"]] == [f"body.{field}"]
