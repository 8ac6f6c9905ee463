"""How well 71 questions are answered for: on the sample company and four chapters of the Debian Reference, keyless.

`python -m tests.bench.questions` prints a table and writes bench-questions.json. The manual is downloaded with apt-get
into BENCH_CACHE (default: a folder of the temporary one). No model rewrites here: what the best one could gain is shown
by rewritings that people wrote (`oracle` in questions.json).
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx2

from chat_api.core.settings import LOCAL_DIMENSIONS, LOCAL_MODEL
from deploy.local import sample
from deploy.local.sample.manual import write_manual
from tests.conftest import make_settings
from tests.flows.world import World, world
from tests.provider import Provider
from tests.servers import Servers, copied_database, make_chat_template, make_dashboard_template, running
from workers.commands.hits import Passage, Rates, judged

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PACKAGE = "debian-reference-en"
CHAPTERS = ("ch02", "ch05", "ch09", "ch10")
K = 10
Row = dict[str, Any]


def manual_chapters() -> list[Path]:
    """The manual's chapters as HTML files; downloaded once. Raises CalledProcessError."""
    default = Path(tempfile.gettempdir()) / "bench-manual"
    cache = Path(os.environ.get("BENCH_CACHE", default))
    folder = cache / "usr/share/debian-reference"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", PACKAGE], cwd=cache, check=True, capture_output=True)
        [package] = cache.glob(f"{PACKAGE}_*.deb")
        subprocess.run(["dpkg", "-x", package, cache], check=True, capture_output=True)
    return [folder / f"{chapter}.en.html" for chapter in CHAPTERS]


@contextlib.contextmanager
def deployment() -> Iterator[World]:
    """API and worker in this process on servers of their own, with MiniLM and quoted answers."""
    unlimited = {"visitor_messages_per_minute": 1_000_000, "address_messages_per_minute": 1_000_000}
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(running())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-questions-")))
        chat, dashboard = make_chat_template(servers.cluster_dsn), make_dashboard_template(servers.cluster_dsn)
        chat_db = stack.enter_context(copied_database(servers.cluster_dsn, chat))
        dashboard_db = stack.enter_context(copied_database(servers.cluster_dsn, dashboard))
        settings = make_settings(servers, chat_db, dashboard_db, servers.redis_url, "bench")
        stack.enter_context(contextlib.closing(_s3(servers))).create_bucket(Bucket="bench")
        provider = stack.enter_context(Provider())
        keyless = {"embedding_provider": "local", "embedding_model": LOCAL_MODEL, "embedding_dimensions": LOCAL_DIMENSIONS,
                   "llm_provider": "extractive", "log_level": "WARNING", **unlimited}  # fmt: skip
        yield stack.enter_context(world(settings, provider, folder, **keyless))


def _s3(servers: Servers) -> "S3Client":
    return boto3.client(
        "s3", endpoint_url=servers.s3_endpoint, aws_access_key_id=servers.s3_access_key,
        aws_secret_access_key=servers.s3_secret_key, region_name="us-east-1",
    )  # fmt: skip


def learn(shop: World) -> dict[str, str]:
    """Has the bot learn all files; each file's source by its name."""
    with tempfile.TemporaryDirectory(prefix="bench-questions-") as folder:
        manual = Path(folder) / "manual.pdf"
        write_manual(manual)
        pages = sorted((Path(sample.__file__).parent / "site").glob("*.html"))
        files = [*pages, manual, *manual_chapters()]
        sources = {path.name: shop.client.add_file_source(shop.bot_id, path) for path in files}
    jobs = shop.client.queue_many(list(sources.values()))
    while shop.work():
        pass
    ended = [shop.client.job(job["job_id"]) for job in jobs]
    if failed := [job["error"] for job in ended if job["status"] != "succeeded"]:
        raise RuntimeError(f"{len(failed)} files were not learned: {failed[0]}")
    return {name: str(source_id) for name, source_id in sources.items()}


# --- asking -----------------------------------------------------------------------------------------------------------


def ways_of(question: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The searches that each way of asking makes; what they find counts together."""
    asked = {"query": question["question"]}
    if question["kind"] != "follow-up":
        return {question["kind"]: [asked]}
    history = question["history"]
    before = " ".join(f"{turn['question']} {turn['answer']}" for turn in history)
    oracle = {"query": question["oracle"]}
    return {
        "follow-up: as asked": [asked],
        "follow-up: by rule, and as asked (no model)": [asked | {"history": history}],
        "follow-up: with the history before it": [{"query": f"{before} {question['question']}"}],
        "follow-up: oracle": [oracle],
        "follow-up: oracle, and as asked (a perfect model)": [oracle, asked],
    }


def found(client: httpx2.Client, bot_id: str, searches: Sequence[Row]) -> list[Passage]:
    """The passages of all searches, each with its best score, best first. Raises HTTPStatusError."""
    best: dict[str, Row] = {}
    for body in searches:
        answer = client.post("/api/search", json={"bot_id": bot_id, "k": K, **body})
        answer.raise_for_status()
        for row in answer.json()["passages"]:
            known = best.get(row["chunk_id"])
            if known is None or row["score"] > known["score"]:
                best[row["chunk_id"]] = row
    return [Passage.of(row) for row in sorted(best.values(), key=lambda row: -row["score"])]


def measure() -> dict[str, Any]:
    """By way of asking: hit@1, hit@3, hit@5, MRR, refusals; and which questions were not among the first three."""
    questions = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))
    rates: dict[str, Rates] = {}
    missed = []
    with deployment() as shop:
        sources, bot_id = learn(shop), str(shop.bot_id)
        headers = {"Authorization": f"Bearer {shop.client.sign_token('training:read', subject='bench')}"}
        with httpx2.Client(base_url=shop.http.base_url, headers=headers, timeout=60, trust_env=False) as client:
            found(client, bot_id, [{"query": "until the words are loaded"}])
            for question in questions:
                expected = sources[question["expected"]] if question["expected"] else None
                for way, searches in ways_of(question).items():
                    one = judged("", expected, found(client, bot_id, searches), None)
                    rates.setdefault(way, Rates()).add(one)
                    if one.refused == one.answerable or (one.answerable and (one.place or K + 1) > 3):
                        missed.append({"way": way, "question": question["question"], "place": one.place})
    return {"rates": {way: _shares(one) for way, one in rates.items()}, "missed": missed}


def _shares(rates: Rates) -> Row:
    return {
        **{"questions": len(rates.places) + rates.unanswerable, "refused": rates.refused},
        **{"unanswerable": rates.unanswerable, "wrongly_refused": rates.wrongly_refused},
        **{f"hit@{most}": rates.hit(most) for most in (1, 3, 5)},
        "mrr": rates.mrr,
    }


def rows(result: Mapping[str, Any]) -> Iterator[str]:
    """The table."""
    yield f"{'':52}{'questions':>10}{'hit@1':>8}{'hit@3':>8}{'hit@5':>8}{'MRR':>8}{'refused':>9}"
    for way, one in result["rates"].items():
        if one["unanswerable"]:
            yield f"{way:52}{one['questions']:>10}{'':32}{one['refused']:>6}/{one['unanswerable']}"
            continue
        shares = "".join(f"{one[name]:8.3f}" for name in ("hit@1", "hit@3", "hit@5", "mrr"))
        yield f"{way:52}{one['questions']:>10}{shares}{one['wrongly_refused']:>9}"
    for one in result["missed"]:
        yield f"  {one['way']}, place {one['place'] or '-'}: {one['question']}"


def main() -> int:
    """Measures, prints, writes."""
    result = measure()
    print("\n".join(rows(result)))
    Path("bench-questions.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
