"""What trainings have used, on their bots' account: written in the transaction that writes what it was spent for."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, text

from workers.receipt import Receipt
from workers.store.rows import Build

WEB = frozenset({"url", "site", "sitemap"})
ADD_USAGE = text("""
    INSERT INTO usage_days AS day (org_id, bot_id, day, purpose, model, calls, prompt_tokens, cost_microusd)
    SELECT org_id, bot_id, CAST(now() AT TIME ZONE 'UTC' AS date), purpose, model, sum(calls), sum(tokens), sum(cost)
    FROM jsonb_to_recordset(CAST(:used AS jsonb))
         AS used (org_id uuid, bot_id uuid, purpose text, model text, calls bigint, tokens bigint, cost bigint)
    WHERE calls > 0 OR tokens > 0
    GROUP BY org_id, bot_id, purpose, model ORDER BY org_id, bot_id, purpose, model
    ON CONFLICT (org_id, bot_id, day, purpose, model) DO UPDATE
    SET calls = day.calls + excluded.calls, prompt_tokens = day.prompt_tokens + excluded.prompt_tokens,
        cost_microusd = day.cost_microusd + excluded.cost_microusd
""")


def add_usage(connection: Connection, used: Sequence[tuple[Build, Receipt]]) -> None:
    """Adds what the receipts say was embedded and fetched to the bots' day, whatever becomes of their runs."""
    amounts = [
        {"org_id": str(build.task.org_id), "bot_id": str(build.task.bot_id), "purpose": purpose, **amount}
        for build, receipt in used
        for purpose, amount in (
            ("embed", {"model": build.space.model, "calls": receipt.chunks["embedded"], "tokens": receipt.tokens,
                       "cost": receipt.cost_microusd or 0}),
            ("fetch", {"model": "", "calls": receipt.pages["fetched"] if build.task.source_type in WEB else 0,
                       "tokens": 0, "cost": 0}),
        )
    ]  # fmt: skip
    connection.execute(ADD_USAGE, {"used": json.dumps(amounts)})
