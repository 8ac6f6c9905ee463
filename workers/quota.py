"""How many web pages an org may still read this month: of single pages and of websites alike."""

from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine, text

from chat_api.core.errors import QuotaExceeded
from chat_api.core.models.dashboard import limit_in
from workers.fetch.scope import Scope

FETCHED_THIS_MONTH = text("""
    SELECT coalesce(sum(calls), 0) FROM usage_days
    WHERE org_id = :org_id AND purpose = 'fetch' AND day >= date_trunc('month', now() AT TIME ZONE 'UTC')
""")


class PagesLeft(NamedTuple):
    """What is left of an org's pages of this month: none, or fewer, once they are used up."""

    left: int
    most: int

    @property
    def used_up(self) -> QuotaExceeded:
        """What to say where none is left."""
        return QuotaExceeded(
            f"The organisation's {self.most:,} pages of this month are used up. Raise the limit, or train it again next month."
        )


def pages_left(chat: Engine, org_id: UUID, limits: object) -> PagesLeft | None:
    """What is left now, by what has been written; None where the org's limits name no `monthly_pages`."""
    limit = limit_in(limits, "monthly_pages")
    if limit is None:
        return None
    with chat.begin() as connection:
        used = int(connection.execute(FETCHED_THIS_MONTH, {"org_id": org_id}).scalar_one())
    return PagesLeft(int(limit) - used, int(limit))


def scope_left(chat: Engine, org_id: UUID, limits: object, scope: Scope) -> tuple[Scope, list[str]]:
    """A website's scope as far as what is left reaches, and what to say where that cuts it short.

    Raises QuotaExceeded where none is left.
    """
    pages = pages_left(chat, org_id, limits)
    if pages is None or pages.left >= scope.max_pages:
        return scope, []
    if pages.left <= 0:
        raise pages.used_up
    words = f"Only {pages.left:,} pages are left of the organisation's {pages.most:,} this month."
    return replace(scope, max_pages=pages.left), [words]
