"""OCSP answers say what the inventory says at that moment, and never good of what it has not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus
from sqlalchemy import select, update

from fleetroot.audit import SYSTEM
from fleetroot.custody import KeyStore
from fleetroot.errors import Unavailable
from fleetroot.pki import KeyType, RootProfile, generate_key, issuer_hashes
from fleetroot.registry import authorities, ocsp_responders
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.registry.ocsp_responders import ANSWER_LIFETIME, VALIDITY, OcspResponders
from fleetroot.storage.schema import audit_entries
from fleetroot.storage.schema import authorities as authorities_table
from workbench import Workbench

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def responders(bench: Workbench) -> OcspResponders:
    return OcspResponders(bench.store, bench.custody, bench.clock)


async def by_kind(bench: Workbench, kind: AuthorityKind) -> Authority:
    [found] = [a for a in await bench.registry.authorities(bench.made.namespace) if a.kind is kind]
    return found


def certificate_of(authority: Authority) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.certificate)


async def ask(bench: Workbench, device_id: str = "dev-1", nonce: bytes | None = None) -> bytes:
    """A request about the newest certificate of a device."""
    issuer = certificate_of(await by_kind(bench, AuthorityKind.ISSUING))
    [row, *_] = await bench.inventory(device_id)
    return about(int(row.serial, 16), issuer, nonce)


def about(serial: int, issuer: x509.Certificate, nonce: bytes | None = None) -> bytes:
    [named] = [one for one in issuer_hashes(issuer) if one.algorithm == "sha256"]
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        named.name, named.key, serial, hashes.SHA256()
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


async def status(responders: OcspResponders, request: bytes) -> OCSPCertStatus:
    return read((await responders.answer(request)).der).certificate_status


def read(der: bytes) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response(der)


def revoke_authority(bench: Workbench, authority: Authority) -> None:
    with bench.sql() as connection:
        connection.execute(
            update(authorities_table)
            .where(authorities_table.c.id == authority.id)
            .values(revoked_at=bench.clock.now())
        )


# --- what is answered


async def test_certificate_that_was_issued_is_good(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    assert await status(responders, await ask(bench)) is OCSPCertStatus.GOOD


async def test_revocation_shows_in_the_next_answer(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    request = await ask(bench)
    await responders.answer(request)
    bench.clock.advance(HOUR)
    await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)
    response = read((await responders.answer(request)).der)
    assert response.certificate_status is OCSPCertStatus.REVOKED
    assert response.revocation_time_utc == bench.clock.now()


async def test_serial_number_that_is_not_in_the_inventory_is_unknown(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    issuer = certificate_of(await by_kind(bench, AuthorityKind.ISSUING))
    for serial in (1, 2**158, 0):
        assert await status(responders, about(serial, issuer)) is OCSPCertStatus.UNKNOWN


async def test_serial_number_of_another_ca_is_unknown(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    other = await bench.policies.create(bench.made.namespace, "other", by=SYSTEM)
    assert other.authority_id is not None
    issuer = certificate_of(await bench.registry.authority(other.authority_id))
    serial = int((await bench.inventory("dev-1"))[0].serial, 16)
    assert await status(responders, about(serial, issuer)) is OCSPCertStatus.UNKNOWN


async def test_device_that_is_disabled_has_a_good_certificate(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    await bench.registry.set_enabled(bench.made.namespace, "dev-1", False, by=SYSTEM)
    assert await status(responders, await ask(bench)) is OCSPCertStatus.GOOD


async def test_root_answers_for_issuing_cas(bench: Workbench, responders: OcspResponders) -> None:
    root, issuing = [await by_kind(bench, kind) for kind in AuthorityKind]
    request = about(certificate_of(issuing).serial_number, certificate_of(root))
    assert await status(responders, request) is OCSPCertStatus.GOOD
    revoke_authority(bench, issuing)
    assert await status(responders, request) is OCSPCertStatus.REVOKED
    assert await status(responders, about(5, certificate_of(root))) is OCSPCertStatus.UNKNOWN


async def test_leaves_of_a_revoked_ca_are_revoked(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    request = await ask(bench)
    assert await status(responders, request) is OCSPCertStatus.GOOD
    revoke_authority(bench, await by_kind(bench, AuthorityKind.ISSUING))
    assert await status(responders, request) is OCSPCertStatus.REVOKED


async def test_ca_that_is_not_ours_is_not_answered_for(
    bench: Workbench, responders: OcspResponders
) -> None:
    key = generate_key(KeyType.EC_P256)
    subject = certificate_of(await by_kind(bench, AuthorityKind.ISSUING)).subject
    stranger = RootProfile(subject, DAY).self_sign(key, bench.clock.now())
    response = read((await responders.answer(about(1, stranger))).der)
    assert response.response_status is OCSPResponseStatus.UNAUTHORIZED


async def test_what_is_no_request_is_malformed(responders: OcspResponders) -> None:
    response = read((await responders.answer(b"junk")).der)
    assert response.response_status is OCSPResponseStatus.MALFORMED_REQUEST


# --- what is signed anew


async def test_answer_without_nonce_is_given_again(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    request = await ask(bench)
    first = await responders.answer(request)
    bench.clock.advance(ANSWER_LIFETIME / 2 - timedelta(seconds=1))
    assert (await responders.answer(request)) == first
    bench.clock.advance(timedelta(seconds=1))
    assert (await responders.answer(request)).der != first.der


async def test_answer_with_a_nonce_is_for_this_caller(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    for nonce in (b"a" * 32, b"b" * 32):
        reply = await responders.answer(await ask(bench, nonce=nonce))
        [extension] = read(reply.der).extensions
        assert extension.value == x509.OCSPNonce(nonce)
        assert not reply.is_shared
    assert (await responders.answer(await ask(bench))).is_shared


async def test_answer_of_a_clock_that_was_ahead_is_not_given_again(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    request = await ask(bench)
    bench.clock.advance(HOUR)
    await responders.answer(request)
    bench.clock.set_back(HOUR)
    assert read((await responders.answer(request)).der).this_update_utc == bench.clock.now()


async def test_numbers_that_were_never_issued_are_not_kept(
    bench: Workbench, responders: OcspResponders
) -> None:
    issuer = certificate_of(await by_kind(bench, AuthorityKind.ISSUING))
    for serial in range(10):
        await responders.answer(about(serial, issuer))
    assert len(responders._kept) == 0


async def test_answers_that_are_kept_are_bounded(
    bench: Workbench, responders: OcspResponders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocsp_responders, "_MAX_KEPT", 2)
    for number in range(3):
        await bench.provision(f"dev-{number}")
        await responders.answer(await ask(bench, f"dev-{number}"))
    assert len(responders._kept) == 2


# --- responders


async def responder_of(bench: Workbench, responders: OcspResponders) -> x509.Certificate:
    reply = await responders.answer(await ask(bench, nonce=b"n" * 32))
    [certificate] = read(reply.der).certificates
    return certificate


async def test_responder_is_delegated_by_the_ca(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    certificate = await responder_of(bench, responders)
    issuing = certificate_of(await by_kind(bench, AuthorityKind.ISSUING))
    certificate.verify_directly_issued_by(issuing)
    assert certificate.public_key() != issuing.public_key()


async def test_responder_stays_over_a_restart(bench: Workbench, responders: OcspResponders) -> None:
    await bench.provision("dev-1")
    before = await responder_of(bench, responders)
    again = OcspResponders(bench.store, bench.custody, bench.clock)
    assert await responder_of(bench, again) == before


async def test_responder_is_renewed_in_good_time(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    authority = await by_kind(bench, AuthorityKind.ISSUING)
    before = await responder_of(bench, responders)
    bench.clock.advance(VALIDITY / 2 - DAY)
    await responders.renew(authority, bench.clock.now())
    assert await responder_of(bench, responders) == before
    bench.clock.advance(DAY)
    await responders.renew(authority, bench.clock.now())
    after = await responder_of(bench, responders)
    assert after.public_key() != before.public_key()


async def test_responder_of_a_clock_that_was_ahead_is_replaced(
    bench: Workbench, responders: OcspResponders
) -> None:
    await bench.provision("dev-1")
    bench.clock.advance(20 * DAY)
    before = await responder_of(bench, responders)
    bench.clock.set_back(20 * DAY)
    after = await responder_of(bench, responders)
    assert after != before
    assert after.not_valid_before_utc <= bench.clock.now()


async def test_new_responder_is_in_the_audit_log(
    bench: Workbench, responders: OcspResponders
) -> None:
    authority = await by_kind(bench, AuthorityKind.ISSUING)
    await responders.renew(authority, bench.clock.now())
    with bench.sql() as connection:
        subjects = connection.execute(
            select(audit_entries.c.subject).where(audit_entries.c.action == "certificate.issue")
        ).scalars()
        assert list(subjects) == [f"ocsp-responder/{authority.id}"]


async def test_responder_answers_while_the_ca_cannot_sign(
    bench: Workbench, responders: OcspResponders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.provision("dev-1")
    await responders.answer(await ask(bench))
    monkeypatch.setattr(authorities, "signing_key", away)
    bench.clock.advance(VALIDITY - HOUR)
    assert await status(responders, await ask(bench)) is OCSPCertStatus.GOOD
    bench.clock.advance(2 * HOUR)
    response = read((await responders.answer(await ask(bench))).der)
    assert response.response_status is OCSPResponseStatus.TRY_LATER


async def test_caller_is_told_to_come_later_while_nobody_can_sign(
    bench: Workbench, responders: OcspResponders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.provision("dev-1")
    with monkeypatch.context() as patch:
        patch.setattr(KeyStore, "generate", away)
        response = read((await responders.answer(await ask(bench))).der)
        assert response.response_status is OCSPResponseStatus.TRY_LATER
    assert await status(responders, await ask(bench)) is OCSPCertStatus.GOOD


async def test_responders_key_is_sealed_in_its_own_place(
    bench: Workbench, responders: OcspResponders
) -> None:
    authority = await by_kind(bench, AuthorityKind.ISSUING)
    await responders.renew(authority, bench.clock.now())
    row = await bench.store.read(lambda tx: tx.first(ocsp_responders._GET, authority=authority.id))
    assert row is not None
    place = ocsp_responders.key_name(authority.id, 1)
    assert bench.custody.load(place, row.sealed_key)


def away(*_: object) -> None:
    raise Unavailable("the token is away")
