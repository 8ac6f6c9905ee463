"""The daemon that starts the stack's children in order, starts again what dies, and ends them on SIGTERM."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.local import processes
from deploy.local.plan import Child, Plan
from deploy.local.probes import unready
from deploy.local.state import State

TICK_SECONDS = 0.05
# A child that dies again and again waits longer each time, but never more than this: all are back within 3 s.
SLOWEST_RESTART_SECONDS = 2.0
QUICK_DEATH_SECONDS = 5.0


class StartFailed(Exception):
    """Why the stack did not come up, in one line."""


@dataclass
class Slot:
    """One child's place: its process, if it runs, and what is known of its last start."""

    child: Child
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    deaths: int = 0
    log_offset: int = 0
    ready: bool = False

    def launch(self) -> None:
        """Start the child. Raises OSError."""
        child = self.child
        if child.pidfile:
            processes.clear_stale_pidfile(Path(child.pidfile))
        self.started = time.monotonic()
        self.log_offset = self.log.stat().st_size if self.log.exists() else 0
        self.process = processes.start(
            child.command,
            env=child.env,
            cwd=Path(child.cwd),
            log=self.log,
            account=child.account,
            death_signal=child.stop_signal,
        )

    def bury(self) -> None:
        """Take note of a death, and set the time of the next start."""
        quick = time.monotonic() - self.started < QUICK_DEATH_SECONDS
        self.deaths = self.deaths + 1 if quick else 1
        self.start_at = time.monotonic() + min(SLOWEST_RESTART_SECONDS, 0.1 * 2 ** min(self.deaths - 1, 10))
        self.process = None

    def last_words(self) -> str:
        """The last lines that the child wrote since its last start, in one line."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(self.log_offset, file.seek(0, os.SEEK_END) - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
            return " | ".join(lines[-3:])[-500:] or "it wrote nothing"
        return "its log could not be read"


class Supervisor:
    """Keeps a plan's children running and tells `report` their state and pids at every change."""

    def __init__(self, plan: Plan, logs: Path, report: Callable[[str, Mapping[str, int]], None]) -> None:
        self.plan = plan
        self.tiers = [[Slot(child, logs / f"{child.name}.log") for child in tier] for tier in plan.tiers]
        self.state = "starting"
        self.stopping = False
        self._report = report
        self._reported: tuple[str, dict[str, int]] | None = None

    def run(self) -> None:
        """Start, keep and, once `stopping` is set, end all children. Raises StartFailed; then none is left either."""
        try:
            self._start()
            while not self.stopping:
                self._tick(self._slots())
        finally:
            self._stop()

    def _slots(self) -> list[Slot]:
        return [slot for tier in self.tiers for slot in tier]

    def _start(self) -> None:
        deadline = time.monotonic() + self.plan.start_seconds
        begun: list[Slot] = []
        for tier in self.tiers:
            begun += tier
            while not self.stopping and (waiting := list(self._waiting(tier))):
                if time.monotonic() > deadline:
                    reasons = "; ".join(f"{slot.child.name}: {why} ({slot.last_words()})" for slot, why in waiting)
                    raise StartFailed(f"not started within {self.plan.start_seconds:g} s: {reasons}")
                self._tick(begun)
        self.state = "running"

    def _waiting(self, tier: list[Slot]) -> Iterator[tuple[Slot, str]]:
        for slot in tier:
            if slot.ready:
                continue
            problem = "it does not run"
            if slot.process is not None:
                problem = "it still runs" if slot.child.once else unready(slot.child.ready, slot.process.pid) or ""
            slot.ready = not problem
            if problem:
                yield slot, problem

    def _tick(self, slots: list[Slot]) -> None:
        for slot in slots:
            self._check(slot)
        self._tell(slots)
        time.sleep(TICK_SECONDS)

    def _check(self, slot: Slot) -> None:
        code = slot.process.poll() if slot.process else None
        if slot.process and code is None:
            return
        if slot.process:
            self._ended(slot, str(code))
        if not (slot.child.once and slot.ready) and time.monotonic() >= slot.start_at:
            try:
                slot.launch()
            except OSError as error:
                self._ended(slot, f"{error.strerror}: {error.filename}")

    def _ended(self, slot: Slot, how: str) -> None:
        if slot.child.once and how == "0":
            slot.ready, slot.process = True, None
            return
        slot.bury()
        if self.state == "starting" and slot.deaths >= slot.child.attempts:
            raise StartFailed(f"{slot.child.name} ended ({how}): {slot.last_words()}")
        say(f"{slot.child.name} ended ({how}), it is started again")

    def _tell(self, slots: list[Slot]) -> None:
        pids = {slot.child.name: slot.process.pid for slot in slots if slot.process and not slot.child.once}
        if self._reported == (self.state, pids):
            return
        try:
            self._report(self.state, pids)
        except OSError as error:
            # A full disk must not end what runs; the next tick tries again.
            say(f"stack.json could not be written: {error.strerror}")
        else:
            self._reported = (self.state, pids)

    def _stop(self) -> None:
        for tier in reversed(self.tiers):
            living = [slot for slot in tier if slot.process]
            for slot in living:
                _send(slot, slot.child.stop_signal)
            asked = time.monotonic()
            for slot in living:
                _wait(slot, asked + slot.child.stop_seconds)


def _send(slot: Slot, number: int) -> None:
    if slot.process:
        slot.process.send_signal(number)


def _wait(slot: Slot, deadline: float) -> None:
    if slot.process is None:
        return
    try:
        slot.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        say(f"{slot.child.name} did not end within {slot.child.stop_seconds:g} s and is killed")
        slot.process.kill()
        slot.process.wait()


def say(line: str) -> None:
    """A line in the supervisor's own log."""
    with contextlib.suppress(OSError):
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}", flush=True)


def main() -> int:
    """Run the plan that stands on stdin for the folder that is the first argument."""
    state = State(Path(sys.argv[1]))
    plan = Plan.from_json(sys.stdin.read())

    def report(phase: str, pids: Mapping[str, int]) -> None:
        state.write_stack({**plan.info, "pids": dict(pids), "state": phase})

    supervisor = Supervisor(plan, state.logs, report)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(supervisor, "stopping", True))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    say("starting")
    try:
        supervisor.run()
    except StartFailed as error:
        say(str(error))
        state.write_stack({**plan.info, "pids": {}, "state": "failed", "reason": str(error)})
        return 1
    finally:
        processes.end(processes.find(state.root, state.server_folders), patience=2)
    say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
