"""What a changed site costs: the share of its tokens that is embedded again, by the provider's own count."""

import tempfile
from pathlib import Path
from typing import Any

import boto3

from tests.bench.website import Company
from tests.conftest import make_settings
from tests.flows.world import World, world
from tests.provider import Provider
from tests.servers import copied_database, make_chat_template, make_dashboard_template, running

PAGES, EDITED = 300, 0.01
BUCKET = "relearning"


def measure(pages: int = PAGES) -> dict[str, Any]:
    """A site trained, trained again with 1 % of its paragraphs edited, and again with other navigation on every page."""
    with running() as servers, Provider() as provider, tempfile.TemporaryDirectory() as folder:
        s3 = boto3.client(
            "s3",
            endpoint_url=servers.s3_endpoint,
            aws_access_key_id=servers.s3_access_key,
            aws_secret_access_key=servers.s3_secret_key,
            region_name="us-east-1",
        )
        s3.create_bucket(Bucket=BUCKET)
        templates = make_chat_template(servers.cluster_dsn), make_dashboard_template(servers.cluster_dsn)
        with (
            copied_database(servers.cluster_dsn, templates[0]) as chat_dsn,
            copied_database(servers.cluster_dsn, templates[1]) as dashboard_dsn,
        ):
            settings = make_settings(servers, chat_dsn, dashboard_dsn, servers.redis_url, BUCKET)
            with world(settings, provider, Path(folder)) as deployed:
                return _relearn(deployed, Company(pages))


def _relearn(deployed: World, company: Company) -> dict[str, Any]:
    source_id = deployed.client.add_site_source(deployed.bot_id, company.serve(deployed.site), max_pages=company.count)
    paragraphs = company.paragraphs
    whole = _train(deployed, source_id)
    edited, new = company.edit(EDITED)
    company.serve(deployed.site)
    again = _train(deployed, source_id)
    company.navigation = "Start page and all our offers"
    company.serve(deployed.site)
    navigation = _train(deployed, source_id)
    return {
        "pages": company.count,
        "paragraphs": paragraphs,
        "edited": edited,
        "inserted_at_tops": new,
        "tokens": whole,
        "tokens_again": again,
        "share_again": again / whole,
        "tokens_after_navigation": navigation,
    }


def _train(deployed: World, source_id: Any) -> int:
    """Trains the site as a worker does; the tokens that the provider counted for it."""
    before = deployed.provider.counts.tokens["embeddings"]
    job = deployed.train(source_id)
    if job["status"] != "succeeded":
        raise RuntimeError(f"the site was not trained: {job}")
    return deployed.provider.counts.tokens["embeddings"] - before


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    share = f"{100 * result['share_again']:.2f} % of {result['tokens']:,}"
    what = f"{result['edited']} of {result['paragraphs']:,} paragraphs of {result['pages']} pages edited"
    return [
        (f"tokens embedded again, {what} ({result['inserted_at_tops']} inserted at page tops)", share),
        ("  with other navigation on every page", f"{result['tokens_after_navigation']:,} tokens"),
    ]
