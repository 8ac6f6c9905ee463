"""moto's S3 server with a folder behind it: what a request has changed is on disk before it is answered."""

import hashlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
REGION = "us-east-1"


class Kept:
    """A WSGI application around moto's that mirrors objects into `folder`, and reads them at its start.

    An object is one file, named by the hash of bucket and key: a line of JSON (names, ETag, metadata, time), then its
    bytes. A bucket without objects is forgotten.
    """

    def __init__(self, application: Application, folder: Path) -> None:
        self._application, self._folder = application, folder
        # All accounts and regions are one: moto checks no signature.
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._lock = threading.Lock()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.object")):
            self._load(path)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request; a changing one is mirrored first."""
        answer = self._application(environ, start_response)
        if environ["REQUEST_METHOD"] in {"PUT", "POST", "DELETE"}:
            # WSGI hands the path over as if its bytes were latin-1.
            path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
            bucket, _, key = path.removeprefix("/").partition("/")
            with self._lock:
                self._mirror(bucket, key)
        return answer

    def make_bucket(self, name: str) -> None:
        """Make the bucket unless it is there."""
        if name not in self._backend.buckets:
            self._backend.create_bucket(name, REGION)

    def _mirror(self, bucket: str, key: str) -> None:
        if key:
            self._save(bucket, key)
            return
        # A request to a bucket as a whole: one POST can delete many of its objects.
        for path in self._folder.glob("*.object"):
            with path.open("rb") as file:
                facts = json.loads(file.readline())
            if facts["bucket"] == bucket:
                self._save(bucket, facts["key"])

    def _save(self, bucket: str, key: str) -> None:
        path = self._folder / f"{hashlib.sha256(f'{bucket}/{key}'.encode()).hexdigest()}.object"
        found = self._object(bucket, key)
        if found is None:
            path.unlink(missing_ok=True)
            return
        facts = {
            "bucket": bucket,
            "key": key,
            "etag": found.etag.strip('"'),
            "metadata": dict(found.metadata),
            "last_modified": found.last_modified.isoformat(),
        }
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(json.dumps(facts).encode() + b"\n")
            file.write(found.value)
        fresh.replace(path)

    def _load(self, path: Path) -> None:
        line, _, content = path.read_bytes().partition(b"\n")
        facts = json.loads(line)
        self.make_bucket(facts["bucket"])
        loaded = self._backend.put_object(facts["bucket"], facts["key"], content, etag=facts["etag"])
        loaded.set_metadata(facts["metadata"])
        loaded.last_modified = datetime.fromisoformat(facts["last_modified"])

    def _object(self, bucket: str, key: str) -> Any:
        found = self._backend.buckets.get(bucket)
        return found.keys.get(key) if found else None


class _Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as by other buckets


def main() -> None:
    """Serve the folder, port and bucket of the command line until SIGTERM."""
    folder, port, bucket = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    kept = Kept(DomainDispatcherApplication(create_backend_app), folder)
    kept.make_bucket(bucket)
    server = make_server("127.0.0.1", port, kept, threaded=True, request_handler=_Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
