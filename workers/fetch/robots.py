"""What websites allow: robots.txt as RFC 9309 has it, read once per origin and run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, Self

from chat_api.core.errors import BlockedByRobots, TooManyRedirects, TrainingError
from workers.fetch.client import Answer, SafeClient, status_error
from workers.fetch.urls import matches, normal_escapes, parse_url

AGENT: Final = "chat_api"
"""The name that robots.txt addresses us by."""

_READ_AT_MOST: Final = 500 * 1024
_LONGEST_DELAY_S: Final = 10.0
_VALUED = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
_PRODUCT = re.compile(r"\*|[A-Za-z_-]+")
_NUMBER = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rules:
    """What one robots.txt says to us."""

    patterns: tuple[tuple[str, bool], ...] = ()
    """Path patterns, each with whether it allows."""
    crawl_delay: float | None = None
    """Seconds between two requests, at most 10."""
    sitemaps: tuple[str, ...] = ()

    def allows(self, target: str) -> bool:
        """Whether path and query `target` may be read: the longest pattern that fits decides, allowing on a tie."""
        fitting = [(len(pattern), allowed) for pattern, allowed in self.patterns if _fits(pattern, target)]
        return max(fitting, default=(0, True))[1]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The rules as `stored` has them; the sitemaps are read but once."""
        return cls(tuple((str(pattern), bool(allowed)) for pattern, allowed in stored["patterns"]), stored["delay"])

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON has them."""
        return {"patterns": self.patterns, "delay": self.crawl_delay}


def asked_of_robots(header: str | None) -> set[str]:
    """What an X-Robots-Tag header asks of all robots, or of ours, in lower case (`noindex`, `nofollow`, `none` …)."""
    asked, ours = set[str](), True
    for part in (header or "").lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in _VALUED:
            ours, part = name.strip() in {AGENT, "*"}, rest  # noqa: PLW2901  # a robot's name stands before its first word
        if ours:
            asked.add(part.strip())
    return asked - {""}


NOTHING: Final = Rules((("/", False),))
"""What holds where robots.txt gives no answer."""


@dataclass(slots=True)
class _Group:
    patterns: list[tuple[str, bool]] = field(default_factory=list)
    crawl_delay: float | None = None

    def add(self, name: str, value: str) -> None:
        if name == "crawl-delay":
            self.crawl_delay = min(float(value), _LONGEST_DELAY_S) if _NUMBER.fullmatch(value) else None
        elif value:
            pattern = normal_escapes(value if value[0] in "/*" else f"/{value}")
            self.patterns.append((pattern, name == "allow"))


def parse_robots(body: bytes, agent: str = AGENT) -> Rules:
    """The rules of `body` for `agent`, or for `*` where it has none. Never fails: lines that mean nothing are skipped."""
    groups: dict[str, _Group] = {}
    current: list[_Group] = []
    naming = False
    records = list(_records(body))
    for name, value in records:
        if name == "user-agent":
            current = current if naming else []
            naming = True
            if product := _PRODUCT.match(value):
                current.append(groups.setdefault(product[0].lower(), _Group()))
        elif name in {"allow", "disallow", "crawl-delay"}:
            naming = False
            for group in current:
                group.add(name, value)
    chosen = groups.get(agent) or groups.get("*", _Group())
    sitemaps = dict.fromkeys(value for name, value in records if name == "sitemap" and value)
    return Rules(tuple(chosen.patterns), chosen.crawl_delay, tuple(sitemaps))


def _records(body: bytes) -> Iterator[tuple[str, str]]:
    text = body[:_READ_AT_MOST].decode("utf-8-sig", "replace")
    for line in re.split(r"[\r\n]+", text):
        name, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def _fits(pattern: str, target: str) -> bool:
    return matches(pattern[:-1] if pattern.endswith("$") else f"{pattern}*", target)


def allowed_by(known: Mapping[str, Rules], url: str) -> bool:
    """Whether `url` may be read by what is known of its origin; not where nothing is."""
    parsed = parse_url(url)
    return known.get(parsed.origin, NOTHING).allows(parsed.target)


class Robots:
    """The rules of the origins that one run meets; threads may share it. `known` ones are not read again."""

    def __init__(self, client: SafeClient, known: Mapping[str, Rules] | None = None) -> None:
        self._client = client
        self._met: dict[str, Rules | TrainingError] = dict(known or {})
        self._lock = Lock()
        for origin, rules in (known or {}).items():
            self._keep_pace(origin, rules)

    @property
    def known(self) -> dict[str, Rules]:
        """The rules by origin, for others of the same run to judge alike."""
        with self._lock:
            return {origin: met if isinstance(met, Rules) else NOTHING for origin, met in self._met.items()}

    def rules(self, url: str) -> Rules:
        """The rules of the origin of `url`.

        Raises BlockedByRobots where its robots.txt answers with a server error, and what `SafeClient.answer` raises
        where there is no answer.
        """
        origin = parse_url(url).origin
        with self._lock:
            if origin not in self._met:
                self._met[origin] = self._read(origin)
                self._keep_pace(origin, self._met[origin])
            met = self._met[origin]
        if isinstance(met, TrainingError):
            raise met.with_traceback(None)
        return met

    def check(self, url: str) -> None:
        """Raises BlockedByRobots where `url` may not be read, and as `rules` does."""
        parsed = parse_url(url)
        if not self.rules(url).allows(parsed.target):
            raise BlockedByRobots(f"The robots.txt of {parsed.host} does not allow {parsed.path} to be read.")

    def allows(self, url: str) -> bool:
        """Whether `url` may be read; not where robots.txt gives no answer."""
        try:
            self.check(url)
        except TrainingError:
            return False
        return True

    def _keep_pace(self, origin: str, rules: Rules | TrainingError) -> None:
        if isinstance(rules, Rules):
            self._client.manners.pace(parse_url(origin).authority, rules.crawl_delay)

    def _read(self, origin: str) -> Rules | TrainingError:
        try:
            return _judge(self._client.answer(f"{origin}/robots.txt", accept="text/plain,*/*;q=0.5"))
        except TooManyRedirects:
            return Rules()
        except TrainingError as error:
            return error


def _judge(answer: Answer) -> Rules | TrainingError:
    """Client errors mean that there are no rules, server errors that nothing may be read (RFC 9309, section 2.3.1)."""
    status = answer.fetched.status
    if 200 <= status < 300:
        return parse_robots(answer.fetched.body)
    error = status_error(answer)
    if status >= 500:
        host = parse_url(answer.fetched.url).host
        return BlockedByRobots(f"The robots.txt of {host} answers with an error ({status}): nothing may be read.")
    return error if error.retryable else Rules()
