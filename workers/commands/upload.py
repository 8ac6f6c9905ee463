"""Puts a folder's files into the bucket and their rows into the dashboard database, as the dashboard itself would.

Objects come before their rows, both under ids made of bot and path: a second run goes on where the first one ended.
"""

import argparse
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from uuid import UUID

from sqlalchemy import Engine

from chat_api.core.errors import ServiceError
from chat_api.core.settings import Settings
from chat_api.core.storage import make_s3_client
from workers.commands.folder import Found, Skipped, look_into
from workers.commands.rows import add_source, assert_may, find_rows, find_target
from workers.commands.sending import Failed, Outcome, Sender, Sent, source_id
from workers.commands.terminal import Bar

MOST_THREADS = 16


@dataclass(slots=True)
class Uploaded:
    """What became of the folder: counts by outcome, and the sources that want training."""

    counts: Counter[str] = field(default_factory=Counter)
    to_train: list[UUID] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in sorted(self.counts.items())) or "the folder is empty"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder; hidden files and links are left out")
    parser.add_argument("--bot", type=UUID, required=True, metavar="ID", help="the bot that is to learn from it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace changed files, bring deleted ones back")
    parser.add_argument("--process", action="store_true", help="have them trained, and wait with progress")
    parser.add_argument(
        "--threads", type=int, default=4, choices=range(1, MOST_THREADS + 1), metavar="N",
        help=f"files sent at once (4; {MOST_THREADS} at most), each of them in memory",
    )  # fmt: skip


def upload(options: argparse.Namespace, settings: Settings, dashboard: Engine, stream: TextIO) -> Uploaded:
    """Uploads `options.folder`, naming on `stream` what is left out or fails.

    Raises BadFolder, RowsRefused, and what a database raises that is away.
    """
    target = find_target(dashboard, options.bot, max_file_mb=settings.max_file_mb)
    if not options.dry_run:
        assert_may(dashboard)
    found = look_into(options.folder, int(target.max_file_mb * 2**20))
    names = [one.name for one in found if isinstance(one, Found)]
    with dashboard.connect() as connection:
        seen = find_rows(connection, [source_id(target, name) for name in names])
    sender = Sender(make_s3_client(settings), settings.r2_bucket, target, seen, options.overwrite, options.dry_run)
    done, bar = Uploaded(), Bar("looked at" if options.dry_run else "uploaded", len(found), stream)
    for outcome in _outcomes(found, sender, options.threads):
        settled = outcome if options.dry_run or not isinstance(outcome, Sent) else _settled(outcome, sender, dashboard)
        _tell(settled, done, bar, dry_run=options.dry_run)
        if isinstance(settled, Sent) and _wants_training(settled, sender):
            done.to_train.append(settled.source.source_id)
    bar.end()
    return done


def _outcomes(found: Sequence[Found | Skipped], sender: Sender, threads: int) -> Iterator[Outcome]:
    """What became of each, in their order; no more files are in memory than there are threads, and as many again."""
    waiting: deque[Future[Outcome] | Skipped] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for one in found:
                waiting.append(pool.submit(sender.send, one) if isinstance(one, Found) else one)
                if len(waiting) > 2 * threads:
                    yield _outcome(waiting.popleft())
            while waiting:
                yield _outcome(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _outcome(one: Future[Outcome] | Skipped) -> Outcome:
    return one.result() if isinstance(one, Future) else one


def _settled(sent: Sent, sender: Sender, dashboard: Engine) -> Sent | Failed:
    """Writes the rows of what was sent; what they no longer name goes."""
    if sent.done in {"uploaded", "overwritten"}:
        with dashboard.begin() as connection:
            add_source(connection, sender.target, sent.source)
    if sent.replaces:
        try:
            sender.discard(sent.replaces)
        except ServiceError as error:
            return Failed(sent.name, f"replaced, but its old object {sent.replaces} is still there: {error.message}")
    return sent


def _tell(outcome: Outcome, done: Uploaded, bar: Bar, *, dry_run: bool) -> None:
    word = outcome.done if isinstance(outcome, Sent) else "skipped" if isinstance(outcome, Skipped) else "failed"
    done.counts[word] += 1
    if not isinstance(outcome, Sent):
        bar.say(f"{outcome.name}: {word}: {outcome.reason}")
    elif dry_run and word != "unchanged":
        bar.say(f"{outcome.name}: would be {word}")
    bar.advance()


def _wants_training(sent: Sent, sender: Sender) -> bool:
    """Whether it is new here, or an earlier run ended before it was trained."""
    seen = sender.seen.get(sent.source.source_id)
    return seen is None or sent.done == "overwritten" or seen.status != "trained"
