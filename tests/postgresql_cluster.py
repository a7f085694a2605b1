"""A throwaway PostgreSQL: a cluster in a temporary folder, on a Unix socket of its own.

PostgreSQL refuses to run as root, so root runs it as the user `postgres`, whom Debian's package
makes; the folder is therefore not pytest's, which is closed to others.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "postgresql-15"
_USER = "postgres"
# Nothing here is to survive the machine; what survives the server's process is the same.
_OPTIONS = "-c fsync=off -c max_connections=200 -c autovacuum=off -c shared_buffers=32MB"


def _binaries() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def _owner() -> pwd.struct_passwd | None:
    """Who runs it: whoever runs the tests, but not root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(_USER)
    except KeyError:
        return None


@dataclass(frozen=True)
class Cluster:
    """A cluster, and the folder of its data and its socket. Its superuser is `postgres`."""

    folder: Path
    binaries: Path
    owner: pwd.struct_passwd

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://{_USER}@/{name}?host={self.folder}"

    def start(self) -> None:
        """Starts the server; returns when it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' {_OPTIONS}"
        log = f"{self.folder}/log"
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stops it as a loss of power would."""
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def run(self, name: str, *arguments: str) -> None:
        """Runs one of its programs as its owner."""
        owner = self.owner
        become = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [self.binaries / name, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **(become if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, (name, done.stdout, done.stderr)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Runs one."""
    binaries, owner = _binaries(), _owner()
    if binaries is None or owner is None:
        pytest.skip(f"no PostgreSQL on this machine: apt-get install {PACKAGE}")
    with tempfile.TemporaryDirectory(prefix="fleetroot-pg-") as folder:
        if os.geteuid() == 0:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        made = Cluster(Path(folder), binaries, owner)
        data = f"{folder}/data"
        made.run("initdb", "-D", data, "-U", _USER, "-A", "trust", "-N", "--locale=C.UTF-8")
        made.start()
        try:
            yield made
        finally:
            made.stop()
