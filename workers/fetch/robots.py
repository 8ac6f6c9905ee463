"""What websites allow: robots.txt as RFC 9309 has it, read once per origin and run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, Self

from chat_api.core.errors import BlockedByRobots, FetchFailed, TooManyRedirects, TrainingError
from workers.fetch.client import Answer, SafeClient, status_error
from workers.fetch.urls import matches, normal_escapes, parse_url

AGENT: Final = "chat_api"
"""The name that robots.txt addresses us by."""
NOINDEX, NOFOLLOW = frozenset({"noindex", "none"}), frozenset({"nofollow", "none"})
"""The words that ask robots to leave a page out, and its links."""

_READ_AT_MOST: Final = 500 * 1024
_LONGEST_DELAY_S: Final = 10.0
_VALUED = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
_PRODUCT = re.compile(r"\*|[A-Za-z_-]+")
_NAME = re.compile(r"\*|[^\s:]*[a-z_][^\s:]*")  # a date that a comma has cut has blanks, or figures alone
_NUMBER = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rules:
    """What one robots.txt says to us."""

    patterns: tuple[tuple[str, bool], ...] = ()
    """Path patterns, each with whether it allows."""
    crawl_delay: float | None = None
    """Seconds between two requests, at most 10."""
    sitemaps: tuple[str, ...] = ()
    answered: bool = True
    """Whether there was an answer. Where there was none nothing may be read, but nobody has forbidden it."""

    def allows(self, target: str) -> bool:
        """Whether path and query `target` may be read: the longest pattern that fits decides, allowing on a tie."""
        fitting = [(len(pattern), allowed) for pattern, allowed in self.patterns if _fits(pattern, target)]
        return max(fitting, default=(0, True))[1]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The rules as `stored` has them; the sitemaps are read but once."""
        patterns = tuple((str(pattern), bool(allowed)) for pattern, allowed in stored["patterns"])
        return cls(patterns, stored["delay"], answered=stored.get("answered", True))

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON has them."""
        return {"patterns": self.patterns, "delay": self.crawl_delay, "answered": self.answered}


def asked_of_robots(header: str | None) -> set[str]:
    """What X-Robots-Tag headers, one a line, ask of all robots, or of ours, in lower case (`noindex`, `nofollow` …)."""
    return {word for line in (header or "").lower().splitlines() for word in _asked(line)} - {""}


def _asked(line: str) -> Iterator[str]:
    ours = True
    for part in line.split(","):
        name, colon, rest = part.partition(":")
        named = colon and name.strip() not in _VALUED and _NAME.fullmatch(name.strip())
        if named:  # a robot's name stands before its first word
            ours = name.strip() in {AGENT, "*"}
        if ours:
            yield (rest if named else part).strip()


UNANSWERED: Final = Rules((("/", False),), answered=False)
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


def parse_robots(body: bytes) -> Rules:
    """The rules of `body` for AGENT, or for `*` where it has none. Never fails: lines that mean nothing are skipped."""
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
    chosen = groups.get(AGENT) or groups.get("*", _Group())
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


def allowed_by(known: Mapping[str, Rules], url: str) -> bool | None:
    """Whether `url` may be read by what is known of its origin; None, which is no, where robots.txt gave no answer."""
    parsed = parse_url(url)
    rules = known.get(parsed.origin, UNANSWERED)
    return rules.allows(parsed.target) if rules.answered else None


def unanswered(known: Mapping[str, Rules]) -> list[str]:
    """The origins whose robots.txt gave no answer."""
    return [origin for origin, rules in known.items() if not rules.answered]


def heard(known: Mapping[str, Rules], urls: Iterable[str]) -> list[str]:
    """Those of `urls`, as the ledger names them, that are not `unanswered`: the others leave their twins to be read."""
    silent = tuple(f"{origin}/" for origin in unanswered(known))
    return [url for url in urls if not url.startswith(silent)]


class Robots:
    """The rules of the origins that one run meets; threads may share it. `known` ones are not read again."""

    def __init__(self, client: SafeClient, known: Mapping[str, Rules] | None = None) -> None:
        self._client = client
        self._met: dict[str, Rules | TrainingError] = dict(known or {})
        self._lock = Lock()
        for origin in known or {}:
            self._keep_pace(origin)

    @property
    def known(self) -> dict[str, Rules]:
        """The rules by origin, for others of the same run to judge alike."""
        with self._lock:
            return {origin: met if isinstance(met, Rules) else UNANSWERED for origin, met in self._met.items()}

    def rules(self, url: str) -> Rules:
        """The rules of the origin of `url`.

        Raises FetchFailed where its robots.txt answers with a server error or that it is asked too much, and what
        `SafeClient.answer` raises where there is no answer. Until it answers nothing may be read.
        """
        origin = parse_url(url).origin
        with self._lock:
            if origin not in self._met:
                self._met[origin] = self._read(origin)
                self._keep_pace(origin)
            met = self._met[origin]
        if isinstance(met, TrainingError):
            raise met.with_traceback(None)
        return met

    def check(self, url: str) -> None:
        """Raises BlockedByRobots where `url` may not be read, and as `rules` does."""
        parsed = parse_url(url)
        if not self.rules(url).allows(parsed.target):
            raise BlockedByRobots(f"The robots.txt of {parsed.host} does not allow {parsed.path} to be read.")

    def allows(self, url: str) -> bool | None:
        """Whether `url` may be read; None, which is no, where robots.txt gives no answer."""
        try:
            rules = self.rules(url)
        except TrainingError:
            return None
        return allowed_by({parse_url(url).origin: rules}, url)

    def _keep_pace(self, origin: str) -> None:
        """Keeps the longest delay that a server asks for: http and https are two origins of it, and one may be silent."""
        authority = parse_url(origin).authority
        answers = [met for known, met in self._met.items() if parse_url(known).authority == authority]
        delays = [rules.crawl_delay or 0.0 for rules in answers if isinstance(rules, Rules) and rules.answered]
        if delays:
            self._client.manners.pace(authority, max(delays))

    def _read(self, origin: str) -> Rules | TrainingError:
        try:
            return _judge(self._client.answer(f"{origin}/robots.txt", accept="text/plain,*/*;q=0.5"))
        except TooManyRedirects:
            return Rules()
        except TrainingError as error:
            return error


def _judge(answer: Answer) -> Rules | TrainingError:
    """Client errors mean that there are no rules, server errors that nothing may be read (RFC 9309, section 2.3.1)."""
    status, host = answer.fetched.status, parse_url(answer.fetched.url).host
    if 200 <= status < 300:
        return parse_robots(answer.fetched.body)
    if not status_error(answer).retryable:
        return Rules()
    return FetchFailed(
        f"The robots.txt of {host} answers with an error ({status}): nothing may be read. It is tried again by itself.",
        retry_after=answer.retry_after,
    )
