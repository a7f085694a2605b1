"""The device's folder: what must survive a restart, and a power cut at any moment.

    DIR/                        0700
      .lock                     held by the process that uses the folder
      current -> credential-…   the one thing that ever changes
      credential-…/             0700; written once, complete before `current` names it
        device.json             hub, device id, dates, how to provision
        key.pem                 0600, the operational certificate's key
        certificate.pem         the operational certificate alone: what TLS shows
        chain.pem               the operational certificate and the CAs above it
        symmetric-key           0600, base64; absent when it was to be forgotten

A key, its certificate and the hub that accepts it are of use only together, so they are replaced
together. `store` writes a new folder, syncs its files and itself, and only then replaces the link
`current` by rename(2), which POSIX makes atomic; the sync of DIR makes it durable. Whoever reads,
at whatever moment the power went, finds `current` naming the old folder or the new one, and
either is whole. What no link names is left over, and removed by the next `store`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import ssl
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fleetroot import sas
from fleetroot.agent.credential import Credential
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.errors import FolderUnusable
from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument
from fleetroot.pki import KeyRefused, KeyType, PrivateKey, key_type_of, to_pem

_FORMAT: Final = 1
_LOCK: Final = ".lock"
_LINK: Final = "current"
_NEW_LINK: Final = ".current.new"
_PREFIX: Final = "credential-"
_DEVICE: Final = "device.json"
_KEY: Final = "key.pem"
_CERTIFICATE: Final = "certificate.pem"
_CHAIN: Final = "chain.pem"
_SYMMETRIC_KEY: Final = "symmetric-key"


class DeviceFolder:
    """A device's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> DeviceFolder:
        """The folder at `path`, made if it is not there. It is private from now on, unless it holds
        something else; what is written into it always is.

        Raises:
            FolderUnusable: it cannot be made, or others can write to it.
        """
        try:
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in missing:
                _sync_directory(folder.parent)
            ours = (_LINK, _LOCK, _NEW_LINK)
            if all(e.name in ours or e.name.startswith(_PREFIX) for e in path.iterdir()):
                path.chmod(0o700)
            elif path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise FolderUnusable(f"others can write to {path}: give a folder of its own")
        except OSError as error:
            raise FolderUnusable(f"cannot use the folder {path}: {error.strerror}") from error
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out: two devices of one identity would only evict each other.

        Raises:
            FolderUnusable: another process is in, or there is no such folder.
        """
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderUnusable(f"there is no device in {self.path}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FolderUnusable(f"another process is using {self.path}") from None
        try:
            yield
        finally:
            os.close(lock)

    # --- reading

    def load(self) -> Device:
        """The device in the folder.

        Raises:
            FolderUnusable: there is none, or it is damaged.
        """
        try:
            folder = (self.path / _LINK).resolve(strict=True)
        except OSError:
            raise FolderUnusable(f"there is no device in {self.path}") from None
        try:
            fields = json.loads((folder / _DEVICE).read_text())
            symmetric_key = folder / _SYMMETRIC_KEY
            secret = sas.decode_key(symmetric_key.read_text()) if symmetric_key.exists() else None
            return Device(
                onboarding=Onboarding(
                    host=str(fields["host"]),
                    port=int(fields["port"]),
                    id_scope=str(fields["idScope"]),
                    registration_id=str(fields["registrationId"]),
                    ca=fields["ca"],
                    key_type=KeyType(fields["keyType"]),
                    symmetric_key=secret,
                ),
                hub=str(fields["assignedHub"]),
                device_id=str(fields["deviceId"]),
                credential=_read_credential(folder),
                obtained_at=datetime.fromisoformat(fields["obtainedAt"]),
            )
        except OSError as error:
            raise FolderUnusable(f"cannot read {folder}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, InvalidArgument) as error:
            raise FolderUnusable(f"the device in {folder} is damaged") from error

    def load_into(self, context: ssl.SSLContext) -> None:
        """Makes TLS show the operational certificate, alone.

        Raises:
            FolderUnusable: it cannot be read.
        """
        try:
            folder = (self.path / _LINK).resolve(strict=True)
            context.load_cert_chain(folder / _CERTIFICATE, folder / _KEY)
        except OSError as error:  # SSLError is one
            raise FolderUnusable(f"cannot read the certificate in {self.path}") from error

    # --- writing

    def store(self, device: Device) -> None:
        """Replaces the device in the folder; when this returns, it is durable.

        Raises:
            FolderUnusable: it could not be; the old one is still there.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self.path))  # of mode 0700
            _write(folder, device)
            self._switch(folder.name)
        except OSError as error:
            raise FolderUnusable(f"cannot write to {self.path}: {error.strerror}") from error
        self._remove_all_but(folder.name)

    def _switch(self, name: str) -> None:
        _sync_directory(self.path)  # the new folder is in DIR before a link says so
        link = self.path / _NEW_LINK
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        link.replace(self.path / _LINK)
        _sync_directory(self.path)

    def _remove_all_but(self, name: str) -> None:
        for left in self.path.glob(_PREFIX + "*"):
            if left.name != name:
                shutil.rmtree(left, ignore_errors=True)


def _write(folder: Path, device: Device) -> None:
    secret = device.onboarding.symmetric_key
    if secret is not None:
        _write_file(folder / _SYMMETRIC_KEY, sas.encode_key(secret), 0o600)
    _write_file(folder / _KEY, _key_to_pem(device.credential.key), 0o600)
    _write_file(folder / _CERTIFICATE, to_pem(device.credential.chain[:1]), 0o644)
    _write_file(folder / _CHAIN, to_pem(device.credential.chain), 0o644)
    _write_file(folder / _DEVICE, json.dumps(_fields(device), indent=2) + "\n", 0o644)
    _sync_directory(folder)


def _fields(device: Device) -> dict[str, Any]:
    onboarding = device.onboarding
    return {
        "format": _FORMAT,
        "registrationId": onboarding.registration_id,
        "deviceId": device.device_id,
        "assignedHub": device.hub,
        "host": onboarding.host,
        "port": onboarding.port,
        "idScope": onboarding.id_scope,
        "keyType": onboarding.key_type.value,
        "ca": onboarding.ca,
        "obtainedAt": iso8601(device.obtained_at),
        "certificate": device.credential.described(),
    }


def _read_credential(folder: Path) -> Credential:
    """Raises:
    ValueError: it is damaged.
    """
    chain = tuple(x509.load_pem_x509_certificates((folder / _CHAIN).read_bytes()))
    try:
        key = serialization.load_pem_private_key((folder / _KEY).read_bytes(), password=None)
        key_type_of(key.public_key())
    except (UnsupportedAlgorithm, KeyRefused) as error:
        raise ValueError("not a key of ours") from error
    if key.public_key() != chain[0].public_key():
        raise ValueError("key and certificate are not of one pair")
    return Credential(cast("PrivateKey", key), chain)


def _key_to_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


def _write_file(path: Path, content: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
