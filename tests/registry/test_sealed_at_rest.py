"""What a thief of the database finds: no key, in no form."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

import database
from fleet import Fleet
from fleetroot import sas
from fleetroot.custody import KeyStore, MasterKeyConfig, Sealer, load_master_key
from fleetroot.gateway import server_certificate
from fleetroot.pki import private_key_to_der
from fleetroot.registry import authorities
from fleetroot.storage import Query
from fleetroot.storage.schema import authorities as table


@dataclass
class Loot:
    """The bytes of the database's files, and what must not be among them."""

    database: bytes
    secrets: dict[str, bytes]


def _forms(secret: bytes) -> set[bytes]:
    """The ways in which a secret may be written; base64 without the ends that its place changes."""
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret)
        forms |= {text[4:-4], base64.urlsafe_b64encode(bytes(shift) + secret)[4:-4]}
    return forms


async def _authority_keys(data: Path) -> dict[str, bytes]:
    """The private keys of the CAs, as a server with the master key has them."""
    custody = KeyStore(Sealer(load_master_key(MasterKeyConfig(), data)))
    store = database.store_of(data)
    every = Query(select(table), authorities._row)
    try:
        keys = {
            f"{authority.kind} CA": authorities.signing_key(custody, authority)
            for authority in await store.read(lambda tx: tx.all(every))
        }
        [server_ca] = await store.read(server_certificate.server_cas)
        keys["server CA"] = custody.load(server_ca.key_name, server_ca.sealed_key)
        found = {}
        for name, key in keys.items():
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            size = (key.key_size + 7) // 8
            found[name] = key.private_numbers().private_value.to_bytes(size, "big")
            found[f"{name}, PKCS #8"] = private_key_to_der(key)
        return found
    finally:
        store.close()


@pytest.fixture
async def loot(tmp_path: Path) -> Loot:
    """A server that was bootstrapped, gave devices certificates and keys, and was revoked on."""
    data = tmp_path / "data"
    async with Fleet.running(data) as fleet:
        there = fleet.bootstrap
        certified = await fleet.provision("dev-1")
        await fleet.http.post("/fleetroot/devices/dev-1/revoke")
        primary, secondary = await fleet.enroll("keyed", group=True)
        individual, _ = await fleet.enroll("single")
        key = sas.derive_device_key(primary, "dev-2")
        token = fleet.provisioning_token("dev-2", key)
        assert (await fleet.register("dev-2", token=token)).status == 200
        running = database.files(data)
        connection_strings = (
            there["hub"]["connectionString"],
            there["provisioning"]["connectionString"],
        )
        hub, service = (
            base64.b64decode(text.partition("SharedAccessKey=")[2]) for text in connection_strings
        )
    stopped = database.files(data)
    secrets = {
        "group, primary": base64.b64decode(there["enrollmentGroup"]["primaryKey"]),
        "group, secondary": base64.b64decode(there["enrollmentGroup"]["secondaryKey"]),
        "group without a policy, primary": primary,
        "group without a policy, secondary": secondary,
        "individual enrollment": individual,
        "device": key,
        "hub's owner": hub,
        "provisioning service's owner": service,
        "operator's token": there["adminToken"].encode(),
        "master key": base64.b64decode((data / "master.key").read_bytes()),
        "device's own key": certified.key.private_numbers().private_value.to_bytes(48, "big"),
        **await _authority_keys(data),
    }
    return Loot(running + stopped, secrets)


async def test_database_holds_no_secret_in_any_form(loot: Loot) -> None:
    found = [
        name
        for name, secret in loot.secrets.items()
        if any(form in loot.database for form in _forms(secret))
    ]
    assert found == []
    assert len(loot.secrets) >= 17


async def test_the_search_would_find_what_is_there(loot: Loot) -> None:
    """A control: a device's name and the CA's are in the clear, in these very bytes."""
    assert b"dev-2" in loot.database
    assert b"Fleetroot default" in loot.database


async def test_a_secret_in_base64_would_be_found(loot: Loot) -> None:
    key = loot.secrets["device"]
    written = json.dumps({"at": str(datetime.now(UTC)), "key": sas.encode_key(key)}).encode()
    assert any(form in written for form in _forms(key))
