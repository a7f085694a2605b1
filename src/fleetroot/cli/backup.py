"""`fleetroot backup`, and `fleetroot restore`, which needs no server."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.output import json_option, print_fields, print_json, print_paragraph

if TYPE_CHECKING:
    from fleetroot.upkeep.restore import Marked, Replay

_KEY_BYTES = 32
_EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)
_key_file = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the key of the backup (base64 of 32 bytes); a passphrase is asked for without.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_key_file
@asks_server
def backup(client: Client, file: Path, key_file: Path | None) -> None:
    """Write a sealed backup of the server to FILE, while it goes on serving.

    A key file that is not there is made. Keep it elsewhere, or remember the passphrase: without it
    the backup cannot be opened. A master key that is not in the data folder is not in the backup.
    """
    if file.exists():
        raise click.ClickException(f"{file} exists")
    body = {}
    if key_file is None:
        body["passphrase"] = _passphrase(confirm=True)
    else:
        if not key_file.exists():
            _write(key_file, base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
        body["key"] = base64.b64encode(_read_key(key_file)).decode()
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    size = 0
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            for chunk in client.stream("POST", "/fleetroot/backup", body):
                size += out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        part.rename(file)
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{file}: {size} bytes")


_rotate = click.option(
    "--rotate-issuers",
    is_flag=True,
    help="Revoke every issuing CA: all devices provision again, and nothing that was issued or "
    "stolen before counts.",
)


@click.command()
@click.argument("file", type=_EXISTING)
@_key_file
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    envvar="FLEETROOT_DATA",
    show_default=True,
    help="Data folder to make.",
)
@click.option(
    "--audit-log", type=_EXISTING, help="Exported audit log; its revocations are made again."
)
@_rotate
@json_option
def restore(
    file: Path,
    key_file: Path | None,
    data: Path,
    audit_log: Path | None,
    rotate_issuers: bool,
    as_json: bool,
) -> None:
    """Restore a backup onto an empty machine. The server must not run.

    Certificates that were issued after the backup are not known any more: their devices provision
    again. Revocations made after it are lost, unless the audit log was shipped and is given.
    """
    from fleetroot import logs
    from fleetroot.clock import SystemClock
    from fleetroot.errors import FleetrootError
    from fleetroot.upkeep.archive import ArchiveKey
    from fleetroot.upkeep.restore import restore as restore_into

    logs.configure("error", "text")  # what is said on stdout is the command's
    os.umask(0o077)
    try:
        key = (
            ArchiveKey(passphrase=_passphrase(confirm=False))
            if key_file is None
            else ArchiveKey(key=_read_key(key_file))
        )
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = None if audit_log is None else audit_log.open("rb")
        with file.open("rb") as backup_file:
            done = asyncio.run(
                restore_into(
                    backup_file, key, data, SystemClock(), log, rotate_issuers=rotate_issuers
                )
            )
    except FleetrootError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(f"cannot restore: {error}") from error
    if as_json:
        print_json(
            _json(done.manifest.taken_at, done.marked)
            | {"masterKeyFrom": done.manifest.master_key_from}
        )
        return
    kept = done.manifest.master_key_from
    where = "in the data folder" if kept == "data_folder" else f"not in the backup: {kept}"
    print_fields({"Master key": where})
    _print(done.manifest.taken_at, done.marked)


@click.command("mark-restored")
@click.option(
    "--taken-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]),
    required=True,
    help="When the copy was taken, as 2026-01-31T12:00:00Z; rather too early than too late.",
)
@click.option(
    "--database-url",
    envvar="FLEETROOT_DATABASE_URL",
    required=True,
    help="URL of the PostgreSQL database; better in the environment.",
)
@click.option("--audit-log", type=_EXISTING, help="Exported audit log, as for `restore`.")
@click.option(
    "--audit-key", type=_EXISTING, help="Its public key, as `fleetroot audit key` has it."
)
@_rotate
@json_option
def mark_restored(
    taken_at: datetime,
    database_url: str,
    audit_log: Path | None,
    audit_key: Path | None,
    rotate_issuers: bool,
    as_json: bool,
) -> None:
    """Say that a PostgreSQL database was restored from an older copy. The server must not run.

    `fleetroot restore` does the same for its own backups.
    """
    from fleetroot import logs
    from fleetroot.clock import SystemClock
    from fleetroot.errors import FleetrootError
    from fleetroot.upkeep import restore

    if (audit_log is None) != (audit_key is None):
        raise click.UsageError("--audit-log and --audit-key go together")
    logs.configure("error", "text")  # as for `restore`
    try:
        log = None
        if audit_log is not None and audit_key is not None:
            with audit_log.open("rb") as lines:
                log = restore.read_log(lines, restore.read_audit_key(audit_key.read_bytes()))
        done = asyncio.run(
            restore.mark_postgresql(
                database_url,
                taken_at.astimezone(UTC),
                SystemClock(),
                log,
                rotate_issuers=rotate_issuers,
            )
        )
    except FleetrootError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(f"cannot read: {error}") from error
    if as_json:
        print_json(_json(taken_at, done))
    else:
        _print(taken_at, done)


def _passphrase(*, confirm: bool) -> str:
    given = os.environ.get("FLEETROOT_BACKUP_PASSPHRASE")
    if given is not None:
        return given
    return str(
        click.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=confirm)
    )


def _read_key(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return raw if len(raw) == _KEY_BYTES else base64.b64decode(raw.strip(), validate=True)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise click.ClickException(f"{path} is not a key: 32 bytes, or base64 of them") from error


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error


def _json(taken_at: datetime, done: Marked) -> dict[str, Any]:
    replay = done.replay
    return {
        "takenAt": taken_at.isoformat(),
        "restoredAt": done.restored_at.isoformat(),
        "issuersRotated": done.rotated,
        "replay": None
        if replay is None
        else {
            "revoked": replay.revoked,
            "enabledOrDisabled": replay.enabled,
            "issuersRevoked": replay.issuers,
            "unknown": replay.unknown,
            "withoutCheckpoint": replay.open,
            "lost": dict(replay.lost),
        },
    }


def _print(taken_at: datetime, done: Marked) -> None:
    print_fields({"Backup of": _when(taken_at), "Restored at": _when(done.restored_at)})
    if done.rotated:
        names = ", ".join(done.rotated)
        print_fields({"New issuers": f"with the next start, for policy {names}"})
    if done.replay is None:
        print_paragraph(
            f"LOST: every change since {_when(taken_at)}, REVOCATIONS AMONG THEM. A "
            "device that was revoked since is let in again, until it is revoked once more. With "
            "the exported audit log of the lost server (--audit-log) they are made again."
        )
        return
    _print_replay(done.replay)


def _print_replay(replay: Replay) -> None:
    print_fields(
        {
            "Revoked again": str(replay.revoked),
            "Enabled, disabled": str(replay.enabled),
            "Issuers revoked": f"{replay.issuers}, the next start makes others",
            "Unknown": f"{replay.unknown} devices or CAs, which the backup does not have",
        }
    )
    for action, count in sorted(replay.lost.items()):
        click.echo(f"LOST: {action}, {count} times")
    if replay.open:
        click.echo(f"Left out: {replay.open} entries that no checkpoint vouches for")


def _when(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
