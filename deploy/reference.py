"""Writes the reference parts of the documentation from the code itself: `python -m deploy.reference` (make docs)."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute
from pydantic import SecretStr, TypeAdapter
from pydantic_core import PydanticUndefined
from sqlalchemy import Column, MetaData
from sqlalchemy.dialects import postgresql

from chat_api.chat.client_frames import BadFrame, Busy
from chat_api.chat.sockets import TooManyFrames, TooManySockets
from chat_api.core.bot_config import BotConfig, OrgLimits
from chat_api.core.errors import training_errors
from chat_api.core.models import ChatBase
from chat_api.core.models.dashboard import DashboardBase
from chat_api.core.models.training import STAGES
from chat_api.core.refusals import RequestError
from chat_api.core.settings import Settings
from chat_api.errors import REFUSALS, outcome_of
from chat_api.routes import (
    chat,
    conversations,
    events,
    health,
    messages,
    search,
    sources,
    training,
    usage,
    visitors,
    widget,
)
from workers import cli

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "training_flow.md")
MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MODULES = (training, sources, events, search, chat, messages, conversations, usage, visitors, health, widget)
ROUTERS = tuple(module.router for module in MODULES)
ON_SOCKETS_ALONE = (BadFrame, Busy, TooManyFrames, TooManySockets)
POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects without types
EXAMPLE_VALUES = {
    "app_env": "development",
    "dashboard_db_host": "127.0.0.1",
    "dashboard_db_username": "dashboard",
    "dashboard_db_name": "dashboard",
    "python_chat_db_host": "127.0.0.1",
    "python_chat_db_username": "chat",
    "python_chat_db_name": "chat",
    "openai_api_key": "",
    "r2_account_id": "",
    "access_key_id": "",
    "secret_access_key": "",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *[list(row) for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def settings() -> str:
    """Every setting with its default and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = (
            "**required**" if field.is_required() else f"`{_plain(field.default)}`" if _plain(field.default) else "–"
        )
        rows.append((f"`{name.upper()}`", default, _sentence(field.description)))
    return table(("variable", "default", "meaning"), rows)


def env_example() -> str:
    """The text of .env.example: what must be set, and everything else as a comment."""
    lines = ["# Copy to .env.local (or .env) and fill in. Written by `make docs` from the settings; see README.md.", ""]
    for name, field in Settings.model_fields.items():
        lines.append(f"# {_sentence(field.description)}")
        if name in EXAMPLE_VALUES:
            lines.append(f"{name.upper()}={EXAMPLE_VALUES[name]}")
        else:
            lines.append(f"#{name.upper()}={_plain(field.default)}")
    return "\n".join(lines) + "\n"


def _plain(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, dict):
        return json.dumps(default)
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return str(default).lower() if isinstance(default, bool) else str(default)


def _sentence(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def configuration() -> str:
    """Every key of `bots.config` with its bounds, default and meaning."""
    return _keys(BotConfig)


def limits() -> str:
    """Every key of `orgs.limits`."""
    return _keys(OrgLimits)


def _keys(kind: type[Any]) -> str:
    rows = [
        (f"`{name}`", _bounds(told), _default(told), _sentence(told["description"]))
        for name, told in TypeAdapter(kind).json_schema()["properties"].items()
    ]
    return table(("key", "value", "default", "meaning"), rows)


def _default(told: dict[str, Any]) -> str:
    value = told.get("default")
    return "–" if value in (None, [], "") else f"`{json.dumps(value)}`"


def _bounds(told: dict[str, Any]) -> str:
    """What values a JSON schema lets through, in words."""
    found = next((one for one in told.get("anyOf", []) if one.get("type") != "null"), {}) | told
    if "maxItems" in found:
        return f"list of ≤ {found['maxItems']}"
    if "maxLength" in found:
        return f"text, ≤ {found['maxLength']:,} characters"
    if "maximum" in found and found["maximum"] < 10**9:
        return f"{found['minimum']:,}–{found['maximum']:,}"
    words = {"integer": "number, ≥ 0", "number": "number, ≥ 0", "boolean": "`true`, `false`", "object": "object"}
    return words[found["type"]]


def errors() -> str:
    """Every code that can end on a training job, with the sentence its owner reads."""
    rows = [
        (f"`{error.code}`", "yes" if error.retryable else "no", " ".join((error.__doc__ or "").split()))
        for error in training_errors()
    ]
    return table(("code", "tried again", "what the owner reads"), rows)


def refusals() -> str:
    """Every code that a call can be refused with: its status, and what who called reads."""
    told = [(code, status, sentence) for status, (code, sentence) in REFUSALS.items()]
    told += [(kind.code, int(outcome_of(kind()).status), kind().message) for kind in _refusals(RequestError)]
    rows = ((f"`{code}`", str(status), sentence) for code, status, sentence in sorted(told))
    return table(("code", "status", "what it says"), rows)


def _refusals(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    """Those of the kind that calls are refused with: all but what only others are made from."""
    below = [other for other in kind.__subclasses__() if other.code != kind.code and other not in ON_SOCKETS_ALONE]
    if not below:
        yield kind
    for other in below:
        yield from _refusals(other)


def stages() -> str:
    """The pipeline's stages, in order."""
    return " → ".join(f"`{stage}`" for stage in STAGES) + "\n"


def routes() -> str:
    """Every HTTP route and what it does."""
    found = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    rows = [
        (route.path, f"`{' '.join(sorted(route.methods or ()))} {route.path_format}`", _first_paragraph(route.endpoint))
        for route in found
        if route.include_in_schema
    ]
    return table(("route", "what it does"), [row[1:] for row in sorted(rows)])


def _first_paragraph(endpoint: Callable[..., Any]) -> str:
    return _sentence(" ".join((endpoint.__doc__ or "").partition("\n\n")[0].split()))


def commands() -> str:
    """The operator's commands with their options."""
    rows = []
    for action in cli.make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                rows.append((f"`{name}`", _sentence(command.description)))
                rows += [(f"`{name} {_option(option)}`", _sentence(option.help)) for option in _options(command)]
    return table(("`python -m workers.cli …`", "what it does"), rows)


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]


def _option(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else ""
    shown = f"{action.option_strings[-1]} {value}" if action.option_strings else value or action.dest.upper()
    return f"{shown}{' …' if action.nargs == '+' else ''}".strip()


def schema(metadata: MetaData) -> str:
    """A database's tables: what each is for, and its columns."""
    classes = {mapper.local_table: mapper.class_ for mapper in _mappers(metadata)}
    parts = []
    for found in metadata.sorted_tables:
        columns = ", ".join(_column(column) for column in found.columns)
        parts.append(f"- **`{found.name}`**: {' '.join((classes[found].__doc__ or '').split())}\n  {columns}\n")
    return "".join(parts)


def _mappers(metadata: MetaData) -> Iterable[Any]:
    base = ChatBase if metadata is ChatBase.metadata else DashboardBase
    return base.registry.mappers


def _column(column: Column[Any]) -> str:
    mark = "🔑" if column.primary_key else ""
    kind = column.type.compile(dialect=POSTGRESQL).lower().replace("timestamp with time zone", "timestamptz")
    return f"{mark}`{column.name}` {kind}{'' if column.nullable or mark else ' not null'}"


def generators() -> dict[str, Callable[[], str]]:
    """What stands between `<!-- generated: name -->` and `<!-- end -->`, by name."""
    return {
        "settings": settings,
        "configuration": configuration,
        "limits": limits,
        "errors": errors,
        "refusals": refusals,
        "stages": stages,
        "routes": routes,
        "commands": commands,
        "chat_schema": lambda: schema(ChatBase.metadata),
        "dashboard_schema": lambda: schema(DashboardBase.metadata),
    }


def filled(text: str) -> str:
    """A document with its generated parts as the code has them now."""
    made = generators()
    return MARKED.sub(lambda match: f"{match[1]}{made[match[2]]()}{match[3]}", text)


def main() -> int:
    """Rewrites the documents; 0."""
    for name in DOCUMENTS:
        path = REPOSITORY / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    (REPOSITORY / ".env.example").write_text(env_example(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
