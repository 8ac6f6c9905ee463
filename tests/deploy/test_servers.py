"""The real servers of the stack: what they keep through a kill, and whom they let in."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
import redis

from deploy.local import databases, processes, stack
from deploy.local.children import embedded
from deploy.local.plan import Plan
from deploy.local.probes import unready
from deploy.local.servers import reachable
from deploy.local.state import State
from tests.deploy import placeholders
from tests.deploy.placeholders import eventually, kill

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def plan(state: State) -> Plan:
    """The stack's own servers and migrations, a placeholder as the API, no workers, no dashboard."""
    whole = embedded(state, os.environ)
    port = int(whole.info["api_url"].rpartition(":")[2])
    return Plan(tiers=(*whole.tiers[:2], (placeholders.api(state, port),)), info=whole.info, start_seconds=60)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A running stack with the real servers."""
    root = tmp_path_factory.mktemp("servers")
    stack.up(root, plan)
    yield State(root)
    home = Path(State(root).choices()["postgres_home"])
    stack.remove(root)
    assert not home.exists()
    assert not root.exists()


def client(info: dict[str, Any]) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=info["s3"]["endpoint_url"],
        aws_access_key_id=info["s3"]["access_key_id"],
        aws_secret_access_key=info["s3"]["secret_access_key"],
        region_name="us-east-1",
    )


def test_both_databases_have_their_schema(state: State) -> None:
    info = state.stack()
    with psycopg.connect(info["dashboard_db_dsn"]) as connection:
        assert connection.execute("SELECT count(*) FROM training_sources").fetchone() == (0,)
    with psycopg.connect(info["chat_db_dsn"]) as connection:
        assert connection.execute("SELECT count(*) FROM training_jobs").fetchone() == (0,)
        assert connection.execute("SELECT '[1,2]'::halfvec <#> '[1,2]'").fetchone() == (-5.0,)
        assert connection.execute("SELECT current_setting('fsync'), lower('ÄÖ')").fetchone() == ("on", "äö")


def test_nobody_comes_in_without_the_password(state: State) -> None:
    info = state.stack()
    password = state.secrets()["postgres"]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(info["chat_db_dsn"].replace(password, "guess"))
    with (
        redis.Redis.from_url(info["redis_url"].replace(state.secrets()["redis"], "guess")) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_status_finds_every_server(state: State) -> None:
    eventually(lambda: stack.status(state.root)[0])
    assert {process.pid for process in placeholders.living(state.root)} >= set(state.stack()["pids"].values())


def test_everything_is_kept_when_all_is_killed(state: State) -> None:
    before = state.stack()
    with psycopg.connect(before["chat_db_dsn"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(before["redis_url"]) as broker:
        broker.set("bell", "rung")
        eventually(lambda: broker.info("persistence")["aof_pending_bio_fsync"] == 0)
    with closing(client(before)) as s3:
        s3.put_object(Bucket="training", Key="a/ü.pdf", Body=b"%PDF", ContentType="application/pdf")
        etag = s3.head_object(Bucket="training", Key="a/ü.pdf")["ETag"]
    kill(*placeholders.living(state.root))
    after = stack.up(state.root, plan)
    assert {**after, "pids": {}} == {**before, "pids": {}}
    with psycopg.connect(after["chat_db_dsn"]) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    with redis.Redis.from_url(after["redis_url"]) as broker:
        assert broker.get("bell") == b"rung"
    with closing(client(after)) as s3:
        found = s3.get_object(Bucket="training", Key="a/ü.pdf")
        assert (found["Body"].read(), found["ContentType"], found["ETag"]) == (b"%PDF", "application/pdf", etag)


def test_a_killed_postgres_is_back_with_its_data(state: State) -> None:
    info = state.stack()
    pid = info["pids"]["postgres"]
    with psycopg.connect(info["dashboard_db_dsn"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS answer")
    kill(*[process for process in placeholders.living(state.root) if process.pid == pid])
    eventually(lambda: state.stack()["pids"].get("postgres") not in {pid, None})
    databases.wait_for(info["dashboard_db_dsn"])
    with psycopg.connect(info["dashboard_db_dsn"]) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (7,)


def test_the_bucket_follows_every_change(state: State) -> None:
    info = state.stack()
    with closing(client(info)) as s3:
        s3.put_object(Bucket="training", Key="changed", Body=b"old")
        s3.put_object(Bucket="training", Key="changed", Body=b"new", Metadata={"name": "x"})
        for key in ("gone", "gone-too", "gone/also"):
            s3.put_object(Bucket="training", Key=key, Body=b"x")
        s3.copy_object(Bucket="training", Key="copy", CopySource="training/changed")
        s3.delete_object(Bucket="training", Key="gone")
        s3.delete_objects(Bucket="training", Delete={"Objects": [{"Key": "gone-too"}, {"Key": "gone/also"}]})
        upload = s3.create_multipart_upload(Bucket="training", Key="parts", ContentType="text/plain")["UploadId"]
        part = s3.upload_part(Bucket="training", Key="parts", UploadId=upload, PartNumber=1, Body=b"z" * 6_000_000)
        s3.complete_multipart_upload(
            Bucket="training",
            Key="parts",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
        before = {entry["Key"]: (entry["ETag"], entry["Size"]) for entry in contents(s3)}
        assert {"changed", "copy", "parts"} <= before.keys()
        assert not [key for key in before if key.startswith("gone")]
        pid = info["pids"]["s3"]
        kill(*[process for process in placeholders.living(state.root) if process.pid == pid])
        eventually(lambda: state.stack()["pids"].get("s3") not in {pid, None})
        eventually(lambda: not unready(f"tcp:{info['s3']['endpoint_url'].rpartition(':')[2]}", 0))
        assert {entry["Key"]: (entry["ETag"], entry["Size"]) for entry in contents(s3)} == before
        found = s3.get_object(Bucket="training", Key="changed")
        assert (found["Body"].read(), found["Metadata"]) == (b"new", {"name": "x"})


def contents(s3: "S3Client") -> list[Any]:
    return list(s3.list_objects_v2(Bucket="training")["Contents"])


def test_a_pid_file_whose_server_is_gone_is_removed(tmp_path: Path) -> None:
    pidfile = tmp_path / "postmaster.pid"
    pidfile.write_text(f"{os.getpid()}\n/data\n")
    processes.clear_stale_pidfile(pidfile)
    assert not pidfile.exists()
    processes.clear_stale_pidfile(pidfile)


def test_a_pid_file_of_a_running_server_stays(state: State) -> None:
    pidfile = Path(state.choices()["postgres_home"]) / "data" / "postmaster.pid"
    processes.clear_stale_pidfile(pidfile)
    assert pidfile.exists()


def test_a_folder_behind_a_closed_one_is_out_of_reach(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    stranger = (os.getuid() + 1, os.getgid() + 1)
    assert reachable(Path("/usr/bin/env"), stranger)
    assert not reachable(closed / "data", stranger)
    assert reachable(tmp_path, (os.getuid(), os.getgid()))
