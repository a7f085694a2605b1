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
from pathlib import Path

import pytest

PACKAGE = "postgresql-15"
_USER = "postgres"
# Nothing here is to survive the machine; what survives the server's process is the same.
_OPTIONS = "-c fsync=off -c max_connections=200 -c autovacuum=off -c shared_buffers=32MB"


def url(folder: Path, name: str) -> str:
    """The URL of a database of the cluster whose socket is in `folder`."""
    return f"postgresql://{_USER}@/{name}?host={folder}"


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


@contextmanager
def cluster() -> Iterator[Path]:
    """Runs one; gives the folder of its socket. Its superuser is `postgres`."""
    binaries, owner = _binaries(), _owner()
    if binaries is None or owner is None:
        pytest.skip(f"no PostgreSQL on this machine: apt-get install {PACKAGE}")

    def run(name: str, *arguments: str) -> None:
        become = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [binaries / name, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **(become if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, (name, done.stdout, done.stderr)

    with tempfile.TemporaryDirectory(prefix="fleetroot-pg-") as folder:
        if os.geteuid() == 0:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data, log = f"{folder}/data", f"{folder}/log"
        run("initdb", "-D", data, "-U", _USER, "-A", "trust", "-N", "--locale=C.UTF-8")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' {_OPTIONS}"
        run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield Path(folder)
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
