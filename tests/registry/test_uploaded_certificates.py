"""CA certificates of a hub: what proves the key, and for how long."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from corporation import Corporation
from fleetroot.audit import SYSTEM
from fleetroot.errors import EtagMismatch, InvalidArgument
from fleetroot.registry.service_resources import Owner, ServiceKind
from fleetroot.registry.uploaded_certificates import UploadedCertificates
from workbench import Workbench

WEEK = timedelta(days=7)


class Desk:
    """A hub to which a corporation's CA was uploaded, and a code for it."""

    def __init__(self, bench: Workbench) -> None:
        hub = bench.made.hub
        self.bench = bench
        self.owner = Owner(ServiceKind.HUB, hub.id, hub.name, hub.namespace_id)
        self.uploaded = UploadedCertificates(bench.store, bench.bus, bench.clock)
        self.corporation = Corporation(bench.clock.now())

    async def upload(self, corporation: Corporation | None = None) -> None:
        text = base64.b64encode((corporation or self.corporation).der).decode()
        await self.uploaded.upload(self.owner, "corp", text, if_match="*", by=SYSTEM)

    async def code(self) -> str:
        found = await self.uploaded.new_code(self.owner, "corp", if_match=None, by=SYSTEM)
        assert found.code is not None
        return found.code

    def proof(self, code: str) -> str:
        now, key = self.bench.clock.now(), ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code)])
        certificate = x509.CertificateBuilder(
            *(self.corporation.name, name, key.public_key(), 7),
            *(now - timedelta(days=1), now + timedelta(days=30)),
        ).sign(self.corporation.key, hashes.SHA256())
        return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()

    async def verify(self, proof: str) -> bool:
        found = await self.uploaded.verify(self.owner, "corp", proof, if_match=None, by=SYSTEM)
        return found.verified


@pytest.fixture
async def desk(bench: Workbench) -> Desk:
    made = Desk(bench)
    await made.upload()
    return made


async def test_code_is_good_for_a_week(desk: Desk) -> None:
    proof = desk.proof(await desk.code())
    desk.bench.clock.advance(WEEK - timedelta(seconds=1))
    assert await desk.verify(proof)


async def test_code_is_good_no_longer(desk: Desk) -> None:
    proof = desk.proof(await desk.code())
    desk.bench.clock.advance(WEEK)
    with pytest.raises(InvalidArgument, match="no verification code"):
        await desk.verify(proof)


async def test_proof_of_one_certificate_does_not_verify_what_took_its_place_meanwhile(
    desk: Desk,
) -> None:
    other = Corporation(desk.bench.clock.now(), "Other CA")
    proof = desk.proof(await desk.code())
    desk.bench.store.before_write.append(lambda: desk.upload(other))
    with pytest.raises(EtagMismatch):
        await desk.verify(proof)
    found = await desk.uploaded.get(desk.owner, "corp")
    assert not found.verified


async def test_code_is_no_part_of_what_is_printed(desk: Desk) -> None:
    code = await desk.code()
    found = await desk.uploaded.get(desk.owner, "corp")
    assert found.code == code
    assert code not in repr(found)
