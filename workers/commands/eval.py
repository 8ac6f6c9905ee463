"""Measures how well a bot finds what it is asked: questions with the source that answers them, put to a running API."""

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
from pydantic import BaseModel, Field, ValidationError, field_validator

from chat_api.core.errors import ServiceError
from workers.commands.hits import ALL, Judged, Passage, Rates, judged, rates_by_language
from workers.commands.terminal import Bar

MOST_QUESTIONS, MOST_BYTES = 10_000, 20 << 20
LOOKED_AT = 10
AT_ONCE = 4
ATTEMPTS, WAIT_S, LONGEST_WAIT_S = 5, 1.0, 60.0
SHOWN, NOWHERE = 20, 1_000
TOKEN, API_URL = "EVAL_TOKEN", "http://127.0.0.1:8000"
NOT_ANSWERABLE = "not answerable"


class EvalError(ServiceError):
    """The questions can't be asked."""

    code = "bad_command"
    retryable = False


class Question(BaseModel):
    """A question of the file; `expected` is a source's or document's id, address, file name or title."""

    question: str = Field(min_length=1, max_length=4_000)
    expected: str | None = None
    language: str = ""
    history: list[dict[str, str]] = Field([], max_length=10)

    @field_validator("history", mode="before")
    @classmethod
    def _from_cell(cls, given: object) -> object:
        return json.loads(given or "[]") if isinstance(given, str) else given

    @field_validator("expected")
    @classmethod
    def _none_expected(cls, given: str | None) -> str | None:
        return given if given and given.strip().casefold() != NOT_ANSWERABLE else None

    @field_validator("language", mode="before")
    @classmethod
    def _unsaid(cls, given: object) -> object:
        return given or ""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured: a bot of an API, as it is or with another threshold or without the history."""

    url: str
    token: str = field(repr=False)
    bot: str = ""
    threshold: float | None = None
    history: bool = True


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "file", type=Path, help="JSONL, JSON or CSV: question, expected, language and history if wanted"
    )
    parser.add_argument("--bot", type=UUID, required=True, metavar="ID", help="the bot that is asked")
    parser.add_argument("--api-url", default=API_URL, metavar="URL", help=f"where the API is ({API_URL})")
    parser.add_argument(
        "--token", metavar="JWT", help=f"with the scope training:read; {TOKEN} in the environment if left out"
    )
    parser.add_argument(
        "--compare", action="append", default=[], metavar="WHAT=VALUE",
        help="measure a second time with another bot=, threshold=, url=, or history=no, side by side (repeatable)",
    )  # fmt: skip
    parser.add_argument("--min-hit", type=float, metavar="SHARE", help="exit code 1 when hit@5 of all is less")


def evaluate(options: argparse.Namespace, tell: Callable[[str], None]) -> int:
    """Tells the rates; 0 when every question was answered for, 1 when not or when they are too low. Raises EvalError."""
    questions = read_questions(options.file)
    token = options.token or os.environ.get(TOKEN)
    if not token:
        raise EvalError(f"A token is needed: --token, or {TOKEN} in the environment.")
    setups = {"": Setup(options.api_url.rstrip("/"), token, str(options.bot))}
    if options.compare:
        setups["compared"] = _compared(setups[""], options.compare)
    found, rates = {}, {}
    for name, setup in setups.items():
        found[name] = ask_all(setup, questions, name)
        rates[name] = rates_by_language(_judged(setup, questions, found[name]))
    tell("\n".join(table(rates)))
    if options.compare:
        tell("\n".join(differences(questions, found[""], found["compared"])))
    failed = any(None in answers for answers in found.values())
    low = options.min_hit is not None and rates[""][ALL].hit(5) < options.min_hit
    return 1 if failed or low else 0


def read_questions(path: Path) -> list[Question]:
    """The file's questions. Raises EvalError, which names the line that is wrong."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EvalError(f"{path} is larger than {MOST_BYTES >> 20} MB.")
        rows = _rows(path.suffix.lower(), path.read_text(encoding="utf-8-sig"))
        questions = []
        for number, row in enumerate(rows, 1):
            questions.append(Question.model_validate(row))
            if number > MOST_QUESTIONS:
                raise EvalError(f"{path} has more than {MOST_QUESTIONS:,} questions.")
    except OSError as error:
        raise EvalError(f"{path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EvalError(f"{path}, question {len(questions) + 1}: {where}: {problem['msg']}.") from error
    except ValueError as error:
        raise EvalError(f"{path} is not what its name says: {error}.") from error
    if not questions:
        raise EvalError(f"{path} has no questions.")
    return questions


def _rows(suffix: str, text: str) -> Iterator[Any]:
    if suffix == ".csv":
        yield from csv.DictReader(io.StringIO(text))
    elif suffix == ".json":
        listed = json.loads(text)
        if not isinstance(listed, list):
            raise ValueError("there is no list")
        yield from listed
    else:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())


def _compared(setup: Setup, given: Sequence[str]) -> Setup:
    """The setup with what is given changed. Raises EvalError."""
    for change in given:
        name, _, value = change.partition("=")
        try:
            changes = CHANGES[name](value)
        except (KeyError, ValueError) as error:
            raise EvalError(f"--compare {change}: give bot=ID, url=URL, threshold=0.4 or history=no.") from error
        setup = replace(setup, **changes)
    return setup


CHANGES: dict[str, Callable[[str], dict[str, Any]]] = {
    "bot": lambda value: {"bot": str(UUID(value))},
    "url": lambda value: {"url": value.rstrip("/")},
    "threshold": lambda value: {"threshold": float(value)},
    "history": lambda value: {"history": {"yes": True, "no": False}[value]},
}


# --- asking -----------------------------------------------------------------------------------------------------------


def ask_all(setup: Setup, questions: Sequence[Question], name: str) -> list[list[Passage] | None]:
    """What the API finds for each question; None where it does not answer. Raises EvalError when it refuses."""
    bar = Bar(f"asked {name}".rstrip(), len(questions), sys.stderr)
    found: list[list[Passage] | None] = []
    headers = {"Authorization": f"Bearer {setup.token}"}
    client = httpx2.Client(base_url=setup.url, headers=headers, timeout=90, trust_env=False)
    file_name = cache(lambda source_id: _file_name(client, source_id))
    with client, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for passages in pool.map(lambda question: _ask(client, setup, question, file_name), questions):
                found.append(passages)
                bar.advance()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            bar.end()
    return found


def _ask(
    client: httpx2.Client, setup: Setup, question: Question, file_name: Callable[[str], str]
) -> list[Passage] | None:
    body: dict[str, Any] = {"bot_id": setup.bot, "query": question.question, "k": LOOKED_AT}
    if question.history and setup.history:
        body["history"] = question.history
    answer = _answer(lambda: client.post("/api/search", json=body))
    if answer is None:
        return None
    rows = answer.json()["passages"]
    return [Passage.of(row, "" if row["url"] else file_name(row["source_id"])) for row in rows]


def _file_name(client: httpx2.Client, source_id: str) -> str:
    """The name under which a source that has no address was uploaded; empty where the token may not see it."""
    try:
        answer = _answer(lambda: client.get(f"/api/training/sources/{source_id}/pages", params={"limit": 1}))
    except EvalError:
        return ""
    pages = answer.json()["pages"] if answer else []
    return str(pages[0]["url"]).rpartition("/")[2] if pages else ""


def _answer(send: Callable[[], httpx2.Response]) -> httpx2.Response | None:
    """The API's answer, asked for again while it is away or busy; None when it stays so. Raises EvalError."""
    for _ in range(ATTEMPTS):
        try:
            answer = send()
        except httpx2.TransportError:
            time.sleep(WAIT_S)
            continue
        if answer.status_code == 200:
            return answer
        if answer.status_code not in {429, 502, 503}:
            raise EvalError(f"The API refuses this ({answer.status_code}): {_detail(answer)}")
        time.sleep(min(LONGEST_WAIT_S, float(answer.headers.get("Retry-After", WAIT_S))))
    return None


def _detail(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"


# --- telling ----------------------------------------------------------------------------------------------------------


def _judged(setup: Setup, questions: Sequence[Question], found: Sequence[list[Passage] | None]) -> Iterator[Judged]:
    for question, passages in zip(questions, found, strict=True):
        if passages is not None:
            yield judged(question.language, question.expected, passages, setup.threshold)


def table(rates: Mapping[str, Mapping[str, Rates]]) -> Iterator[str]:
    """A line for each language and setup."""
    yield f"{'':24}{'questions':>10}{'hit@1':>8}{'hit@3':>8}{'hit@5':>8}{'MRR':>8}{'refused':>14}{'wrongly':>10}"
    for language in rates[""]:
        for setup, by_language in rates.items():
            one = by_language.get(language, Rates())
            shares = "".join(f"{share:8.3f}" for share in (one.hit(1), one.hit(3), one.hit(5), one.mrr))
            refused = f"{one.refused}/{one.unanswerable}"
            name = f"  {setup}" if setup else language
            yield f"{name:24}{len(one.places) + one.unanswerable:>10}{shares}{refused:>14}{one.wrongly_refused:>10}"


def _changed(
    questions: Sequence[Question], one: Sequence[list[Passage] | None], other: Sequence[list[Passage] | None]
) -> Iterator[tuple[float, int | None, int | None, str]]:
    for question, before, after in zip(questions, one, other, strict=True):
        if question.expected is None or before is None or after is None:
            continue
        first, second = (judged("", question.expected, passages, None).place for passages in (before, after))
        if first != second:
            yield 1 / (second or NOWHERE) - 1 / (first or NOWHERE), first, second, question.question


def differences(
    questions: Sequence[Question], one: Sequence[list[Passage] | None], other: Sequence[list[Passage] | None]
) -> Iterator[str]:
    """The questions whose source is found at another place, those that lost the most first."""
    changed = sorted(_changed(questions, one, other), key=lambda change: change[0])
    for _, first, second, text in changed[:SHOWN]:
        yield f"place {first or '-'} → {second or '-'}: {text}"
    if len(changed) > SHOWN:
        yield f"… and {len(changed) - SHOWN} more"
