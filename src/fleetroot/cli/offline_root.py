"""`fleetroot ca create-offline` and `ca sign-offline`: a root whose key no server ever has.

These commands talk to no server. They are for a machine that is kept apart, and for a ceremony: a
request comes in as a file, a chain goes out as a file. The root is a folder: its certificate, its
key sealed under a passphrase (scrypt), and the salt of that.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fleetroot.cli.output import json_option, print_fields, print_json
from fleetroot.cli.policies import KEY_TYPES
from fleetroot.custody import (
    KeyStore,
    MasterKeyConfig,
    MasterKeyUnusable,
    RecordName,
    SealBroken,
    Sealer,
    WrongMasterKey,
    load_master_key,
)
from fleetroot.pki import (
    IssuerExpired,
    IssuingProfile,
    KeyType,
    PkiUrls,
    RootProfile,
    offline_authority_id,
    parse_subject,
    read_authority_request,
    sha256_fingerprint,
    to_pem,
)

_CERTIFICATE: Final = "root.pem"
_KEY: Final = "root.sealed"
_NAME: Final = RecordName(kind="offline-root-key", namespace="", id="", version=1)
_MAX_REQUEST: Final = 64 * 1024

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_passphrase = click.option(
    "--passphrase-file",
    type=click.File(),
    help="Read the passphrase from there; it is asked for otherwise.",
)


@click.command("create-offline")
@_folder
@click.option("--subject", default="Fleetroot offline root", show_default=True)
@click.option("--key-type", type=click.Choice(KEY_TYPES), default="EC-P384", show_default=True)
@click.option("--days", type=click.IntRange(366, 14_600), default=7300, show_default=True)
@_passphrase
@json_option
def create_offline(
    folder: Path,
    subject: str,
    key_type: str,
    days: int,
    passphrase_file: IO[str] | None,
    as_json: bool,
) -> None:
    """Make a root in a new FOLDER, for a credential of a namespace.

    Take FOLDER/root.pem to the server: `fleetroot credential create --offline-root`.
    """
    try:
        name = parse_subject(subject)
    except ValueError as error:
        raise click.UsageError(f"--subject: {error}") from error
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise click.ClickException(f"{folder} is there already") from None
    keys = _keys(folder, passphrase_file, confirm=True)
    sealed = keys.generate(KeyType(key_type), _NAME).sealed
    profile = RootProfile(name, timedelta(days=days))
    certificate = profile.self_sign(keys.load(_NAME, sealed), datetime.now(UTC))
    _write(folder / _KEY, sealed)
    _write(folder / _CERTIFICATE, to_pem([certificate]).encode())
    _print_root(certificate, as_json)


@click.command("sign-offline")
@_folder
@click.argument("request", type=click.File("rb"))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option(
    "--pki-url",
    required=True,
    help="Where the server publishes revocation lists: `fleetroot status` shows it.",
)
@click.option("--days", type=click.IntRange(366, 7300), default=1825, show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask whether the request is the right one.")
@_passphrase
@json_option
def sign_offline(
    folder: Path,
    request: IO[bytes],
    out: Path,
    pki_url: str,
    days: int,
    yes: bool,
    passphrase_file: IO[str] | None,
    as_json: bool,
) -> None:
    """Sign a policy's request with the root in FOLDER.

    REQUEST is what `fleetroot policy show NAME --csr` printed. Take the chain that is written to
    the server: `fleetroot policy activate NAME FILE`.
    """
    try:
        der = x509.load_pem_x509_csr(request.read(_MAX_REQUEST)).public_bytes(
            serialization.Encoding.DER
        )
        wanted = read_authority_request(der)
    except ValueError as error:
        raise click.ClickException(f"the request cannot be signed: {error}") from error
    try:
        root = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
        sealed = (folder / _KEY).read_bytes()
    except (OSError, ValueError) as error:
        raise click.ClickException(f"no root in {folder}: {error}") from error
    if not yes:
        click.confirm(f"Sign a CA for {wanted.subject.rfc4514_string()}?", abort=True, err=True)
    keys = _keys(folder, passphrase_file, confirm=False)
    try:
        urls = PkiUrls(pki_url, offline_authority_id(root))
        profile = IssuingProfile(wanted.subject, timedelta(days=days), root, urls)
        key = keys.load(_NAME, sealed)
        signed = profile.issue(key, wanted.public_key, datetime.now(UTC))
    except (WrongMasterKey, SealBroken):
        raise click.ClickException("the passphrase is not that of this root") from None
    except (ValueError, IssuerExpired) as error:
        raise click.ClickException(f"cannot sign: {error}") from error
    _write(out, to_pem([signed, root]).encode())
    shown = {
        "subject": signed.subject.rfc4514_string(),
        "sha256": sha256_fingerprint(signed).hex(),
        "notAfter": signed.not_valid_after_utc.isoformat(),
    }
    if as_json:
        print_json(shown)
        return
    print_fields(
        {"Signed": shown["subject"], "SHA-256": shown["sha256"], "Until": shown["notAfter"]}
    )


def _keys(folder: Path, passphrase_file: IO[str] | None, *, confirm: bool) -> KeyStore:
    if passphrase_file is not None:
        passphrase = passphrase_file.read().rstrip("\r\n")
    else:
        passphrase = click.prompt(
            "Passphrase of the root", hide_input=True, confirmation_prompt=confirm, err=True
        )
    try:
        return KeyStore(Sealer(load_master_key(MasterKeyConfig(passphrase=passphrase), folder)))
    except (MasterKeyUnusable, OSError) as error:
        raise click.ClickException(str(error)) from error


def _write(path: Path, content: bytes) -> None:
    """A new file, durable, for its owner only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _print_root(certificate: x509.Certificate, as_json: bool) -> None:
    shown = {
        "subject": certificate.subject.rfc4514_string(),
        "sha256": sha256_fingerprint(certificate).hex(),
        "notAfter": certificate.not_valid_after_utc.isoformat(),
    }
    if as_json:
        print_json(shown)
        return
    print_fields({"Root": shown["subject"], "SHA-256": shown["sha256"], "Until": shown["notAfter"]})
