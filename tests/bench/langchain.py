"""The contestant: LangChain and PGVector, in an environment of their own that the bench makes from the package index."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import boto3

from deploy.local import databases
from tests.bench.stage import DIMENSIONS, cpu_seconds

PACKAGES = (
    *("langchain-community==0.4.2", "langchain-openai==1.7.3", "langchain-postgres==0.0.19"),
    *("langchain-text-splitters==1.1.3", "psycopg[binary]", "pypdf==7.1.0", "boto3"),
)
PROCESSES = 2
WAYS = {"file by file": 1, "all files in one call": 1_000_000}
"""How many files each `add_documents` call is given: what is searchable soonest, and what is fastest."""
PIPELINE = Path(__file__).with_name("langchain_pipeline.py")
DATABASE = "langchain_peer"


def environment() -> Path:
    """Its Python, in LANGCHAIN_VENV, a folder below the temporary ones by default; what it lacks is installed."""
    home = Path(os.environ.get("LANGCHAIN_VENV") or Path(tempfile.gettempdir()) / "bench-langchain")
    python = home / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, home], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PACKAGES], check=True)
    return python


def run(
    python: Path,
    way: str,
    files: Sequence[bytes],
    dsn: str,
    base_url: str,
    postgres: int,
    *,
    s3: Mapping[str, str] | None = None,
    suffix: str = ".md",
) -> tuple[int, float, float, float]:
    """Trains the files in a fresh database of this cluster: (chunks, seconds, CPU seconds of its own, and of PostgreSQL).

    They are read from the bucket that `s3` describes as stack.json does, else from a folder.
    """
    peer = databases.create(dsn, DATABASE)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number, body in enumerate(files):
                Path(folder, f"{number:05}{suffix}").write_bytes(body)
            if s3:
                _upload(Path(folder), s3)
            order: dict[str, object] = {
                "folder": folder,
                "s3": dict(s3) if s3 else None,
                "processes": PROCESSES,
                "files_at_once": WAYS[way],
                "dsn": peer.replace("postgresql://", "postgresql+psycopg://"),
                "base_url": base_url,
                "dimensions": DIMENSIONS,
            }
            return _raced(python, order, postgres)
    finally:
        databases.drop(dsn, DATABASE)


def _upload(folder: Path, s3: Mapping[str, str]) -> None:
    """Puts the folder's files into the bucket, under their names, and empties them."""
    client = boto3.session.Session().client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3["endpoint_url"],
        aws_access_key_id=s3["access_key_id"],
        aws_secret_access_key=s3["secret_access_key"],
    )
    for path in folder.iterdir():
        client.put_object(Bucket=s3["bucket"], Key=path.name, Body=path.read_bytes())
        path.write_bytes(b"")


def _raced(python: Path, order: dict[str, object], postgres: int) -> tuple[int, float, float, float]:
    process = subprocess.Popen(
        [python, "-W", "ignore", PIPELINE, json.dumps(order)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("LangChain's pipeline did not start")
        before = cpu_seconds([postgres])
        process.stdin.write("go\n")
        process.stdin.flush()
        told = process.stdout.readline()
        spent = cpu_seconds([postgres]) - before
    if process.returncode or not told:
        raise RuntimeError("LangChain's pipeline failed")
    result = json.loads(told)
    return result["chunks"], result["seconds"], result["cpu_s"], spent
