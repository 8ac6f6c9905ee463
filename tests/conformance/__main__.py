"""`python -m tests.conformance --url ws://… --token-command CMD`: the kit against any server of chat.v1.

CMD is run with a visitor's id and a scope as its arguments, and prints a token of the bot under check. With --serve the
kit is the server itself: a client that is pointed at it asks the scenarios that it lists, and is judged by what it sends.
"""

import argparse
import shlex
import subprocess
import sys
import time

from jsonschema import ValidationError
from websockets.exceptions import WebSocketException

from tests.conformance import serve
from tests.conformance.checks import CHECKS
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.target import Target


def main() -> int:
    """Checks a server or serves clients; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument("--url", help="the WebSocket's address of a server to check")
    side.add_argument("--serve", action="store_true", help="be the server for a client to check")
    server = parser.add_argument_group("to check a server")
    server.add_argument("--token-command", help="prints a token, given a visitor's id and a scope")
    server.add_argument("--question", default="What do you offer?", help="a question that the bot can answer")
    client = parser.add_argument_group("to check a client")
    client.add_argument("--port", type=int, default=0, help="on 127.0.0.1; a free one unless given")
    client.add_argument("--limit", type=float, default=3600, help="seconds after which what was not played has failed")
    client.add_argument("--shown", action="store_true", help="the client also tells what it shows: POST /shown/NAME")
    names = [scenario.name for scenario in SCENARIOS]
    client.add_argument("--only", nargs="+", default=[], choices=names, metavar="NAME", help="these scenarios alone")
    options = parser.parse_args()
    if options.serve:
        try:
            return serve.run(options.only, port=options.port, limit_s=options.limit, wants_shown=options.shown)
        except TimeoutError as error:
            parser.exit(1, f"{error}\n")
    if not options.token_command:
        parser.error("--url needs --token-command")
    return check_server(options.url, shlex.split(options.token_command), options.question)


def check_server(url: str, command: list[str], question: str) -> int:
    """Runs all checks; 0 when none failed."""

    def make_token(subject: str = "visitor-1", scope: str = "chat") -> str:
        return subprocess.run([*command, subject, scope], capture_output=True, text=True, check=True).stdout.strip()

    target, failed = Target(url, make_token, question), 0
    for check in CHECKS:
        began, problem = time.monotonic(), ""
        try:
            check(target)
        except (AssertionError, ValidationError, WebSocketException, OSError, TimeoutError) as error:
            failed, problem = failed + 1, f"  {type(error).__name__}: {str(error).splitlines()[:1]}"
        name = check.__name__.replace("_", " ")
        print(f"{'FAIL' if problem else 'ok':<5}{time.monotonic() - began:6.2f} s  {name}{problem}")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
