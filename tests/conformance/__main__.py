"""`python -m tests.conformance --url ws://… --token-command CMD`: the kit against any server of chat.v1.

CMD is run with a visitor's id and a scope as its arguments, and prints a token of the bot under check.
"""

import argparse
import shlex
import subprocess
import sys
import time

from jsonschema import ValidationError
from websockets.exceptions import WebSocketException

from tests.conformance.checks import CHECKS
from tests.conformance.target import Target


def main() -> int:
    """Runs all checks; 0 when none failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--url", required=True, help="the WebSocket's address")
    parser.add_argument("--token-command", required=True, help="prints a token, given a visitor's id and a scope")
    parser.add_argument("--question", default="What do you offer?", help="a question that the bot can answer")
    options = parser.parse_args()
    command = shlex.split(options.token_command)

    def make_token(subject: str = "visitor-1", scope: str = "chat") -> str:
        return subprocess.run([*command, subject, scope], capture_output=True, text=True, check=True).stdout.strip()

    target, failed = Target(options.url, make_token, options.question), 0
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
