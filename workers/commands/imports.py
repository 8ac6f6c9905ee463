"""Reads a bot's exported knowledge into a bot here, source by source; each answers from the moment it is whole."""

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from uuid import UUID, uuid5

from chat_api.core.database import Engines, of_org
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.errors import ServiceError
from chat_api.core.settings import Settings
from workers.bootstrap import bootstrap
from workers.commands.archive import Archive, Definition, FileDefinition, read_archive
from workers.commands.import_rows import Ids, Importer
from workers.commands.import_run import (
    InTheWay,
    begin,
    give_up,
    know_bot,
    make_live,
    open_build,
    read_space,
    state_here,
)
from workers.commands.rows import (
    FileRow,
    SourceRow,
    Target,
    add_source,
    assert_may,
    find_rows,
    find_target,
)
from workers.commands.terminal import Bar
from workers.dashboard import project_status
from workers.receipt import Receipt
from workers.stages import Stages
from workers.tasks.lease import Lease, Progress
from workers.tasks.life import LeaseLostError

HELD = {
    "live": "it answers already; --overwrite replaces what it answers",
    "deleted": "it was deleted here; --overwrite brings it back",
}


@dataclass(slots=True)
class Imported:
    """What became of the sources: counts by outcome."""

    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in sorted(self.counts.items())) or "the export is empty"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what export has written")
    parser.add_argument("--bot", type=UUID, required=True, metavar="ID", help="the bot that is to know it")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what answers here, bring deleted sources back"
    )
    parser.add_argument(
        "--reembed", action="store_true", help="embed the text anew where the bot reads another model; that is paid for"
    )


def import_(options: argparse.Namespace, settings: Settings, engines: Engines, stream: TextIO) -> Imported:
    """Imports `options.file`; what is left out or fails is named on `stream`.

    Raises BadArchive, InTheWay, RowsRefused, OSError, and what a database raises that is away.
    """
    target = find_target(engines.dashboard, options.bot, max_file_mb=settings.max_file_mb)
    assert_may(engines.dashboard)
    with read_archive(options.file) as archive:
        stages = bootstrap(settings, engines=engines).stages
        space = read_space(engines.chat, target) or EmbeddingSpace(*settings.space)
        theirs = EmbeddingSpace(**archive.manifest.space.model_dump())
        if space != theirs and not options.reembed:
            raise InTheWay(
                f"The export has vectors of {archive.manifest.space}, and the bot reads {space.model} ({space.dimensions}"
                " dimensions). With --reembed its text is embedded here, which is paid for."
            )
        know_bot(engines.chat, engines.dashboard, target)
        work = _Work(archive, engines, target, stages, space, space != theirs, options.overwrite)
        imported, bar = Imported(), Bar("imported", archive.manifest.sources, stream)
        for number in range(archive.manifest.sources):
            word, reason = work.source(number)
            imported.counts[word] += 1
            if reason:
                bar.say(f"{archive.definition(number).id}: {word}: {reason}")
            bar.advance()
        bar.end()
    return imported


@dataclass(frozen=True, slots=True)
class _Work:
    """What every source of the file is imported with."""

    archive: Archive
    engines: Engines
    target: Target
    stages: Stages
    space: EmbeddingSpace
    anew: bool
    """Whether texts are embedded here."""
    overwrite: bool

    def source(self, number: int) -> tuple[str, str]:
        """What became of one source, and why, where it is not imported."""
        definition = self.archive.definition(number)
        source_id = self._mapped(definition.id)
        state = state_here(self.engines.chat, self.target, source_id, self.archive.manifest)
        if state == "imported":
            return "unchanged", ""
        if state and not self.overwrite:
            return "skipped", HELD[state]
        try:
            self._add_row(source_id, definition)
            self._import(number, source_id, definition)
        except InTheWay as reason:
            return "skipped", reason.message
        except LeaseLostError:
            return "failed", "its run was ended meanwhile"
        except ServiceError as error:
            return "failed", error.message
        return "imported", ""

    def _mapped(self, old: str) -> UUID:
        """The id here: the same in the bot that was exported, else made of the bot's and the old one."""
        same = str(self.target.bot_id) == self.archive.manifest.bot_id
        return UUID(old) if same else uuid5(self.target.bot_id, old)

    def _add_row(self, source_id: UUID, definition: Definition) -> None:
        """Adds the dashboard's row where it is missing; an owner's own stays as it is. Raises InTheWay, RowsRefused."""
        with self.engines.dashboard.begin() as connection:
            seen = find_rows(connection, [source_id]).get(source_id)
            if seen and (seen.org_id, seen.bot_id) != (self.target.org_id, self.target.bot_id):
                raise InTheWay("a source of another bot has its id here")
            if seen and seen.deleted and not self.overwrite:
                raise InTheWay(HELD["deleted"])
            if seen is None or seen.deleted:
                add_source(connection, self.target, self._row(source_id, definition))

    def _row(self, source_id: UUID, definition: Definition) -> SourceRow:
        return SourceRow(
            source_id,
            definition.type,
            definition.url,
            definition.title,
            None if definition.content is None else json.dumps(definition.content),
            json.dumps(definition.options or {}),
            self._file(definition.file) if definition.file else None,
        )

    def _file(self, file: FileDefinition) -> FileRow:
        return FileRow(self._mapped(file.id), file.object_key, file.filename, file.content_type, file.size_bytes)

    def _import(self, number: int, source_id: UUID, definition: Definition) -> None:
        chat = of_org(self.engines.chat, self.target.org_id)
        with chat.begin() as connection:
            task = begin(connection, self.target, source_id, definition, self.archive.manifest, revive=self.overwrite)
        try:
            with chat.begin() as connection:
                build = open_build(connection, task, self.space, definition)
            progress = Progress()
            progress.stage, progress.total, progress.unit = "store", definition.chunks, "chunks"
            with Lease(chat, [task], {task.task_id: progress}, told=_nothing, stopping=_never) as lease:
                ids = Ids(UUID(definition.id), source_id)
                stages = self.stages if self.anew else None
                importer = Importer(self.archive, number, build, chat, lease, progress, ids, stages)
                importer.write()
            with chat.begin() as connection:
                make_live(connection, build, self._receipt(importer))
        except BaseException:
            give_up(chat, task)
            raise
        assert task.job_id  # noqa: S101  # it was made with the task
        project_status(self.engines.chat, self.engines.dashboard, [task.job_id])

    def _receipt(self, importer: Importer) -> Receipt:
        receipt, manifest = importer.receipt, self.archive.manifest
        receipt.chunks["total"] = importer.progress.done
        receipt.warn(f"Imported from an export of bot {manifest.bot_id}, made {manifest.exported_at}.")
        return receipt


def _nothing() -> None:
    return


def _never() -> bool:
    return False
