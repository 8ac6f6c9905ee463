"""All settings in one class (those of the databases in its base), read from the environment, `.env.local`, then `.env`; every problem is one line at start."""

import sys
from collections.abc import Callable, Container
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import from_json
from pydantic_settings import NoDecode, SettingsConfigDict

from chat_api.core.database_settings import DatabaseSettings
from chat_api.core.prices import USUAL

WEB = ("http", "https")
KNOWN_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
LOCAL_MODEL, LOCAL_DIMENSIONS = "all-MiniLM-L6-v2", 384


class Settings(DatabaseSettings):
    """The settings of every process; a field's name in capitals is the variable's name."""

    model_config = SettingsConfigDict(
        env_file=(".env", ".env.local"), env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    app_env: Literal["development", "test", "production"] = Field(
        "production", description="What kind of deployment this is; development and test relax origin checks"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least level that is logged"
    )
    log_file: str | None = Field(None, description="A file that gets the log too, rotated at midnight, 14 kept")

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: bells, message rates, cached answers, live frames, test questions' vectors, turns of fetching,"
        " back-off",
    )
    queue_name: str = Field("default", description="The RQ queue that carries the bells")

    openai_api_key: SecretStr | None = Field(None, description="Key of the OpenAI-compatible server")
    openai_base_url: str = Field("https://api.openai.com/v1", description="Address of the OpenAI-compatible server")
    openai_model: str = Field("gpt-4o-mini", description="The chat model, where a bot's config names none")
    openai_cheaper_model: str | None = Field(
        None,
        description="The chat model that answers when a bot's token budget is nearly used up, and rewrites follow-ups",
    )
    llm_provider: Literal["openai", "extractive"] = Field(
        "openai", description="Who answers: a model, or the best passages quoted"
    )
    llm_timeout_s: float = Field(
        60, gt=0, le=600, description="Seconds of silence after which a model's answer is given up"
    )
    embedding_provider: Literal["openai", "local"] = Field(
        "openai", description="Who embeds: an OpenAI-compatible server, or MiniLM in process"
    )
    embedding_model: str = Field("text-embedding-3-small", description="The embedding model (ignored by `local`)")
    embedding_dimensions: int | None = Field(
        None, ge=1, le=4000, description="Dimensions of a vector; known for OpenAI's models"
    )
    embedding_base_url: str | None = Field(
        None, description="Address of the embedding server; OPENAI_BASE_URL if unset"
    )
    embedding_timeout_s: float = Field(
        60, gt=0, le=600, description="Seconds after which an embedding call is given up"
    )

    prices: Annotated[dict[str, tuple[NonNegativeFloat, NonNegativeFloat]], NoDecode] = Field(
        {},
        validate_default=True,
        description='USD per million tokens of input and of output, as JSON: {"model": [0.15, 0.6]}; beside, or instead of,'
        " the known prices of OpenAI's usual models",
    )

    r2_account_id: str | None = Field(None, description="Cloudflare account; gives the bucket's endpoint")
    r2_endpoint_url: str | None = Field(None, description="Any other S3 endpoint, instead of R2_ACCOUNT_ID's")
    r2_bucket: str = Field("training", description="The bucket with the dashboard's files")
    access_key_id: SecretStr | None = Field(None, description="S3 access key")
    secret_access_key: SecretStr | None = Field(None, description="S3 secret key")
    cloudflare_r2_base_url: str | None = Field(
        None, description="Public address of the bucket, for citations of public files"
    )
    r2_api_key_token: SecretStr | None = Field(None, description="Cloudflare API token; accepted, not needed for S3")

    jwt_public_key_path: str = Field("public.pem", description="PEM file with one or more RSA public keys")
    jwt_issuer: str | None = Field(None, description="Enforced on every token when set")
    jwt_audience: str | None = Field(None, description="Enforced on every token when set")
    jwt_max_lifetime_s: int = Field(86_400, ge=60, description="Longest `exp - iat` of a token, in seconds")
    ws_query_token: bool = Field(False, description="Whether `?token=` is taken on the WebSocket")
    cors_origins: str = Field("", description="Comma separated origins whose pages may call all but /api/chat")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Serve /metrics on a port of its own; else the API serves its own beside the rest, but not in production",
    )

    visitor_messages_per_minute: int = Field(300, ge=1, description="Messages a minute of one visitor")
    address_messages_per_minute: int = Field(6_000, ge=1, description="Messages a minute from one client address")
    bot_messages_per_minute: int = Field(12_000, ge=1, description="Messages a minute to one bot")
    org_messages_per_minute: int = Field(
        12_000, ge=1, description="Messages a minute to all bots of an org, where its own limits name none"
    )
    max_sockets: int = Field(40_000, ge=1, description="WebSockets that one API process keeps open at once")
    max_sockets_per_org: int = Field(30_000, ge=1, description="WebSockets of one org in one API process")
    max_sockets_per_bot: int = Field(30_000, ge=1, description="WebSockets of one bot in one API process")
    resume_grace_s: float = Field(
        30, ge=0, le=600, description="Seconds for which an answer goes on whose visitor's connection was lost"
    )
    drain_s: float = Field(
        5, ge=0, le=300, description="Seconds for which answers under way may come to their end when the API is stopped"
    )
    conversation_retention_days: int = Field(
        90, ge=1, le=3650, description="Days for which conversations are kept after their last turn"
    )
    journal_retention_h: int = Field(
        24, ge=1, le=720, description="Hours for which an answer's frames are kept, so that it can be resumed"
    )

    lexical_cache_mb: int = Field(
        256, ge=0, le=65_536, description="Memory of an API process for the words of the bots that were asked last"
    )
    passage_tokens: int = Field(
        6_000,
        ge=500,
        le=200_000,
        description="Tokens of passages, their neighbours included, that an answer is made from",
    )
    dry_run_timeout_s: float = Field(
        25, gt=0, le=300, description="Seconds for which a queue call waits for the outcome of its dry run"
    )
    fetch_allow: str = Field(
        "", description="Comma separated `host:port`, `address:port` or CIDR that the address guard lets through"
    )
    fetch_at_once: int = Field(
        4,
        ge=1,
        le=64,
        description="Requests to one website at a time, over all replicas; one per process without Redis",
    )
    fetch_pace_s: float = Field(
        0, ge=0, le=10, description="Seconds between two requests to one website, where its robots.txt asks for no more"
    )
    fetch_timeout_s: float = Field(30, gt=0, le=300, description="Seconds for one page, redirects included")
    fetch_max_bytes: int = Field(20 * 1024 * 1024, ge=1024, description="Largest page, in decompressed bytes")
    render_timeout_s: float = Field(
        30, gt=0, le=120, description="Seconds for running one page's JavaScript, where a source asks for it"
    )
    browser_path: str | None = Field(
        None, description="The Chromium that runs pages' JavaScript; one that is installed is found by itself"
    )
    browser_sandbox: bool = Field(
        True, description="Whether that Chromium's own sandbox is on; off only where user namespaces are forbidden"
    )
    max_file_mb: int = Field(50, ge=1, le=1024, description="Largest file, where the org's limits name none")
    parser_memory_mb: int = Field(1024, ge=128, description="Memory of one parsing child, beyond the loaded parsers")
    parser_timeout_s: float = Field(120, gt=0, description="Seconds for parsing one document")
    ocr_languages: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_/-]+(\+[A-Za-z0-9_/-]+)*)?$",
        description="Tesseract's languages for scanned pages of PDFs, such as eng+deu; without any they are not read",
    )
    ocr_max_pages: int = Field(100, ge=1, le=5000, description="Scanned pages of one file that are read")
    ocr_timeout_s: float = Field(600, gt=0, le=3600, description="Seconds for the scanned pages of one file")

    job_retention_days: int = Field(
        30, ge=1, le=3650, description="Days for which runs that are over are kept; a source's newest one stays"
    )
    org_running_tasks: int = Field(
        8, ge=1, le=1000, description="Worker processes that one org may keep busy at once, so that others get theirs"
    )
    refresh_runs_per_org: int = Field(
        4, ge=1, le=1000, description="Scheduled refreshes of one org that wait or run at once"
    )
    workers: int = Field(2, ge=1, le=256, description="Worker processes of `python -m workers`")

    @field_validator("prices", mode="wrap")
    @classmethod
    def _with_usual(cls, given: object, read: Callable[[object], dict[str, Any]]) -> dict[str, Any]:
        return {**USUAL, **read(from_json(given) if isinstance(given, str) else given)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = self._provider_problems()
        if not (self.r2_endpoint_url or self.r2_account_id):
            problems.append("R2_ACCOUNT_ID is missing (or set R2_ENDPOINT_URL)")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "ACCESS_KEY_ID" if self.access_key_id is None else "SECRET_ACCESS_KEY"
            problems.append(f"{missing} is missing (a bucket takes both keys or neither)")
        problems += self._bad_addresses()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _provider_problems(self) -> list[str]:
        problems = []
        if not self.openai_api_key and self.llm_provider == "openai":
            problems.append("OPENAI_API_KEY is missing (or set LLM_PROVIDER=extractive)")
        if not self.openai_api_key and self.embedding_provider == "openai":
            problems.append("OPENAI_API_KEY is missing (or set EMBEDDING_PROVIDER=local)")
        known = LOCAL_DIMENSIONS if self.embedding_provider == "local" else KNOWN_DIMENSIONS.get(self.embedding_model)
        if known is None and self.embedding_dimensions is None:
            problems.append(f"EMBEDDING_DIMENSIONS is missing (needed for {self.embedding_model})")
        if self.embedding_provider == "local" and self.embedding_dimensions not in {None, LOCAL_DIMENSIONS}:
            problems.append(f"EMBEDDING_DIMENSIONS must be {LOCAL_DIMENSIONS} or unset with EMBEDDING_PROVIDER=local")
        return problems

    def _bad_addresses(self) -> list[str]:
        checked: dict[str, tuple[str | None, tuple[str, ...]]] = {
            "REDIS_URL": (self.redis_url.get_secret_value(), ("redis", "rediss", "unix")),
            "OPENAI_BASE_URL": (self.openai_base_url, WEB),
            "EMBEDDING_BASE_URL": (self.embedding_base_url, WEB),
            "R2_ENDPOINT_URL": (self.r2_endpoint_url, WEB),
            "CLOUDFLARE_R2_BASE_URL": (self.cloudflare_r2_base_url, WEB),
            **{f"CORS_ORIGINS (entry {n})": (origin, WEB) for n, origin in enumerate(self.cors_origin_list, 1)},
        }
        return [
            f"{name} is not an address that begins with {':// or '.join(schemes)}://"
            for name, (value, schemes) in checked.items()
            if value and value != "*" and not is_address(value, schemes)
        ]

    @property
    def in_production(self) -> bool:
        """Whether nothing is relaxed for development and tests."""
        return self.app_env == "production"

    @property
    def s3_endpoint(self) -> str:
        """The S3 endpoint's address."""
        return self.r2_endpoint_url or f"https://{self.r2_account_id}.r2.cloudflarestorage.com"

    @property
    def space(self) -> tuple[str, int]:
        """The embedding space that training writes: (model, dimensions)."""
        if self.embedding_provider == "local":
            return LOCAL_MODEL, LOCAL_DIMENSIONS
        return self.embedding_model, self.embedding_dimensions or KNOWN_DIMENSIONS[self.embedding_model]

    @property
    def embedding_server(self) -> str:
        """The embedding server's address."""
        return self.embedding_base_url or self.openai_base_url

    @cached_property
    def cors_origin_list(self) -> list[str]:
        """CORS_ORIGINS as a list."""
        return [origin.strip().rstrip("/") for origin in self.cors_origins.split(",") if origin.strip()]


def is_address(text: str, schemes: Container[str]) -> bool:
    """Whether the text is a URL with one of the schemes, a host (or a socket's path) and a possible port."""
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return parts.scheme in schemes and (usable or parts.scheme == "unix")


def problems_of(error: ValidationError) -> list[str]:
    """One line per problem, naming the variable and never its value."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = "_".join(str(part) for part in problem["loc"]).upper()
        text = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        lines += [
            f"{name}: {line}" if name and line != "is missing" else f"{name} {line}".strip()
            for line in text.splitlines()
        ]
    return lines


def load_settings() -> Settings:
    """The settings, or the end of the process with one line per problem on stderr."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [*problems_of(error), *_further_problems(error)]
        sys.exit("\n".join(f"settings: {line}" for line in dict.fromkeys(lines)))


def _further_problems(error: ValidationError) -> list[str]:
    """What is wrong between settings, which is looked at only when each of them is right by itself."""
    bad = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
    stand_ins: dict[str, Any] = {
        name: "unknown" if field.is_required() else field.default
        for name, field in Settings.model_fields.items()
        if name in bad
    }
    try:
        Settings(**stand_ins)
    except ValidationError as further:
        return problems_of(further)
    return []
