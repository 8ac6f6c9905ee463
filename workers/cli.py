"""`python -m workers.cli`: the operator's commands. They say what is wrong in sentences, and by their exit code."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from chat_api.core.database import DATABASE_DOWN, Engines, is_held, make_engines
from chat_api.core.errors import ServiceError
from chat_api.core.jobs import ring
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import Settings, load_settings
from chat_api.core.telemetry import configure_logging
from workers.commands import eval as eval_
from workers.commands.cancel import Named, cancel, is_known
from workers.commands.clean import clean, count_rubbish
from workers.commands.clean_org import clean_org
from workers.commands.doctor import examine
from workers.commands.export import add_options as add_export_options
from workers.commands.export import export
from workers.commands.imports import add_options as add_import_options
from workers.commands.imports import import_
from workers.commands.process import STILL_FOR_S, Ended, find_sources, queue_sources, wait_for_runs
from workers.commands.reembed import await_switch, reembed, served_space
from workers.commands.release import allow_removals
from workers.commands.rows import find_target
from workers.commands.seed import add_options as add_seed_options
from workers.commands.seed import seed
from workers.commands.services import examine_services
from workers.commands.status import read_status, render
from workers.commands.terminal import Bar, agreed
from workers.commands.upload import add_options as add_upload_options
from workers.commands.upload import upload
from workers.reconcile.queueing import Wanted

WATCH_EVERY_S = 2.0
CLEAR = "\033[H\033[2J"
Command = Callable[[argparse.Namespace, Settings, Engines], int]


class CommandError(ServiceError):
    """The command can't be carried out as it was given."""

    code = "bad_command"
    retryable = False


def main(arguments: list[str] | None = None) -> int:
    """0 when all is well, 1 when something is left to do or has failed, 2 when the command can't be carried out."""
    options = make_parser().parse_args(arguments)
    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "ERROR", "log_file": None}))
    engines = make_engines(settings)
    command: Command = options.command
    try:
        return command(options, settings, engines)
    except ServiceError as error:
        problem = error.message
    except DATABASE_DOWN as error:
        problem = _away(error)
    except DBAPIError as error:
        problem = f"A database refuses this ({_cause(error)}). `doctor` may say why; are the migrations applied?"
    except KeyboardInterrupt:
        problem = "Stopped. What is done stays done: the same command goes on with the rest."
    finally:
        engines.chat.dispose()
        engines.dashboard.dispose()
    print(problem, file=sys.stderr)
    return 2


def _away(error: Exception) -> str:
    if is_held(error):
        return f"Other work held this for too long ({_cause(error)}). What is done stays done: run the command again."
    return f"A database does not answer ({_cause(error)}). Check that it runs and that its settings are right."


def _cause(error: Exception) -> str:
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m workers.cli", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    status = _add(commands, "status", _status, "how training stands: what waits, who does what, the last errors")
    status.add_argument("--watch", action="store_true", help="show it again every two seconds")
    status.add_argument("--json", action="store_true", help="as JSON")
    doctor = _add(commands, "doctor", _doctor, "looks for what disagrees; exit code 1 when something is left")
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended; safe to repeat")
    doctor.add_argument(
        "--allow-removals", type=UUID, action="append", default=[], metavar="SOURCE",
        help="let what is held back of this source go: its removal, or its parked generation; a bot's id stands for all"
        " its held removals (repeatable)",
    )  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="as JSON")
    process = _add(commands, "process", _process, "has sources trained; exit code 1 when a waited-for run failed")
    which = process.add_mutually_exclusive_group()
    which.add_argument("--source", type=UUID, nargs="+", metavar="ID", help="these sources, deleted ones included")
    which.add_argument("--all", action="store_true", help="all sources (with --bot: all of that bot)")
    which.add_argument("--failed", action="store_true", help="those whose last training failed")
    process.add_argument("--bot", type=UUID, metavar="ID", help="only this bot's")
    process.add_argument("--force", action="store_true", help="read everything again, whatever looks unchanged")
    process.add_argument("--wait", action="store_true", help="wait for the runs, with progress")
    cancelling = _add(commands, "cancel", _cancel, "ends runs that wait or are under way; what answers stays")
    whose = cancelling.add_mutually_exclusive_group(required=True)
    whose.add_argument("--source", type=UUID, nargs="+", metavar="ID", help="those of these sources")
    whose.add_argument("--bot", type=UUID, metavar="ID", help="all of this bot's")
    whose.add_argument("--org", type=UUID, metavar="ID", help="all of this org's")
    again = _add(
        commands, "reembed", _reembed, "embeds bots anew with another model; each is switched when it is whole"
    )
    again.add_argument("--model", metavar="NAME", help="the embedding model; the settings' one if left out")
    again.add_argument("--dimensions", type=int, metavar="N", help="of its vectors; known for the usual models")
    again.add_argument("--bot", type=UUID, nargs="+", default=[], metavar="ID", help="only these bots")
    again.add_argument("--abandon", action="store_true", help="stay with the present model after all")
    again.add_argument("--wait", action="store_true", help="wait until the bots are switched, with progress")
    add_upload_options(_add(commands, "upload", _upload, "puts a folder's files into the bucket and the dashboard"))
    add_export_options(_add(commands, "export", _export, "writes what a bot has learnt into one file"))
    add_import_options(_add(commands, "import", _import, "reads such a file into a bot, here or elsewhere"))
    add_seed_options(
        _add(commands, "seed", _seed, "fills dashboard and bucket with an org to look at; never in production")
    )
    eval_.add_options(_add(commands, "eval", _eval, "how well a bot finds what it is asked: hit rates by language"))
    cleaning = _add(commands, "clean", _clean, "removes the data of deleted sources and unread generations now")
    cleaning.add_argument(
        "--org", type=UUID, metavar="ID", help="remove instead all of an org that is gone from the dashboard"
    )
    cleaning.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, command: Command, what: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(command=command)
    return parser


def _status(options: argparse.Namespace, _settings: Settings, engines: Engines) -> int:
    while True:
        status = read_status(engines.chat)
        screen = json.dumps(status) if options.json else render(status)
        print(CLEAR + screen if options.watch and sys.stdout.isatty() else screen, flush=True)
        if not options.watch:
            return 0
        time.sleep(WATCH_EVERY_S)


def _doctor(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    for named_id in options.allow_removals:
        allowed = allow_removals(engines.chat, named_id)
        told = [f"{named_id}: {allowed.removed} removed, {allowed.released} generations released"]
        if allowed.unreadable:
            told.append(f"{named_id}: its parked generation is of another embedding space; train the source again")
        if not (allowed.removed or allowed.released or allowed.unreadable):
            told = [f"{named_id}: nothing of it is held back"]
        print("\n".join(told), file=sys.stderr)
    diagnosis = examine(engines, fix=options.fix)
    diagnosis.findings += examine_services(settings)
    print(diagnosis.as_json() if options.json else diagnosis.as_text())
    return 0 if diagnosis.clean else 1


def _process(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    wanted = _wanted(options, settings, engines)
    unknown = sorted(set(options.source or []).difference(source.source_id for source in wanted))
    sys.stderr.writelines(f"{source_id}: there is no such source to train.\n" for source_id in unknown)
    queued = queue_sources(engines, wanted, force=options.force, revive=bool(options.source))
    _ring(settings, queued.waiting)
    under_way = f", {len(queued.running)} under way already" if queued.running else ""
    print(f"{len(queued.waiting)} of {len(wanted)} sources queued{under_way}")
    failed = _wait(engines, queued.runs) if options.wait and queued.runs else 0
    return 1 if failed or unknown else 0


def _wanted(options: argparse.Namespace, settings: Settings, engines: Engines) -> list[Wanted]:
    if not any((options.source, options.all, options.failed, options.bot)):
        raise CommandError("Say what to process: --source ID …, --bot ID, --failed or --all.")
    if options.bot:
        find_target(engines.dashboard, options.bot, max_file_mb=settings.max_file_mb)
    return find_sources(engines.dashboard, source_ids=options.source, bot_id=options.bot, failed=bool(options.failed))


def _train(settings: Settings, engines: Engines, source_ids: Sequence[UUID], *, revive: bool) -> int:
    """How many of the sources did not train; waits for all of them. Deleted ones only where they are to `revive`."""
    wanted = find_sources(engines.dashboard, source_ids=source_ids)
    queued = queue_sources(engines, wanted, revive=revive)
    sys.stdout.writelines(f"{source_id}: deleted; --overwrite trains it again\n" for source_id in queued.left)
    _ring(settings, queued.waiting)
    return len(source_ids) - len(queued.runs) + (_wait(engines, queued.runs) if queued.runs else 0)


def _upload(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    uploaded = upload(options, settings, engines.dashboard, sys.stdout)
    print(uploaded)
    train = options.process and not options.dry_run
    untrained = _train(settings, engines, uploaded.to_train, revive=options.overwrite) if train else 0
    return 1 if uploaded.counts["failed"] or untrained else 0


def _ring(settings: Settings, job_ids: Sequence[UUID]) -> None:
    with connect_redis(settings) as redis:
        if job_ids and not ring(redis, settings.queue_name, job_ids):
            print("Redis does not answer: the sweeper rings for the runs when it does.", file=sys.stderr)


def _wait(engines: Engines, job_ids: Sequence[UUID]) -> int:
    """How many of the runs did not succeed."""
    bar = Bar("trained", len(job_ids), sys.stdout)

    def tell(ended: Ended) -> None:
        if ended.status != "succeeded":
            bar.say(f"{ended.source_id}: {ended.status} {ended.error_code or ''} {ended.error_message or ''}".rstrip())
        bar.advance()

    statuses = wait_for_runs(engines.chat, job_ids, tell, lambda standing: bar.say(str(standing)))
    bar.end()
    if left := len(job_ids) - statuses.total():
        print(f"Nobody has done anything for {STILL_FOR_S / 60:.0f} minutes: stopped waiting.", file=sys.stderr)
        statuses["still queued"] = left
    print(", ".join(f"{count} {status}" for status, count in sorted(statuses.items())))
    return len(job_ids) - statuses["succeeded"]


def _reembed(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    space = None if options.abandon else served_space(settings, options.model, options.dimensions)
    begun = reembed(engines.chat, space, options.bot, print)
    return 0 if not options.wait or await_switch(engines.chat, begun, print) else 1


def _export(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    try:
        return 0 if export(options, engines, settings.max_file_mb, sys.stdout) else 1
    except OSError as error:
        raise CommandError(f"{options.file} can't be written: {error.strerror}.") from error


def _import(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    try:
        imported = import_(options, settings, engines, sys.stdout)
    except OSError as error:
        raise CommandError(f"{options.file} can't be read: {error.strerror}.") from error
    print(imported)
    return 1 if imported.counts["failed"] or imported.counts["skipped"] else 0


def _seed(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    made = seed(options, settings, engines, sys.stdout)
    return 1 if options.process and made and _train(settings, engines, made, revive=True) else 0


def _eval(options: argparse.Namespace, _settings: Settings, _engines: Engines) -> int:
    return eval_.evaluate(options, print)


def _cancel(options: argparse.Namespace, _settings: Settings, engines: Engines) -> int:
    named = Named(options.source, options.bot, options.org)
    if not is_known(engines.chat, named):
        raise CommandError("Nothing of that was ever queued here. Is it the right id?")
    cancelled = cancel(engines, named, sys.stdout)
    print(f"{cancelled.runs} runs cancelled")
    if cancelled.held:
        print(f"{cancelled.held} sources are held by other work: run the command again.", file=sys.stderr)
    return 1 if cancelled.held else 0


def _clean(options: argparse.Namespace, settings: Settings, engines: Engines) -> int:
    if options.org:
        return clean_org(options, settings, engines, sys.stdout)
    rubbish = count_rubbish(engines.chat)
    if not rubbish.generations:
        print("There is nothing to remove.")
        return 0
    what = f"{rubbish.generations:,} generations with {rubbish.chunks:,} chunks"
    if not options.yes and not agreed(f"Remove {what}, which no answer uses? [y/N] "):
        print("Nothing was removed.")
        return 1
    bar = Bar("removed generations", rubbish.generations, sys.stdout)
    generations, rows = clean(engines.chat, bar.advance)
    bar.end()
    left = count_rubbish(engines.chat).generations
    print(f"Removed {generations:,} generations, {rows:,} rows.")
    if left:
        print(f"{left:,} are left, which another process has in hand, or which were discarded meanwhile.")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
