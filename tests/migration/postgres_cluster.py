"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, ended with whoever started it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

OWNERS = ("postgres", "nobody")
PATIENCE_S = 60.0
ROOM_BYTES = 1 << 30


def find_programs() -> Path:
    """Return the folder of the server's programs, newest first; a machine without was not set up."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]), reverse=True)
    assert found, "no PostgreSQL: run scripts/setup"
    return found[0].parent


@dataclass
class Cluster:
    """A server that can be started, stopped and killed. `user` is its superuser."""

    folder: Path
    programs: Path
    owner: str | None
    user: str = "postgres"
    made: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def command(self, *words: str) -> list[str]:
        """Return a command as the server's own user, who may not be root."""
        drop = ["--reuid", self.owner, "--regid", self.owner, "--clear-groups"] if self.owner else []
        return ["setpriv", "--pdeathsig", "QUIT", *drop, *words]

    def make(self) -> None:
        """Make its data folder."""
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={self.user}", "--no-instructions"]
        command = self.command(str(self.programs / "initdb"), "-D", str(self.folder / "data"), *options)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "max_connections": "40"}
        words = [w for name, value in settings.items() for w in ("-c", f"{name}={value}")]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            self.command(str(self.programs / "postgres"), "-D", str(self.folder / "data"), *words),
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        log.close()
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.conninfo()).close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.05)
            else:
                return

    def stop(self, *, at_once: bool = False) -> None:
        """Stop it: politely, or as a power loss would."""
        assert self.process is not None
        self.process.send_signal(3 if at_once else 2)  # SIGQUIT: immediate shutdown; SIGINT: fast
        self.process.wait(timeout=PATIENCE_S)
        self.process = None

    def conninfo(self, schema: str = "public") -> str:
        """Return what psycopg connects by; a ledger of the tests has a schema of its own in one database."""
        return f"host={self.folder} dbname=postgres user={self.user} options='-c search_path={schema}'"

    def url(self, schema: str, user: str = "") -> str:
        """Return the URL of a ledger's place."""
        return f"postgresql://{user or self.user}@/postgres?host={self.folder}&options=-csearch_path%3D{schema}"

    def new_schema(self) -> str:
        """Make an empty place for a ledger and return its name."""
        self.made += 1
        name = f"ledger{self.made}"
        self.execute("public", f"CREATE SCHEMA {name}")
        return name

    def execute(self, schema: str, *statements: str) -> None:
        """Run statements as the superuser, each by itself."""
        with psycopg.connect(self.conninfo(schema), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def find_owner() -> str | None:
    """Return who the server runs as: ourselves, or somebody who is not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in OWNERS if name in names)


def find_room() -> Path | None:
    """Return a place in memory with room for a server, else None: on a disk each of its many syncs is waited for."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES else None


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Run a server until the end of the block; its folder goes with it."""
    room = find_room()
    for left in (room or Path(tempfile.gettempdir())).glob("xpg-[0-9]*-*"):
        if not Path(f"/proc/{left.name.split('-')[1]}").exists():  # whoever made it was killed; its server went with it
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"xpg-{os.getpid()}-", dir=room))
    owner = find_owner()
    if owner is not None:
        entry = pwd.getpwnam(owner)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    cluster = Cluster(folder, find_programs(), owner)
    try:
        cluster.make()
        cluster.start()
        yield cluster
    finally:
        if cluster.process is not None:
            cluster.stop(at_once=True)
        shutil.rmtree(folder)
