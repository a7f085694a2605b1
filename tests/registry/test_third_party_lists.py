"""Lists of CAs that are not ours: verified, never older than what is there, and counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from corporation import Corporation
from fleetroot.audit import SYSTEM
from fleetroot.errors import InvalidArgument, NotFound, TooLarge
from fleetroot.registry import authorities, third_party_lists
from fleetroot.registry.model import AuthorityKind
from fleetroot.registry.third_party_lists import ThirdPartyList, ThirdPartyLists
from fleetroot.storage.schema import audit_entries
from workbench import Workbench

DAY = timedelta(days=1)
SIGN_NO_LISTS = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
SERIALS = (5, 2**158)


@pytest.fixture
def lists(bench: Workbench) -> ThirdPartyLists:
    return ThirdPartyLists(bench.store, bench.bus, bench.clock)


@pytest.fixture
def corporation(bench: Workbench) -> Corporation:
    return Corporation(bench.clock.now())


async def upload(
    bench: Workbench, lists: ThirdPartyLists, crl: bytes, authority: bytes | None
) -> ThirdPartyList:
    return await lists.upload(bench.made.namespace, crl, authority, by=SYSTEM)


async def is_revoked(bench: Workbench, issuer: x509.Certificate, serial: int) -> bool:
    namespace = bench.made.namespace.id
    return await bench.store.read(
        lambda tx: third_party_lists.is_revoked(tx, namespace, issuer, serial)
    )


# --- what counts


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
async def test_certificate_on_an_uploaded_list_is_revoked(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation, encoding: Encoding
) -> None:
    certificate = corporation.certificate.public_bytes(encoding)
    made = await upload(bench, lists, corporation.crl(*SERIALS, encoding=encoding), certificate)
    assert made.entries == 2
    assert [await is_revoked(bench, corporation.certificate, serial) for serial in SERIALS] == [
        True,
        True,
    ]
    assert not await is_revoked(bench, corporation.certificate, 6)


async def test_serial_number_of_another_ca_is_not_revoked(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    await upload(bench, lists, corporation.crl(*SERIALS), corporation.der)
    same_name = Corporation(bench.clock.now())
    same_key = Corporation(bench.clock.now(), "Other", key=corporation.key)
    for other in (same_name, same_key):
        assert not await is_revoked(bench, other.certificate, 5)


async def test_list_counts_for_every_certificate_of_the_ca(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    await upload(bench, lists, corporation.crl(*SERIALS), corporation.der)
    renewed = Corporation(bench.clock.now() + DAY, key=corporation.key)
    assert renewed.der != corporation.der
    assert await is_revoked(bench, renewed.certificate, 5)


async def test_list_counts_in_its_namespace_alone(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    await upload(bench, lists, corporation.crl(*SERIALS), corporation.der)
    assert not await bench.store.read(
        lambda tx: third_party_lists.is_revoked(tx, "other", corporation.certificate, 5)
    )


# --- one after the other


async def test_newer_list_replaces_the_one_before(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    first = await upload(bench, lists, corporation.crl(5, number=1), corporation.der)
    second = await upload(bench, lists, corporation.crl(6, number=2), None)
    assert second.id == first.id
    assert await lists.all(bench.made.namespace) == [second]
    assert not await is_revoked(bench, corporation.certificate, 5)
    assert await is_revoked(bench, corporation.certificate, 6)


@pytest.mark.parametrize("number", [1, 2], ids=["lower", "same"])
async def test_list_whose_number_goes_back_is_refused(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation, number: int
) -> None:
    await upload(bench, lists, corporation.crl(5, number=2), corporation.der)
    with pytest.raises(InvalidArgument, match="older"):
        await upload(bench, lists, corporation.crl(number=number), None)
    assert await is_revoked(bench, corporation.certificate, 5)


async def test_list_without_a_number_may_not_be_earlier(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    await upload(bench, lists, corporation.crl(5, number=None), corporation.der)
    with pytest.raises(InvalidArgument, match="older"):
        await upload(bench, lists, corporation.crl(number=None, this=corporation.now - DAY), None)


async def test_same_list_again_changes_nothing(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    crl = corporation.crl(5)
    first = await upload(bench, lists, crl, corporation.der)
    before = bench.contents()
    bench.clock.advance(DAY)
    assert await upload(bench, lists, crl, None) == first
    assert bench.contents() == before


async def test_lists_of_different_distribution_points_stand_beside_each_other(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    for number, url in enumerate(("http://c/1.crl", "http://c/2.crl")):
        crl = corporation.crl(5 + number, number=2 - number, more=((scope(url), True),))
        await upload(bench, lists, crl, corporation.der)
    assert len(await lists.all(bench.made.namespace)) == 2
    assert [await is_revoked(bench, corporation.certificate, s) for s in (5, 6)] == [True, True]


async def test_deleted_list_counts_no_more(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    made = await upload(bench, lists, corporation.crl(5), corporation.der)
    await lists.delete(bench.made.namespace, made.id, by=SYSTEM)
    assert not await is_revoked(bench, corporation.certificate, 5)
    assert bench.contents()["third_party_revocations"] == []
    with pytest.raises(NotFound):
        await lists.delete(bench.made.namespace, made.id, by=SYSTEM)


async def test_upload_and_deletion_are_in_the_audit_log(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    made = await upload(bench, lists, corporation.crl(5), corporation.der)
    await lists.delete(bench.made.namespace, made.id, by=SYSTEM)
    with bench.sql() as connection:
        found = connection.execute(
            select(audit_entries.c.action)
            .where(audit_entries.c.subject == f"crl/{made.id}")
            .order_by(audit_entries.c.seq)
        ).scalars()
        assert list(found) == ["crl.upload", "crl.delete"]


# --- what is refused


def scope(url: str = "http://c/1.crl", **spoil: Any) -> x509.IssuingDistributionPoint:
    parts: dict[str, Any] = {
        "full_name": [x509.UniformResourceIdentifier(url)],
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**parts | spoil)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
SOME = frozenset({x509.ReasonFlags.key_compromise})
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "signed by another": (
        "not of that CA",
        {"key": ec.generate_private_key(ec.SECP256R1())},
    ),
    "weakly signed": ("weak", {"algorithm": hashes.SHA224()}),
    "delta": ("delta", {"more": ((x509.DeltaCRLIndicator(1), True),)}),
    "indirect": ("own certificates", {"more": ((scope(indirect_crl=True), True),)}),
    "some reasons": ("all reasons", {"more": ((scope(only_some_reasons=SOME), True),)}),
    "unknown critical extension": ("not understood", {"more": ((UNKNOWN, True),)}),
    "unknown critical extension of an entry": ("not understood", {"entry": (UNKNOWN, True)}),
}


@pytest.mark.parametrize("spoilt", REFUSED)
async def test_list_that_cannot_be_relied_on_is_refused(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation, spoilt: str
) -> None:
    message, spoil = REFUSED[spoilt]
    before = bench.contents()
    with pytest.raises(InvalidArgument, match=message):
        await upload(bench, lists, corporation.crl(5, **spoil), corporation.der)
    assert bench.contents() == before


async def test_list_of_another_time_is_refused(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    now = corporation.now
    over = corporation.crl(this=now - 3 * DAY, next_=now - DAY)
    with pytest.raises(InvalidArgument, match="over"):
        await upload(bench, lists, over, corporation.der)
    with pytest.raises(InvalidArgument, match="future"):
        await upload(bench, lists, corporation.crl(this=now + DAY), corporation.der)


async def test_list_of_a_ca_that_is_not_known_needs_its_certificate(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation
) -> None:
    with pytest.raises(InvalidArgument, match="no certificate of the CA"):
        await upload(bench, lists, corporation.crl(5), None)


@pytest.mark.parametrize(
    "spoil", [{"usage": SIGN_NO_LISTS}, {"ca": False}], ids=["may sign no lists", "no CA"]
)
async def test_certificate_that_may_sign_no_lists_is_refused(
    bench: Workbench, lists: ThirdPartyLists, spoil: dict[str, Any]
) -> None:
    other = Corporation(bench.clock.now(), **spoil)
    with pytest.raises(InvalidArgument, match="not of that CA"):
        await upload(bench, lists, other.crl(5), other.der)


async def test_list_of_a_ca_of_ours_is_refused(bench: Workbench, lists: ThirdPartyLists) -> None:
    [ours] = [
        one
        for one in await bench.registry.authorities(bench.made.namespace)
        if one.kind is AuthorityKind.ROOT
    ]
    key = authorities.signing_key(bench.custody, ours)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    other = Corporation(bench.clock.now(), key=key)
    with pytest.raises(InvalidArgument, match="of this installation"):
        await upload(bench, lists, other.crl(5), other.der)


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN X509 CRL-----\n"])
async def test_what_is_no_list_is_refused(
    bench: Workbench, lists: ThirdPartyLists, corporation: Corporation, junk: bytes
) -> None:
    for crl, certificate in ((junk, corporation.der), (corporation.crl(5), junk or b"x")):
        with pytest.raises(InvalidArgument):
            await upload(bench, lists, crl, certificate)


async def test_list_that_is_too_long_is_refused(
    bench: Workbench,
    lists: ThirdPartyLists,
    corporation: Corporation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(third_party_lists, "MAX_ENTRIES", 1)
    with pytest.raises(InvalidArgument, match="more than 1"):
        await upload(bench, lists, corporation.crl(*SERIALS), corporation.der)
    monkeypatch.setattr(third_party_lists, "MAX_BYTES", 10)
    with pytest.raises(TooLarge):
        await upload(bench, lists, corporation.crl(5), corporation.der)
