"""Enrollments imported over the operator API, beside sealing their keys and inserting the rows."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.measure import Row, Scale, process_cpu, rate, ratio, take_turns
from bench.processes import Server, server_on
from fleetroot import sas
from fleetroot.custody import MasterKey, MasterKeyKind, MasterKeySource, RecordName, Sealer

_MOST: Final = 1000  # rows of a request
_PATH: Final = "/fleetroot/provisioning-services/default/importEnrollments"
_Make = Callable[[str], dict[str, Any]]


def rows(scale: Scale) -> list[Row]:
    """A row for each kind of attestation."""
    many = min(_MOST, 4 * scale.batch)
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        bare = _Bare(Path(folder) / "bare.sqlite")
        with server_on(Path(folder) / "data") as server, server.operator() as http:
            importer = _Importer(server, http)
            return [
                _row(scale, what, partial(bare.cost, many, seals), importer.side(make, many))
                for what, make, seals in (
                    ("keys generated", _without_keys, 2),
                    ("keys given", _with_keys, 2),
                    ("X.509", _Certificates(), 0),
                )
            ]


def _row(scale: Scale, what: str, bare: Callable[[], float], used: Callable[[], float]) -> Row:
    bottom, costs = take_turns(scale.rounds, bare, used)
    return Row(
        f"enrollments imported, {what}",
        rate(costs),
        f"sealed and inserted {rate(bottom)}",
        ratio(bottom, costs),
    )


class _Bare:
    """What cannot be left out: two keys sealed, a row inserted, a commit for each request."""

    def __init__(self, path: Path) -> None:
        source = MasterKeySource(MasterKeyKind.ENVIRONMENT)
        self._sealer = Sealer(MasterKey(os.urandom(32), source))
        self._database = sqlite3.connect(path)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("CREATE TABLE bare (id TEXT PRIMARY KEY, one BLOB, two BLOB)")
        self._numbers = count()

    def cost(self, many: int, seals: int) -> float:
        """The CPU of a row, in seconds."""
        start = time.process_time()
        made = [self._sealed(f"bare-{next(self._numbers)}", seals) for _ in range(many)]
        with self._database:
            self._database.executemany("INSERT INTO bare VALUES (?, ?, ?)", made)
        return (time.process_time() - start) / many

    def _sealed(self, id_: str, seals: int) -> tuple[str, bytes, bytes]:
        if not seals:
            return id_, b"x" * 400, b""
        one, two = (
            self._sealer.seal(RecordName(kind=which, namespace="", id=id_, version=1), b"k" * 64)
            for which in ("one", "two")
        )
        return id_, one, two


class _Importer:
    """Imports into one server, new ids each time."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self._pid = server.pid
        self._http = http
        self._numbers = count()

    def side(self, make: _Make, many: int) -> Callable[[], float]:
        """Imports one request of them, and gives the server's CPU for a row, in seconds."""

        def cost() -> float:
            made = [make(f"bench-{next(self._numbers)}") for _ in range(many)]
            body = json.dumps({"enrollments": made})
            before = process_cpu(self._pid)
            answer = self._http.post(_PATH, content=body)
            answer.raise_for_status()
            if answer.json()["created"] != many:
                raise RuntimeError(f"rows were refused: {answer.text[:200]}")
            return (process_cpu(self._pid) - before) / many

        return cost


class _Certificates:
    """Enrollments with a certificate each, all of one key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def __call__(self, id_: str) -> dict[str, Any]:
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, id_)]), datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(self._key, SHA256())
        )
        der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
        given = {"clientCertificates": {"primary": {"certificate": der}}}
        return _enrollment(id_, {"type": "x509", "x509": given})


def _enrollment(id_: str, attestation: dict[str, Any]) -> dict[str, Any]:
    named = {"registrationId": id_, "credentialPolicyName": "default"}
    return named | {"attestation": attestation}


def _without_keys(id_: str) -> dict[str, Any]:
    return _enrollment(id_, {"type": "symmetricKey"})


def _with_keys(id_: str) -> dict[str, Any]:
    keys = {f"{which}Key": sas.encode_key(sas.new_key()) for which in ("primary", "secondary")}
    return _enrollment(id_, {"type": "symmetricKey", "symmetricKey": keys})
