"""What is known of each scenario, and whether it is good enough."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.scenarios import CONNECTION, Scenario

LOOK_CHARS = 60


@dataclass
class Result:
    """What is known of a scenario: `seconds` once it was played, `shown` once the client told what it shows."""

    scenario: Scenario
    problems: list[str] = field(default_factory=list)
    seconds: float | None = None
    shown: bool = False

    def clear(self) -> None:
        """As if it was not played yet."""
        self.problems, self.seconds, self.shown = [], None, False


class Verdicts:
    """The results by name, the connection's first. `say` is told of each verdict, `finished` is set with the last."""

    def __init__(self, scenarios: Sequence[Scenario], *, wants_shown: bool, say: Callable[[str], None]) -> None:
        self.results = {scenario.name: Result(scenario) for scenario in (CONNECTION, *scenarios)}
        self.finished = threading.Event()
        self._wants_shown = wants_shown
        self._say = say

    @property
    def connection(self) -> Result:
        """What is known of the client apart from any question."""
        return self.results[CONNECTION.name]

    def find(self, question: str) -> Result | None:
        """The scenario of this name or number."""
        names = list(self.results)
        name = names[int(question)] if question.isdecimal() and int(question) < len(names) else question
        return self.results.get(name) if name != CONNECTION.name else None

    def of(self, result: Result) -> str:
        """`ok`, `FAIL`, or `waiting`: for the scenario to be played, or for what its client shows."""
        if result.problems:
            return "FAIL"
        due = self._wants_shown and result.scenario.shows and not result.shown
        return "waiting" if result.seconds is None or due else "ok"

    def take_shown(self, result: Result, shows: Mapping[str, Any]) -> list[str]:
        """Judges what the client shows at the end of a scenario; the problems with it."""
        expected = {key: value for key, value in result.scenario.shows.items() if key in shows}
        wrong = [f"it shows {key} {shows[key]!r} for {good!r}" for key, good in expected.items() if shows[key] != good]
        result.shown = True
        result.problems += wrong
        if result.seconds is not None:
            self.tell(result)
        return wrong

    def tell(self, result: Result) -> None:
        """Says the verdict, if there is one by now."""
        verdict, scenario = self.of(result), result.scenario
        if verdict == "waiting" or scenario.name not in self.results:
            return
        self._say(f"{verdict:<5}{result.seconds or 0:6.2f} s  {scenario.name}")
        for problem in result.problems:
            self._say(f"     {problem}; expected of a client: {scenario.owes}")
        if verdict == "ok" and not result.shown and scenario.shows:
            text, citations = scenario.shows["text"][:LOOK_CHARS], scenario.shows["citations"]
            self._say(f"     it should show {text!r}" + (f" and cite {citations}" if citations else ""))
        if all(self.of(each) != "waiting" for each in self.results.values()):
            self.finished.set()
