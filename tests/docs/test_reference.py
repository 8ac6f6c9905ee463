"""README.md, training_flow.md and .env.example against the code."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import WebSocketRoute

from chat_api.core.bot_config import BotConfig, OrgLimits
from chat_api.core.errors import training_errors
from chat_api.core.models import ChatBase
from chat_api.core.models.dashboard import DashboardBase
from chat_api.core.models.training import STAGES
from chat_api.core.refusals import Conflict, TooManyRequests, UnknownResource
from chat_api.core.settings import Settings
from chat_api.errors import REFUSALS
from deploy.reference import DOCUMENTS, REPOSITORY, ROUTERS, env_example, filled

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FLOW = (REPOSITORY / "training_flow.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_parts_are_current(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert filled(text) == text, f"{name} is behind the code: run `make docs`"


def test_env_example_is_current() -> None:
    assert (REPOSITORY / ".env.example").read_text(encoding="utf-8") == env_example(), "run `make docs`"


def test_every_setting_is_documented() -> None:
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in README] == []


def test_every_setting_has_a_meaning() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_route_is_documented() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) >= 7
    assert [route.path_format for route in routes if f" {route.path_format}`" not in README] == []
    assert "/api/chat/ws" in README
    assert "/metrics" in README


def test_every_router_is_listed() -> None:
    modules = {path.stem for path in (REPOSITORY / "chat_api" / "routes").glob("*.py")} - {"__init__"}
    listed = {endpoint.__module__.rpartition(".")[2] for endpoint in _endpoints()}
    assert listed == modules


def _endpoints() -> Iterator[Callable[..., Any]]:
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute | WebSocketRoute):
                yield route.endpoint


def test_every_metric_of_the_pools_is_documented() -> None:
    code = (REPOSITORY / "workers" / "metrics.py").read_text(encoding="utf-8")
    names = re.findall(r'"(training_\w+)", "', code)
    assert len(names) >= 11
    assert [name for name in names if f"`{name}" not in README] == []


def test_every_metric_of_the_api_is_documented() -> None:
    code = (REPOSITORY / "chat_api" / "metrics.py").read_text(encoding="utf-8")
    names = re.findall(r'= (?:Counter|Gauge|Histogram)\(\s*"(\w+)"', code)
    assert len(names) >= 8
    assert [name for name in names if f"`{name}" not in README] == []


def test_every_command_is_documented() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(targets) >= 10
    assert [target for target in targets if f"make {target}" not in README and target != "help"] == []


def test_every_error_code_and_stage_is_documented() -> None:
    codes = {error.code for error in training_errors()}
    assert 20 <= len(codes) <= 40
    assert [code for code in codes if f"`{code}`" not in FLOW] == []
    assert [stage for stage in STAGES if f"**{stage}**" not in FLOW] == []


def test_every_refusal_is_documented() -> None:
    modules = set((REPOSITORY / "chat_api").rglob("*.py")) - {REPOSITORY / "chat_api" / "core" / "errors.py"}
    code = "".join(path.read_text(encoding="utf-8") for path in modules)
    codes = {*re.findall(r'^    code = "(\w+)"', code, re.MULTILINE), *re.findall(r'problem\([\w.]+, "(\w+)"', code)}
    codes |= {code for code, _ in REFUSALS.values()}
    assert len(codes) >= 30
    never_said = {base.code for base in (Conflict, TooManyRequests, UnknownResource)}
    assert [code for code in sorted(codes - never_said) if f"`{code}`" not in README] == []


def test_every_key_of_configuration_and_limits_has_a_meaning() -> None:
    for kind in (BotConfig, OrgLimits):
        assert [
            name for name, told in TypeAdapter(kind).json_schema()["properties"].items() if not told["description"]
        ] == []


def test_every_option_of_a_source_is_documented() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "workers").rglob("*.py"))
    options = set(re.findall(r"options\)?\.get\(\"(\w+)\"\)|options ->> '(\w+)'", code))
    names = {name for pair in options for name in pair if name}
    assert len(names) >= 8
    rows = re.search(r"### What your rows say\n(.*?)\n### ", README, re.DOTALL)
    assert rows
    assert [name for name in sorted(names) if not re.search(rf"`(?:options\.)?{name}\b", rows[1])] == []


def test_every_attribute_of_the_widget_is_documented() -> None:
    code = (REPOSITORY / "chat_api" / "widget" / "widget.js").read_text(encoding="utf-8")
    read = re.findall(r"dataset\.(\w+)", code)
    for names in re.findall(r"const \{ ([\w, ]+) \} = (?:this|script)\.dataset", code):
        read += names.split(", ")
    attributes = {"data-" + re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", name) for name in read}
    assert len(attributes) >= 8
    assert [name for name in sorted(attributes) if f"`{name}`" not in README] == []


def test_every_table_is_documented() -> None:
    tables = [*ChatBase.metadata.tables, *DashboardBase.metadata.tables]
    assert [table for table in tables if f"**`{table}`**" not in FLOW] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_modules_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = [
        path for path in re.findall(r"`((?:chat_api|workers|deploy|tests|alembic)/[\w./-]+)`", text) if "*" not in path
    ]
    assert [path for path in links + paths if not (REPOSITORY / path).exists()] == []


def test_the_example_client_is_python_and_short() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        assert len(block.splitlines()) <= 22


def test_nothing_is_left_to_fill_in() -> None:
    for name in DOCUMENTS:
        assert not re.search(r"\b(TODO|TBD|DEMO)\b", Path(REPOSITORY / name).read_text(encoding="utf-8"))
