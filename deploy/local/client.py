"""What a dashboard does: rows in its database, files in the bucket, signed tokens, calls of the training API."""

import json
import mimetypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, LiteralString, TypedDict, cast
from uuid import NAMESPACE_DNS, UUID, uuid4, uuid5

import boto3
import httpx2
import jwt
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Row = dict[str, Any]
SAMPLE_ORG = uuid5(NAMESPACE_DNS, "sample-company.invalid")
TRAINING = "training:write training:read"
OVER = frozenset({"succeeded", "failed", "cancelled", "quarantined"})


class S3Keys(TypedDict):
    """How stack.json describes the bucket."""

    endpoint_url: str
    bucket: str
    access_key_id: str
    secret_access_key: str


class KeyPaths(TypedDict):
    """Where stack.json says the signing keys lie."""

    private_key_path: str
    public_key_path: str


class Stack(TypedDict):
    """The part of stack.json that a dashboard needs."""

    api_url: str
    dashboard_url: str
    dashboard_db_dsn: str
    s3: S3Keys
    jwt: KeyPaths


def read_stack(path: Path) -> Stack:
    """The running stack's addresses and keys; OSError or ValueError while there is none."""
    return cast(Stack, json.loads(path.read_bytes()))


class Refused(Exception):
    """The API or the dashboard says no: HTTP status, stable code and a sentence for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class DashboardClient:
    """One dashboard user at work in one org. Thread-safe; connects when first used.

    Database trouble is psycopg.OperationalError, an API that is away httpx2.TransportError, its refusals `Refused`.
    """

    def __init__(self, stack: Stack, *, org_id: UUID = SAMPLE_ORG) -> None:
        self.stack, self.org_id = stack, org_id

    # --- bots --------------------------------------------------------------------------------------------------------

    def ensure_org_and_bot(self, name: str, config: Mapping[str, Any]) -> UUID:
        """The id of the org's bot with this name, made if need be."""
        for bot in self.bots():
            if bot["name"] == name:
                return cast(UUID, bot["id"])
        return self.add_bot(name, config)

    def bots(self) -> list[Row]:
        """`{id, name, config}` of every bot, the oldest first."""
        return self._rows(
            "SELECT id, name, config FROM bots WHERE org_id = %s AND deleted_at IS NULL ORDER BY created_at, id",
            self.org_id,
        )

    def add_bot(self, name: str, config: Mapping[str, Any]) -> UUID:
        """A new bot's id; it may be used from the dashboard's own pages. What is None is left to the service."""
        self._rows("INSERT INTO orgs (id, name) VALUES (%s, 'Sample company') ON CONFLICT DO NOTHING", self.org_id)
        bot_id = uuid4()
        self._rows(
            "INSERT INTO bots (id, org_id, name, config, allowed_origins)"
            " VALUES (%s, %s, %s, jsonb_strip_nulls(%s), %s)",
            *(bot_id, self.org_id, name, Jsonb(dict(config)), [self.stack["dashboard_url"]]),
        )
        return bot_id

    def change_bot(self, bot_id: UUID, name: str, config: Mapping[str, Any]) -> None:
        """Gives the bot another name, and these keys of its configuration other values; None takes a key away."""
        found = self._rows(
            "UPDATE bots SET name = %s, config = jsonb_strip_nulls(config || %s), updated_at = now()"
            " WHERE id = %s AND org_id = %s AND deleted_at IS NULL RETURNING id",
            *(name, Jsonb(dict(config)), bot_id, self.org_id),
        )
        if not found:
            raise Refused(404, "unknown_bot", "There is no bot with this id.")

    def allow_origin(self, bot_id: UUID, origin: str) -> None:
        """Lets the bot be used from pages of this origin, too."""
        self._rows(
            "UPDATE bots SET allowed_origins = array_append(allowed_origins, %s), updated_at = now()"
            " WHERE id = %s AND org_id = %s AND NOT %s = ANY(allowed_origins)",
            *(origin, bot_id, self.org_id, origin),
        )

    # --- sources -----------------------------------------------------------------------------------------------------

    def sources(self, bot_id: UUID) -> list[Row]:
        """The bot's sources with the service's status columns, the newest first."""
        return self._rows(
            "SELECT s.id, s.type, s.url, coalesce(s.title, f.filename) AS title, s.status, s.progress, s.error_code,"
            " s.error_message, s.job_id, s.trained_at FROM training_sources s LEFT JOIN files f ON f.id = s.file_id"
            " WHERE s.bot_id = %s AND s.org_id = %s AND s.deleted_at IS NULL ORDER BY s.created_at DESC, s.id",
            *(bot_id, self.org_id),
        )

    def add_url_source(self, bot_id: UUID, url: str) -> UUID:
        """One web page."""
        return self._add(bot_id, "url", url=url)

    def add_site_source(self, bot_id: UUID, url: str, max_pages: int | None = None) -> UUID:
        """A whole website, crawled from `url`."""
        return self._add(bot_id, "site", url=url, options={"max_pages": max_pages} if max_pages else {})

    def add_sitemap_source(self, bot_id: UUID, url: str, max_pages: int | None = None) -> UUID:
        """The pages that a sitemap lists."""
        return self._add(bot_id, "sitemap", url=url, options={"max_pages": max_pages} if max_pages else {})

    def add_text_source(self, bot_id: UUID, title: str, text: str) -> UUID:
        """Text that the owner typed."""
        return self._add(bot_id, "text", title=title, content={"text": text})

    def add_qa_source(self, bot_id: UUID, title: str, pairs: Sequence[Mapping[str, str]]) -> UUID:
        """The owner's own `{question, answer}` pairs."""
        return self._add(bot_id, "qa", title=title, content={"pairs": [dict(pair) for pair in pairs]})

    def add_file_source(self, bot_id: UUID, path: Path) -> UUID:
        """A file of this machine, put into the bucket."""
        with path.open("rb") as body:
            return self.add_file(bot_id, path.name, body, path.stat().st_size)

    def add_file(self, bot_id: UUID, filename: str, body: IO[bytes], size_bytes: int) -> UUID:
        """A file's bytes, put into the bucket; the media type comes from the name."""
        file_id = uuid4()
        key = f"orgs/{self.org_id}/files/{file_id}{Path(filename).suffix.lower()}"
        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        self._s3.upload_fileobj(body, self.stack["s3"]["bucket"], key, ExtraArgs={"ContentType": content_type})
        self._rows(
            "INSERT INTO files (id, org_id, object_key, filename, content_type, size_bytes)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            *(file_id, self.org_id, key, filename, content_type, size_bytes),
        )
        return self._add(bot_id, "file", file_id=file_id)

    def _add(
        self,
        bot_id: UUID,
        kind: str,
        *,
        url: str | None = None,
        title: str | None = None,
        content: Row | None = None,
        options: Row | None = None,
        file_id: UUID | None = None,
    ) -> UUID:
        source_id = uuid4()
        self._rows(
            "INSERT INTO training_sources (id, org_id, bot_id, type, url, title, content, options, file_id)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(source_id, self.org_id, bot_id, kind, url, title),
            *(Jsonb(content) if content else None, Jsonb(options or {}), file_id),
        )
        return source_id

    # --- the training API --------------------------------------------------------------------------------------------

    def sign_token(
        self,
        scope: str,
        *,
        bot_id: UUID | None = None,
        subject: str | None = None,
        origins: Sequence[str] = (),
        lifetime_s: int = 3600,
    ) -> str:
        """An RS256 token of this org; `origins` are the browser origins it may be used from, all when empty."""
        now = int(time.time())
        claims: Row = {"sub": subject or "dashboard-user", "org_id": str(self.org_id), "scope": scope}
        claims |= {"iat": now, "exp": now + lifetime_s}
        claims |= {"bot_id": str(bot_id)} if bot_id else {}
        claims |= {"origins": list(origins)} if origins else {}
        return jwt.encode(claims, Path(self.stack["jwt"]["private_key_path"]).read_bytes(), algorithm="RS256")

    def queue(self, source_id: UUID, *, force: bool = False) -> Row:
        """Has a source trained; its job: `{job_id, source_id, status, created}`."""
        answer = self._call("POST", "/api/training/queue", {"source_id": str(source_id), "force": force})
        return cast(Row, answer["jobs"][0])

    def queue_many(self, source_ids: Sequence[UUID]) -> list[Row]:
        """Has up to 500 sources trained; their jobs."""
        answer = self._call("POST", "/api/training/queue", {"source_ids": [str(source_id) for source_id in source_ids]})
        return cast(list[Row], answer["jobs"])

    def delete_source(self, source_id: UUID) -> Row:
        """Takes a source out of every answer, then out of the dashboard's list."""
        answer = self._call("DELETE", f"/api/training/delete/{source_id}")
        self._rows(
            "UPDATE training_sources SET deleted_at = now(), updated_at = now() WHERE id = %s AND org_id = %s",
            *(source_id, self.org_id),
        )
        return answer

    def job(self, job_id: UUID | str) -> Row:
        """A job as the API tells it."""
        return self._call("GET", f"/api/training/jobs/{job_id}")

    def cancel(self, job_id: UUID | str) -> Row:
        """Ends a job now; the job as it is then."""
        return self._call("POST", f"/api/training/jobs/{job_id}/cancel")

    def wait_until_done(
        self, job_ids: Sequence[UUID | str], on_progress: Callable[[Row], None], timeout_s: float = 600
    ) -> list[Row]:
        """The finished jobs, in the order of `job_ids`; `on_progress` sees every job at every look.

        TimeoutError when some are not over in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            jobs = [self.job(job_id) for job_id in job_ids]
            for job in jobs:
                on_progress(job)
            if all(job["status"] in OVER for job in jobs):
                return jobs
            if time.monotonic() > deadline:
                raise TimeoutError(f"the training did not end within {timeout_s:.0f} s")
            time.sleep(0.3)

    # --- the three ways out ------------------------------------------------------------------------------------------

    def _call(self, method: str, path: str, body: Row | None = None) -> Row:
        headers = {"Authorization": f"Bearer {self.sign_token(TRAINING)}"}
        response = self._http.request(method, path, json=body, headers=headers)
        if response.is_success:
            return cast(Row, response.json())
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        detail = problem.get("detail") or problem.get("title") or f"The API answered {response.status_code}."
        raise Refused(response.status_code, problem.get("code", "unexpected"), detail)

    def _rows(self, query: LiteralString, *values: object) -> list[Row]:
        dsn = self.stack["dashboard_db_dsn"]
        with psycopg.connect(dsn, row_factory=dict_row, connect_timeout=5) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    @cached_property
    def _http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.stack["api_url"], timeout=15, trust_env=False)

    @cached_property
    def _s3(self) -> "S3Client":
        keys = self.stack["s3"]
        return boto3.client(
            "s3",
            endpoint_url=keys["endpoint_url"],
            aws_access_key_id=keys["access_key_id"],
            aws_secret_access_key=keys["secret_access_key"],
            region_name="auto",
        )
