"""Lists and answers of CAs that follow each other, of every key type and kind of root."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPRequestBuilder, load_der_ocsp_response

from fleetroot.audit import SYSTEM
from fleetroot.pki import KeyType
from fleetroot.registry.authorities import AUTHORITY_KEY_TYPES
from fleetroot.registry.model import Authority, AuthorityKind, PolicyDetails
from fleetroot.registry.ocsp_responders import OcspResponders
from fleetroot.registry.publishing import RevocationPublisher
from openssl_ca import OpensslCa
from workbench import Workbench

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="apt-get install openssl"
)


@pytest.fixture
def responders(bench: Workbench) -> OcspResponders:
    return OcspResponders(bench.store, bench.custody, bench.clock)


@pytest.fixture
def publisher(bench: Workbench, responders: OcspResponders) -> RevocationPublisher:
    return RevocationPublisher(bench.store, bench.custody, responders, bench.clock)


async def read(
    publisher: RevocationPublisher, authority: Authority, shard: int = 0
) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl((await publisher.find(authority.id, shard)).der)


async def status(responders: OcspResponders, serial: int, issuer: Authority) -> OCSPCertStatus:
    certificate = x509.load_der_x509_certificate(issuer.certificate)
    question = OCSPRequestBuilder().add_certificate_by_hash(
        _hash(certificate.subject.public_bytes()),
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
        serial,
        hashes.SHA1(),
    )
    reply = await responders.answer(question.build().public_bytes(Encoding.DER))
    return load_der_ocsp_response(reply.der).certificate_status


def _hash(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA1())
    digest.update(data)
    return digest.finalize()


async def root_of(bench: Workbench) -> Authority:
    every = await bench.registry.authorities(bench.made.namespace)
    [root] = [authority for authority in every if authority.kind is AuthorityKind.ROOT]
    return root


def authority_of(details: PolicyDetails) -> Authority:
    assert details.authority is not None
    return details.authority


async def test_revoked_issuer_is_on_the_roots_list_and_its_leaves_are_answered_as_revoked(
    bench: Workbench, publisher: RevocationPublisher, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    namespace = bench.made.namespace
    old = authority_of(await bench.policies.get(namespace, bench.made.policy.name))
    serial = int((await bench.inventory("dev-1"))[0].serial, 16)
    await publisher.update()
    assert await status(responders, serial, old) is OCSPCertStatus.GOOD
    bench.clock.advance(timedelta(minutes=1))
    await bench.lifecycle.revoke_issuer(namespace, bench.made.policy.name, by=SYSTEM)
    await publisher.update()
    ca_serial = x509.load_der_x509_certificate(old.certificate).serial_number
    assert [entry.serial_number for entry in await read(publisher, await root_of(bench))] == [
        ca_serial
    ]
    assert await status(responders, ca_serial, await root_of(bench)) is OCSPCertStatus.REVOKED
    assert await status(responders, serial, old) is OCSPCertStatus.REVOKED


async def test_a_successor_has_lists_and_answers_at_once(
    bench: Workbench, publisher: RevocationPublisher, responders: OcspResponders
) -> None:
    await publisher.update()
    after = await bench.lifecycle.renew(bench.made.namespace, bench.made.policy.name, by=SYSTEM)
    new = authority_of(after)
    await bench.provision("dev-1")
    serial = int((await bench.inventory("dev-1"))[0].serial, 16)
    assert await status(responders, serial, new) is OCSPCertStatus.GOOD
    assert len(await read(publisher, new, 15)) == 0


@pytest.mark.parametrize("key_type", sorted(AUTHORITY_KEY_TYPES))
async def test_a_ca_of_any_key_type_publishes_and_answers(
    bench: Workbench,
    publisher: RevocationPublisher,
    responders: OcspResponders,
    key_type: KeyType,
) -> None:
    await bench.policies.create(
        bench.made.namespace, "plant", authority_key_type=key_type, by=SYSTEM
    )
    made = authority_of(await bench.policies.get(bench.made.namespace, "plant"))
    assert await publisher.update()
    crl = await read(publisher, made, 7)
    key = x509.load_der_x509_certificate(made.certificate).public_key()
    assert crl.is_signature_valid(key)  # type: ignore[arg-type]
    assert await status(responders, 1, made) is OCSPCertStatus.UNKNOWN


@needs_openssl
async def test_a_ca_of_a_root_of_somebody_else_publishes_its_own_lists(
    bench: Workbench, publisher: RevocationPublisher, responders: OcspResponders, tmp_path: Path
) -> None:
    corp = OpensslCa.root(tmp_path / "corp")
    namespace = bench.made.namespace
    await bench.policies.create(
        namespace, "plant", subject="CN=Plant 7", bring_your_own_root=True, by=SYSTEM
    )
    waiting = (await bench.policies.get(namespace, "plant")).request
    assert waiting is not None
    bench.clock.advance(timedelta(minutes=1))
    made = authority_of(
        await bench.lifecycle.activate(
            namespace, "plant", corp.sign(waiting.request) + corp.pem, by=SYSTEM
        )
    )
    assert await publisher.update()
    assert len(await read(publisher, made, 3)) == 0
    assert await status(responders, 1, made) is OCSPCertStatus.UNKNOWN
