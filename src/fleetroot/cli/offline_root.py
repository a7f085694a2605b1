"""`fleetroot ca create-offline` and `sign-offline…`: a root whose key no server ever has.

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
import orjson
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
    CrlScope,
    Issuer,
    IssuerExpired,
    IssuingProfile,
    KeyType,
    LintFailed,
    PkiUrls,
    Revoked,
    RootProfile,
    offline_authority_id,
    parse_subject,
    read_authority_request,
    sha256_fingerprint,
    sign_crl,
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
    root, sealed = _open(folder)
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


@click.command("sign-offline-crl")
@_folder
@click.argument("request", type=click.File("rb"))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--days", type=click.IntRange(1, 400), default=180, show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask whether the list is the right one.")
@_passphrase
@json_option
def sign_offline_crl(
    folder: Path,
    request: IO[bytes],
    out: Path,
    days: int,
    yes: bool,
    passphrase_file: IO[str] | None,
    as_json: bool,
) -> None:
    """Sign a revocation list with the root in FOLDER.

    REQUEST is what `fleetroot ca request-crl` printed. Take the list to the server before DAYS are
    over: `fleetroot ca publish-crl`.
    """
    root, sealed = _open(folder)
    number, revoked = _read_list_request(request.read(_MAX_REQUEST + 1), root)
    for one in revoked:
        click.echo(f"revoked {one.at.isoformat()}: {one.serial:x}", err=True)
    if not yes:
        click.confirm(f"Sign a list of {len(revoked)} revoked CAs?", abort=True, err=True)
    keys = _keys(folder, passphrase_file, confirm=False)
    now, lifetime = datetime.now(UTC), timedelta(days=days)
    try:
        signed = sign_crl(
            Issuer(root),
            keys.load(_NAME, sealed),
            revoked=revoked,
            scope=CrlScope(None, of_authorities=True),
            number=number,
            now=now,
            lifetime=lifetime,
        )
    except (WrongMasterKey, SealBroken):
        raise click.ClickException("the passphrase is not that of this root") from None
    except (ValueError, IssuerExpired, LintFailed) as error:
        raise click.ClickException(f"cannot sign: {error}") from error
    _write(out, signed)
    until = x509.load_der_x509_crl(signed).next_update_utc
    shown = {
        "number": str(number),
        "revoked": len(revoked),
        "nextUpdate": until.isoformat() if until else None,
    }
    if as_json:
        print_json(shown)
        return
    print_fields(
        {
            "Number": str(number),
            "Revoked": str(len(revoked)),
            "Until": str(shown["nextUpdate"]),
        }
    )


def _read_list_request(text: bytes, root: x509.Certificate) -> tuple[int, list[Revoked]]:
    """The number and the entries of a list that is asked of this root."""
    if len(text) > _MAX_REQUEST:
        raise click.ClickException("the request is too long")
    try:
        asked = orjson.loads(text)
        authority, number = str(asked["authority"]), int(asked["number"])
        revoked = [
            Revoked(int(one["serial"], 16), datetime.fromisoformat(one["at"]))
            for one in asked["revoked"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException("the request cannot be read") from error
    if authority != offline_authority_id(root):
        raise click.ClickException("the request is for another root")
    return number, revoked


def _open(folder: Path) -> tuple[x509.Certificate, bytes]:
    """The root's certificate and its sealed key."""
    try:
        root = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
        return root, (folder / _KEY).read_bytes()
    except (OSError, ValueError) as error:
        raise click.ClickException(f"no root in {folder}: {error}") from error


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
