"""Fills the dashboard database and the bucket with an org to look at, and takes exactly that away again."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO
from uuid import UUID

from sqlalchemy import Engine, text

from chat_api.core.database import Engines
from chat_api.core.errors import ServiceError
from chat_api.core.settings import Settings
from chat_api.core.storage import make_s3_client, storage_errors
from workers.commands.rows import PRIVILEGES, TABLES, Target, add_source, assert_may
from workers.commands.seed_content import SIZES, SeedBot, seed_bots, seed_org
from workers.commands.terminal import Bar
from workers.reconcile.burial import bury
from workers.reconcile.verdicts import Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SITE = "https://example.com"
AT_ONCE = 1_000
ALL_TABLES = ("orgs", "bots", *TABLES)
ADD_ORG = text("""
    INSERT INTO orgs (id, name, limits, created_at) VALUES (:org_id, :name, '{}', now()) ON CONFLICT (id) DO NOTHING
""")
ADD_BOT = text("""
    INSERT INTO bots (id, org_id, name, config, allowed_origins, created_at, updated_at)
    VALUES (:bot_id, :org_id, :name, '{}', '{}', now(), now())
    ON CONFLICT (id) DO UPDATE SET deleted_at = NULL WHERE bots.org_id = excluded.org_id
""")
# What somebody else has added to the org keeps its bot, and the bot the org.
REMOVE = (
    text("DELETE FROM training_sources WHERE org_id = :org_id AND id = ANY (CAST(:source_ids AS uuid[]))"),
    text("""
        DELETE FROM files WHERE org_id = :org_id AND id = ANY (CAST(:file_ids AS uuid[]))
        AND NOT EXISTS (SELECT FROM training_sources WHERE file_id = files.id)
    """),
    text("""
        DELETE FROM bots WHERE org_id = :org_id AND id = :bot_id
        AND NOT EXISTS (SELECT FROM training_sources WHERE bot_id = bots.id)
    """),
)
REMOVE_ORG = text("""
    DELETE FROM orgs WHERE id = :org_id AND NOT EXISTS (SELECT FROM bots WHERE org_id = orgs.id)
    AND NOT EXISTS (SELECT FROM files WHERE org_id = orgs.id)
""")


class NotHere(ServiceError):
    """`seed` makes things up, and a production deployment (APP_ENV) is no place for that."""

    code = "bad_command"
    retryable = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--size", choices=SIZES, required=True, help="1, 3 or 10 bots with 9, 63 or 603 sources each")
    parser.add_argument("--clear", action="store_true", help="remove what seed has made of this size, nothing else")
    parser.add_argument("--process", action="store_true", help="have it trained, and wait with progress")
    parser.add_argument("--site", default=SITE, metavar="URL", help=f"a website for its web sources ({SITE})")


def seed(options: argparse.Namespace, settings: Settings, engines: Engines, stream: TextIO) -> list[UUID]:
    """Makes the org, or takes it away; the ids of the sources that are there now.

    Raises NotHere, RowsRefused, StorageUnavailable, and what a database raises that is away.
    """
    if settings.in_production:
        raise NotHere
    assert_may(engines.dashboard, ALL_TABLES, [*PRIVILEGES, *(["DELETE"] if options.clear else [])])
    client, org_id = make_s3_client(settings), seed_org(options.size)
    bar, made = Bar("removed bots" if options.clear else "made bots", SIZES[options.size][0], stream), []
    for bot in seed_bots(options.size, options.site):
        if options.clear:
            _remove(bot, org_id, engines, client, settings.r2_bucket)
        else:
            _make(bot, org_id, options.size, engines.dashboard, client, settings.r2_bucket)
            made += [source.source_id for source in bot.sources]
        bar.say(f"bot {bot.bot_id}: {bot.name}, {len(bot.sources)} sources")
        bar.advance()
    if options.clear:
        with engines.dashboard.begin() as connection:
            gone = connection.execute(REMOVE_ORG, {"org_id": org_id}).rowcount
        bar.say(f"org {org_id}" if gone else f"org {org_id} stays: something else is in it, or it is not there")
    else:
        bar.say(f"org {org_id}")
    bar.end()
    return made


def _make(bot: SeedBot, org_id: UUID, size: str, dashboard: Engine, client: "S3Client", bucket: str) -> None:
    for key, body in bot.objects.items():
        with storage_errors():
            client.put_object(Bucket=bucket, Key=key, Body=body)
    with dashboard.begin() as connection:
        connection.execute(ADD_ORG, {"org_id": org_id, "name": f"Seed ({size})"})
        connection.execute(ADD_BOT, {"bot_id": bot.bot_id, "org_id": org_id, "name": bot.name})
        for source in bot.sources:
            add_source(connection, Target(org_id, bot.bot_id, 0), source)


def _remove(bot: SeedBot, org_id: UUID, engines: Engines, client: "S3Client", bucket: str) -> None:
    """Out of all answers first, then out of the bucket, then out of the dashboard."""
    bury(engines.chat, [Place(org_id, bot.bot_id, source.source_id) for source in bot.sources])
    _remove_objects(list(bot.objects), client, bucket)
    values = {
        "org_id": org_id,
        "bot_id": bot.bot_id,
        "source_ids": [source.source_id for source in bot.sources],
        "file_ids": [source.file.file_id for source in bot.sources if source.file],
    }
    with engines.dashboard.begin() as connection:
        for statement in REMOVE:
            connection.execute(statement, values)


def _remove_objects(keys: Sequence[str], client: "S3Client", bucket: str) -> None:
    for start in range(0, len(keys), AT_ONCE):
        with storage_errors():
            client.delete_objects(
                Bucket=bucket,
                Delete={"Objects": [{"Key": key} for key in keys[start : start + AT_ONCE]], "Quiet": True},
            )
