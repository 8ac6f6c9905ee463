"""Nobody but the safe client dials what a tenant has named: who opens connections at all is a short, known list."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.reference import REPOSITORY

DIALLERS = frozenset(
    [
        "aiohttp",
        "asyncssh",
        "botocore",
        "boto3",
        "curl_cffi",
        "ftplib",
        "grpc",
        "httpcore",
        "httpcore2",
        "httplib2",
        "httpx",
        "httpx2",
        "imaplib",
        "openai",
        "paramiko",
        "poplib",
        "pycurl",
        "requests",
        "smtplib",
        "socketserver",
        "telnetlib",
        "urllib3",
        "websocket",
        "websockets",
        "xmlrpc",
    ]
)
"""Packages that open connections. Databases and Redis are not among them: their addresses are the operator's."""
CALLS = frozenset(
    [
        "create_connection",
        "open_connection",
        "open_unix_connection",
        "connect_ex",
        "urlopen",
        "urlretrieve",
        "create_datagram_endpoint",
    ]
)

ALLOWED = {
    "workers/fetch/network.py": "the guarded backend itself",
    "workers/fetch/client.py": "the safe client, on that backend",
    "workers/fetch/proxy.py": "the rendering browser's way out, on that backend",
    "workers/fetch/render.py": "hands the backend its way to connect",
    "workers/fetch/isolate.py": "listens for the browser, on loopback",
    "workers/extract/children.py": "a socket pair to the parsing child",
    "workers/extract/forkserver.py": "a socket pair to the parsing child",
    "workers/tasks/life.py": "the host's own name",
    "workers/commands/eval.py": "the operator's own API, at the address that the operator gives",
    "chat_api/core/embeddings.py": "the operator's embedding provider",
    "chat_api/core/storage.py": "the operator's bucket",
    "chat_api/chat/answer.py": "the operator's language model",
    "chat_api/server.py": "options of the connections that clients have opened",
}
SOURCES = sorted(path for top in ("workers", "chat_api") for path in (REPOSITORY / top).rglob("*.py"))


def dialling(source: str) -> set[str]:
    """What in the source could open a connection."""
    return set(_dialling(ast.parse(source)))


def _dialling(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _dials(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ([node.module] if _dials(node.module) else [])
            yield from (f"{node.module}.{alias.name}" for alias in node.names if _dials(f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in CALLS:
                yield name


def _dials(module: str) -> bool:
    top = module.partition(".")[0]
    return top in DIALLERS or module in {"socket", "http.client", "urllib.request"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nobody_else_dials(path: Path) -> None:
    found = dialling(path.read_text(encoding="utf-8"))
    assert not found or str(path.relative_to(REPOSITORY)) in ALLOWED, f"{path} could open a connection: {found}"


def test_the_list_has_nobody_who_does_not_dial() -> None:
    assert [path for path in ALLOWED if not dialling((REPOSITORY / path).read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import httpx as h",
        "import socket",
        "async def f(): await asyncio.open_connection('x', 1)",
        "from http.client import HTTPConnection",
        "import trafilatura; trafilatura.downloads.urlopen('x')",
    ],
)
def test_a_dialler_is_noticed(source: str) -> None:
    assert dialling(source)
