"""The settings of both databases: where they are, and as whom they are used."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from sqlalchemy import URL


class DatabaseSettings(BaseSettings):
    """The part of `Settings` that is about databases."""

    dashboard_db_host: str = Field(description="Dashboard database: host")
    dashboard_db_port: int = Field(5432, ge=1, le=65535, description="Dashboard database: port")
    dashboard_db_username: str = Field(description="Dashboard database: user")
    dashboard_db_password: SecretStr = Field(SecretStr(""), description="Dashboard database: password")
    dashboard_db_name: str = Field(description="Dashboard database: name")
    python_chat_db_host: str = Field(description="Chat database: host")
    python_chat_db_port: int = Field(5432, ge=1, le=65535, description="Chat database: port")
    python_chat_db_username: str = Field(description="Chat database: user")
    python_chat_db_password: SecretStr = Field(SecretStr(""), description="Chat database: password")
    python_chat_db_name: str = Field(description="Chat database: name")
    chat_db_migrator_username: str | None = Field(
        None, description="User of the migrations; the chat database's user if unset"
    )
    chat_db_migrator_password: SecretStr | None = Field(None, description="Password of the migrations' user")
    allow_powerful_db_login: bool = Field(
        False,
        description="Whether API and workers may run in production as a superuser, the tables' owner or past row-level"
        " security",
    )
    db_sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode for both databases"
    )
    db_pool_size: int = Field(20, ge=1, le=200, description="Connections an API process keeps to each database")

    def dashboard_db_url(self) -> URL:
        """The dashboard database's address."""
        return self._url(
            self.dashboard_db_host,
            self.dashboard_db_port,
            self.dashboard_db_name,
            self.dashboard_db_username,
            self.dashboard_db_password,
        )

    def chat_db_url(self, *, migrator: bool = False) -> URL:
        """The chat database's address, as the process's own role or as the migrator.

        Of several hosts, or of a name's addresses, the one that takes writes: after a failover the other may answer, too.
        """
        username, password = self.python_chat_db_username, self.python_chat_db_password
        if migrator and self.chat_db_migrator_username:
            username, password = self.chat_db_migrator_username, self.chat_db_migrator_password or SecretStr("")
        url = self._url(
            self.python_chat_db_host, self.python_chat_db_port, self.python_chat_db_name, username, password
        )
        return url.update_query_dict({"target_session_attrs": "read-write"})

    def _url(self, host: str, port: int, name: str, username: str, password: SecretStr) -> URL:
        return URL.create(
            "postgresql+psycopg", username, password.get_secret_value(), host, port, name, {"sslmode": self.db_sslmode}
        )
