"""Text files, or PDFs, into PGVector the usual LangChain way, over some processes; runs in an environment that has LangChain."""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier, Lock
from pathlib import Path
from typing import Any

CHUNK_CHARACTERS, OVERLAP_CHARACTERS = 1_000, 200
"""As in LangChain's own tutorial on retrieval."""
FETCHES_AT_ONCE = 8
"""As many as a worker of ours has."""


def bucket_fetcher(s3: dict[str, Any]) -> Callable[[Path], None]:
    """Downloads the object of a file's name into the file."""
    import boto3

    client = boto3.session.Session().client(
        "s3",
        region_name="us-east-1",
        endpoint_url=s3["endpoint_url"],
        aws_access_key_id=s3["access_key_id"],
        aws_secret_access_key=s3["secret_access_key"],
    )

    def fetch(path: Path) -> None:
        path.write_bytes(client.get_object(Bucket=s3["bucket"], Key=path.name)["Body"].read())

    return fetch


def train(order: dict[str, Any], part: int, setup: Lock, start: Barrier, results: Any) -> None:
    """One process's share of the files, from the barrier on; it tells chunks, seconds and CPU seconds."""
    from langchain_community.document_loaders import (  # type: ignore[import-not-found]  # not in our environment
        PyPDFLoader,
        TextLoader,
    )
    from langchain_openai import OpenAIEmbeddings  # type: ignore[import-not-found]
    from langchain_postgres import PGVector  # type: ignore[import-not-found]
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # type: ignore[import-not-found]

    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        dimensions=order["dimensions"],
        api_key="sk-bench",
        base_url=order["base_url"],
        check_embedding_ctx_length=False,  # texts rather than tokens, whose tables would be fetched from the internet
    )
    with setup:  # two at once would both make the tables
        store = PGVector(embeddings=embeddings, collection_name="bench", connection=order["dsn"], use_jsonb=True)
        store.add_texts(["what is loaded at first use does not count"])
    splitter = RecursiveCharacterTextSplitter(chunk_size=CHUNK_CHARACTERS, chunk_overlap=OVERLAP_CHARACTERS)
    files, chunks = sorted(Path(order["folder"]).iterdir())[part :: order["processes"]], 0
    fetch = bucket_fetcher(order["s3"]) if order["s3"] else None
    threads = ThreadPoolExecutor(FETCHES_AT_ONCE)
    if fetch:
        fetch(files[0])  # nor does the first connection
    start.wait(120)
    start.wait(120)
    began, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(files), order["files_at_once"]):
        some = files[first : first + order["files_at_once"]]
        if fetch:
            list(threads.map(fetch, some))
        pieces = splitter.split_documents(
            [
                document
                for path in some
                for document in (
                    PyPDFLoader(str(path)) if path.suffix == ".pdf" else TextLoader(str(path), encoding="utf-8")
                ).load()
            ]
        )
        store.add_documents(pieces)
        chunks += len(pieces)
    results.put((chunks, time.perf_counter() - began, time.process_time() - cpu))


def main() -> None:
    """Says `ready`, waits for a line, and prints the result: the slowest process's seconds, and all chunks and CPU."""
    order, context = json.loads(sys.argv[1]), multiprocessing.get_context("spawn")
    start, results = context.Barrier(order["processes"] + 1), context.Queue()
    setup = context.Lock()
    processes = [
        context.Process(target=train, args=(order, part, setup, start, results)) for part in range(order["processes"])
    ]
    for process in processes:
        process.start()
    start.wait(120)
    print("ready", flush=True)
    sys.stdin.readline()
    start.wait(120)
    told = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join(30)
    chunks, seconds, cpu = zip(*told, strict=True)
    print(json.dumps({"chunks": sum(chunks), "seconds": max(seconds), "cpu_s": sum(cpu)}), flush=True)


if __name__ == "__main__":
    main()
