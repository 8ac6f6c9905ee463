"""Becomes another program, without its powers: no network, no files but the system's own, no processes, no writing.

Run as `python -m workers.extract.program MEMORY_MB SECONDS PROGRAM ARGUMENTS…`; it may read TESSDATA_PREFIX, too.
"""

import os
import sys
from pathlib import Path

from workers.extract.confine import Limits, confine_program
from workers.extract.landlock import allow_reading

_SYSTEM = ("/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache")


def main(arguments: list[str]) -> None:
    """Never returns. Raises OSError where the program can't be started."""
    memory_mb, seconds, program, *rest = arguments
    was_root = os.geteuid() == 0
    os.chdir("/")
    confine_program(Limits(int(memory_mb) << 20, int(seconds)), os.getppid())
    own = (str(Path(program).resolve().parent), os.environ.get("TESSDATA_PREFIX", ""))
    # As another user it can't read this one's secrets, as the same one it could.
    if not allow_reading(filter(None, (*_SYSTEM, *own))) and not was_root:
        sys.exit("This kernel has no Landlock, and only root can run it as another user.")
    os.execv(program, [program, *rest])  # noqa: S606  # the caller's own words


if __name__ == "__main__":
    main(sys.argv[1:])
