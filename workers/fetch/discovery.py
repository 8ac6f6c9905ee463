"""Where a crawl begins: at a site's start with what its sitemaps list, or with one sitemap's pages alone."""

from collections.abc import Callable
from typing import Final

from chat_api.core.errors import NoText
from workers.fetch.client import SafeClient
from workers.fetch.crawl import Frontier
from workers.fetch.robots import Robots
from workers.fetch.scope import Scope
from workers.fetch.sitemap import read_sitemaps
from workers.fetch.urls import parse_url

USUAL_SITEMAP: Final = "/sitemap.xml"


def site_frontier(url: str, scope: Scope, robots: Robots) -> Frontier:
    """The crawl of the website at `url`, by its links.

    Raises InvalidUrl, BlockedByRobots when `url` itself may not be read, and what `Robots.rules` raises.
    """
    robots.check(url)
    frontier = Frontier(url, scope, robots.allows)
    frontier.add_start()
    return frontier


def add_discovered(
    frontier: Frontier, robots: Robots, client: SafeClient, check: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Adds what the site's own sitemaps list: those that robots.txt names, else `/sitemap.xml`; what was not readable.

    A site without one is no problem; neither is one that fails, since links lead on. Raises what `check` raises.
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

    Raises what `read_sitemaps` raises, and NoText when it lists no page of this site.
    """
    listing = read_sitemaps(client, [url], check=check)
    frontier = Frontier(url, scope, robots.allows)
    frontier.add(listing.pages, 0)
    frontier.add(listing.elsewhere, 0)
    if not listing.pages:
        raise NoText("The sitemap lists no pages.")
    return frontier, listing.warnings
