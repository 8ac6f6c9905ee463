"""An API over both databases, and rows in them as workers would have left them."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.chat_api.forge import MISSING, Forge

Row = dict[str, Any]
WRITE, READ = "training:write", "training:read"
BOTH = f"{WRITE} {READ}"


@dataclass
class Office:
    """One org with one bot, unless a row says otherwise."""

    http: httpx2.Client = field(repr=False)
    chat_dsn: str
    dashboard_dsn: str
    org_id: UUID = field(default_factory=uuid4)
    bot_id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        self.add_bot(self.org_id, self.bot_id)

    def headers(self, scope: str = BOTH, **claims: object) -> dict[str, str]:
        """A token's header; claims are added to org and scope."""
        mine: Row = {"org_id": self.org_id, "bot_id": MISSING, "scope": scope, **claims}
        named = {name: str(value) if isinstance(value, UUID) else value for name, value in mine.items()}
        return {"Authorization": f"Bearer {Forge().token(**named)}"}

    def call(
        self, method: str, path: str, body: Row | None = None, *, scope: str = BOTH, **claims: object
    ) -> httpx2.Response:
        """A request below /api/training with a token of this scope."""
        return self.http.request(method, f"/api/training{path}", json=body, headers=self.headers(scope, **claims))

    def get(self, path: str, **claims: Any) -> Any:
        """A successful answer's JSON."""
        answer = self.call("GET", path, **claims)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chat(self, query: str, *values: object) -> list[Row]:
        """Rows of the chat database."""
        return _rows(self.chat_dsn, query, values)

    def dashboard(self, query: str, *values: object) -> list[Row]:
        """Rows of the dashboard database."""
        return _rows(self.dashboard_dsn, query, values)

    # --- the dashboard's rows ----------------------------------------------------------------------------------------

    def add_bot(self, org_id: UUID | None = None, bot_id: UUID | None = None) -> UUID:
        """A bot, of this org unless given."""
        org_id, bot_id = org_id or self.org_id, bot_id or uuid4()
        self.dashboard("INSERT INTO orgs (id, name) VALUES (%s, 'Org') ON CONFLICT DO NOTHING", org_id)
        self.dashboard("INSERT INTO bots (id, org_id, name) VALUES (%s, %s, 'Bot')", bot_id, org_id)
        return bot_id

    def add_row(self, source_id: UUID | None = None, *, org_id: UUID | None = None, bot_id: UUID | None = None) -> UUID:
        """A text source in the dashboard."""
        source_id = source_id or uuid4()
        self.dashboard(
            "INSERT INTO training_sources (id, org_id, bot_id, type, content) VALUES (%s, %s, %s, 'text', %s)",
            *(source_id, org_id or self.org_id, bot_id or self.bot_id, Jsonb({"text": "words"})),
        )
        return source_id

    def row(self, source_id: UUID) -> Row:
        """The dashboard's row of a source."""
        return self.dashboard("SELECT * FROM training_sources WHERE id = %s", source_id)[0]

    # --- our rows ----------------------------------------------------------------------------------------------------

    def add_source(self, *, org_id: UUID | None = None, bot_id: UUID | None = None, **columns: object) -> UUID:
        """A source that we know."""
        source_id = uuid4()
        key: Row = {"org_id": org_id or self.org_id, "bot_id": bot_id or self.bot_id, "source_id": source_id}
        self._insert("sources", {**key, **columns})
        return source_id

    def add_job(
        self,
        source_id: UUID | None = None,
        *,
        org_id: UUID | None = None,
        bot_id: UUID | None = None,
        task: Row | None = None,
        **columns: Any,
    ) -> UUID:
        """A run, waiting unless `status` says otherwise; its task has the columns of `task`."""
        key: Row = {"org_id": org_id or self.org_id, "bot_id": bot_id or self.bot_id, "job_id": uuid4()}
        key["source_id"] = source_id or self.add_source(org_id=org_id, bot_id=bot_id)
        self._insert("training_jobs", {**key, **columns})
        status = columns.get("status", "waiting")
        if status in {"waiting", "running"}:
            held = {"fence": 1, "lease_holder": "worker-1", "lease_expires_at": "now"} if status == "running" else {}
            priority = columns.get("priority", "interactive")
            self._insert(
                "training_tasks",
                {**key, "kind": "read", "status": status, "priority": priority, **held, **(task or {})},
            )
        job_id: UUID = key["job_id"]
        return job_id

    def add_generation(self, source_id: UUID, number: int, state: str, *words: str, **columns: object) -> UUID:
        """A generation with one document, and a chunk for each of the words; its run's id."""
        key: Row = {"org_id": self.org_id, "bot_id": self.bot_id, "source_id": source_id, "generation": number}
        space_id, job_id, document_id = self.space("model"), columns.pop("job_id", None) or uuid4(), uuid4()
        mine: Row = {"state": state, "space_id": space_id, "job_id": job_id, "source_version": f"row-{number}:etag"}
        self._insert("generations", {**key, **mine, **columns})
        self._insert(
            "documents",
            {**key, "document_id": document_id, "title": "", "media_type": "text/plain", "text_sha256": b""},
        )
        for ordinal, text in enumerate(words):
            chunk: Row = {**key, "chunk_id": uuid4()}
            self._insert("embeddings", {**chunk, "space_id": space_id, "vector": "[1,0]"})
            mine = {"document_id": document_id, "ordinal": ordinal, "heading": "", "text": text, "tokens": 1}
            self._insert("chunks", {**chunk, **mine, "embedded_sha256": b""})
        if state == "live":
            self.chat("UPDATE sources SET live_generation = %s WHERE source_id = %s", number, source_id)
        assert isinstance(job_id, UUID)
        return job_id

    def space(self, model: str) -> int:
        """An embedding space's id; the first that is asked for is the bot's."""
        self.chat("INSERT INTO embedding_spaces (model, dimensions) VALUES (%s, 2) ON CONFLICT DO NOTHING", model)
        space_id: int = self.chat("SELECT space_id FROM embedding_spaces WHERE model = %s", model)[0]["space_id"]
        self.chat(
            "INSERT INTO bots (org_id, bot_id, space_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            *(self.org_id, self.bot_id, space_id),
        )
        return space_id

    def add_page(self, source_id: UUID, number: int, url: str, **columns: object) -> None:
        """A row of a generation's ledger."""
        key: Row = {"org_id": self.org_id, "bot_id": self.bot_id, "source_id": source_id, "generation": number}
        self._insert("pages", {**key, "url": url, "outcome": "indexed", **columns})

    def answering(self, source_id: UUID) -> list[str]:
        """The texts that a question may find."""
        rows = self.chat(
            "SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id) JOIN generations"
            " USING (org_id, bot_id, source_id, generation)"
            " WHERE source_id = %s AND generation = live_generation AND state = 'live' AND sources.deleted_at IS NULL",
            source_id,
        )
        return sorted(row["text"] for row in rows)

    def _insert(self, table: str, columns: Row) -> None:
        names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
        values = (Jsonb(value) if isinstance(value, dict) else value for value in columns.values())
        self.chat(f"INSERT INTO {table} ({names}) VALUES ({places})", *values)


def _rows(dsn: str, query: str, values: tuple[object, ...]) -> list[Row]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []
