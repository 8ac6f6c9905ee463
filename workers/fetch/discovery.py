"""Where a crawl begins: at a site's start with what its sitemaps list, or with one sitemap's pages alone."""

from collections.abc import Callable
from typing import Final

from chat_api.core.errors import NoText, TrainingError
from workers.fetch.client import SafeClient
from workers.fetch.crawl import UNREAD, Frontier
from workers.fetch.robots import Robots
from workers.fetch.scope import Scope
from workers.fetch.sitemap import read_sitemaps
from workers.fetch.urls import parse_url

USUAL_SITEMAP: Final = "/sitemap.xml"


def site_frontier(
    url: str, scope: Scope, robots: Robots, client: SafeClient, check: Callable[[], None] = lambda: None
) -> tuple[Frontier, tuple[str, ...]]:
    """The crawl of the website at `url`, by its links and its own sitemaps; and what of those could not be read.

    Raises InvalidUrl, BlockedByRobots when `url` itself may not be read, and what `Robots.rules` and `check` raise.
    """
    frontier, warnings = _begun(url, scope, robots, client, check)
    # A sitemap with another website's pages may be that of the one where the start leads.
    if "other_host" in frontier.skipped.values() and (moved := _elsewhere(frontier.start, client)):
        return _begun(moved, scope, robots, client, check)
    return frontier, warnings


def _begun(
    url: str, scope: Scope, robots: Robots, client: SafeClient, check: Callable[[], None]
) -> tuple[Frontier, tuple[str, ...]]:
    robots.check(url)
    frontier = Frontier(url, scope, robots.allows)
    frontier.add_start()
    return frontier, _add_discovered(frontier, robots, client, check)


def _elsewhere(start: str, client: SafeClient) -> str | None:
    """Where `start` leads, if that is another website."""
    try:
        landed = client.get(start).url
    except TrainingError:  # whoever reads it will tell
        return None
    return landed if parse_url(landed).site != parse_url(start).site else None


def _add_discovered(
    frontier: Frontier, robots: Robots, client: SafeClient, check: Callable[[], None]
) -> tuple[str, ...]:
    """Adds what the site's sitemaps list: those that robots.txt names, else `/sitemap.xml`; says what was not readable.

    A site without one is no problem; neither is one that fails, since links lead on.
    """
    start, named = parse_url(frontier.start), robots.rules(frontier.start).sitemaps
    listing = read_sitemaps(client, named or [start.origin + USUAL_SITEMAP], site=start, check=check)
    frontier.add(listing.pages, 1)
    frontier.add(listing.elsewhere, 1)
    return listing.warnings if named or listing.pages else ()


def sitemap_frontier(
    url: str, scope: Scope, robots: Robots, client: SafeClient, check: Callable[[], None] = lambda: None
) -> tuple[Frontier, tuple[str, ...]]:
    """The pages that the sitemap at `url` lists, whose links are not followed; and what of it could not be read.

    Raises what `read_sitemaps` raises, NoText when it lists no page of this site, and what `Robots.rules` raises when
    for that reason none may be read.
    """
    listing = read_sitemaps(client, [url], check=check)
    frontier = Frontier(url, scope, robots.allows)
    frontier.add(listing.pages, 0)
    frontier.add(listing.elsewhere, 0)
    if not listing.pages:
        raise NoText("The sitemap lists no pages.")
    if not frontier.accepted and (unread := [page for page, why in frontier.skipped.items() if why == UNREAD]):
        robots.rules(unread[0])
    return frontier, listing.warnings
