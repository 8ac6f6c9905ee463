"""`python -m workers`: the pool of RQ workers and its sweeper; `--sweeper-only` runs the sweeper alone."""

import argparse
import signal
import sys
import threading

import structlog
from prometheus_client import REGISTRY, start_http_server

from chat_api.core.database import make_engines
from chat_api.core.login import PowerfulLoginError, check_login
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import Settings, load_settings
from chat_api.core.telemetry import configure_logging
from workers.fetch.addresses import AddressGuard
from workers.metrics import Queue
from workers.migrations import wait_for_migrations
from workers.pool import STOP_WITHIN_S, Pool
from workers.sweeper import Sweeper
from workers.tasks.life import holder_name

log = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 2 when the settings don't allow a start."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--sweeper-only", action="store_true", help="run the sweeper and no worker")
    parser.add_argument("--workers", type=int, help="worker processes (default: WORKERS)")
    options = parser.parse_args(arguments)
    settings = load_settings()
    _configure(settings)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    engines = make_engines(settings)
    REGISTRY.register(Queue(engines.chat))
    wait_for_migrations(engines.chat, ended)
    sweeper = Sweeper(engines, connect_redis(settings), settings, holder_name())
    sweeping = threading.Thread(target=sweeper.run, args=(ended,), name="sweeper", daemon=True)
    sweeping.start()
    if options.sweeper_only:
        ended.wait()
    else:
        Pool(settings, options.workers or settings.workers, died=sweeper.note_death).run(ended)
    sweeping.join(STOP_WITHIN_S)
    return 0


def _configure(settings: Settings) -> None:
    try:
        configure_logging(settings)
        AddressGuard.parse(settings.fetch_allow)
    except ValueError as error:
        sys.exit(f"settings: {error}")
    except OSError as error:
        sys.exit(f"LOG_FILE: {settings.log_file} can't be written: {error.strerror}")
    try:
        check_login(settings)
    except PowerfulLoginError as error:
        sys.exit(str(error))
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port)
        except OSError as error:  # figures are not worth a pool that does not start
            log.error("metrics_port_not_opened", port=settings.metrics_port, problem=error.strerror)  # noqa: TRY400


if __name__ == "__main__":
    sys.exit(main())
