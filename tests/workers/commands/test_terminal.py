"""What an operator is shown where there is no terminal."""

import os

from workers.commands.terminal import Bar


def test_a_line_is_read_at_once_where_there_is_no_terminal() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    with os.fdopen(read, "rb", buffering=0) as told, os.fdopen(write, "w", encoding="utf-8") as stream:
        Bar("trained", 2, stream).say("waited for: 2 waiting")
        assert told.read() == b"waited for: 2 waiting\n"
