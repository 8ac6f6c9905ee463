"""The process: importing opens nothing, a bad start is said in lines, `uvicorn chat_api.main:app` serves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from chat_api.core.settings import Settings
from chat_api.keyring import KeyFileError
from chat_api.main import create_app
from tests.chat_api.forge import Forge, private_key, public_pem
from tests.servers import free_port

LIMIT_S = 60


def environment(settings: Settings) -> dict[str, str]:
    """The environment that makes these settings."""
    found = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    for name, value in settings:
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain is not None:
            found[name.upper()] = json.dumps(plain) if isinstance(plain, dict) else str(plain)
    return found


def run_python(code: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter in a folder without .env files."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_prices_that_are_no_json_are_named(tmp_path: Path, settings: Settings) -> None:
    done = run_python("import chat_api.main; chat_api.main.app", tmp_path, {**environment(settings), "PRICES": "{0.1}"})
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["settings"]
    assert "PRICES" in done.stderr


def test_import_opens_nothing_and_bad_settings_end_the_process_in_lines(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    done = run_python("import chat_api.main; print('imported', flush=True); chat_api.main.app", tmp_path, bare)
    assert (done.returncode, done.stdout) == (1, "imported\n")
    assert "settings: PYTHON_CHAT_DB_HOST is missing" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"jwt_public_key_path": "weak.pem"}, "JWT_PUBLIC_KEY_PATH: the key file weak.pem holds a key of 1024 bits"),
        ({"jwt_public_key_path": "none.pem"}, "JWT_PUBLIC_KEY_PATH: the key file none.pem can't be read"),
        ({"log_file": "weak.pem/app.log"}, "LOG_FILE: weak.pem/app.log can't be written"),
    ],
)
def test_bad_file_ends_the_process_in_a_line(
    changed: dict[str, str], line: str, offline: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "weak.pem").write_bytes(public_pem(private_key("weak", 1024)))
    done = run_python("import chat_api.main; chat_api.main.app", tmp_path, environment(offline(**changed)))
    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_create_app_raises_what_is_wrong_with_the_key_file(offline: Callable[..., Settings], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="can't be read"):
        create_app(offline(jwt_public_key_path=str(tmp_path / "none.pem")))


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[tuple[str, Path]]:
    """`uvicorn chat_api.main:app` with these settings: its address, and the file with all that it printed."""
    port, printed = free_port(), folder / "printed.log"
    command = [sys.executable, "-m", "uvicorn", "chat_api.main:app", "--port", str(port)]
    with printed.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment(settings), stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for(port, process)
        yield f"127.0.0.1:{port}", printed
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Waits until somebody listens."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("uvicorn did not start")


def test_served_by_uvicorn_no_token_reaches_what_it_prints(offline: Callable[..., Settings], tmp_path: Path) -> None:
    token = Forge().token()
    with serving(offline(log_level="DEBUG"), tmp_path) as (address, printed):
        with httpx2.Client(base_url=f"http://{address}", trust_env=False, timeout=LIMIT_S) as client:
            bearer = {"Authorization": f"Bearer {token}", "X-Request-ID": "request-1"}
            job = client.get(f"/api/training/jobs/{Forge().claims()['org_id']}?token={token}", headers=bearer)
            assert job.json()["code"] == "database_unavailable"
            assert client.get(f"/nothing?token={token}").status_code == 404
        knock(address, token)
    text = printed.read_text()
    assert '"request_id": "request-1"' in text
    assert "/api/training/jobs/{job_id}" in text
    assert token not in text
    assert token.rsplit(".", 1)[1] not in text
    assert '"event": "started"' in text, "all of it is JSON when it is not a terminal"


def knock(address: str, token: str) -> None:
    """A WebSocket handshake with the token in every place, answered or refused."""
    host, port = address.split(":")
    request = (
        f"GET /api/chat/ws?token={token} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: chat.v1, bearer.{token}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as connection:
        connection.sendall(request.encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 ")
