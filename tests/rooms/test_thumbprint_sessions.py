"""Identities that know certificates by thumbprints: who is let in, and who loses the ground."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha1

import pytest
from sqlalchemy import text

from fleet import Certified
from fleetroot.audit import SYSTEM
from fleetroot.errors import Unauthorized
from fleetroot.hub import sessions
from fleetroot.hub.model import CertificateProof, Ending, Pin
from fleetroot.hub.sessions import Begun
from fleetroot.provisioning.model import (
    Attestation,
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCertificates,
    OnboardingCredential,
    RegisterRequest,
    RegistrationResult,
)
from fleetroot.registry.service_resources import Owner, ServiceKind
from fleetroot.registry.third_party_lists import ThirdPartyLists
from fleetroot.registry.uploaded_certificates import UploadedCertificates
from manufacturer import DAY, Ca, ders, self_signed
from workbench import Step, Wire, Workbench

DEVICE = "dev-1"
OTHER_NAMESPACE = (
    "INSERT INTO namespaces SELECT 'other', 'other', 'other', subscription_id, resource_group, "
    "created_at, tags, etag, updated_at, deleted_at, location FROM namespaces"
)


async def enroll(
    bench: Workbench, kind: EnrollmentKind, certificates: OnboardingCertificates
) -> None:
    id_ = DEVICE if kind is EnrollmentKind.INDIVIDUAL else "factory"
    settings = EnrollmentSettings(attestation=Attestation.X509, certificates=certificates)
    await bench.administration.put(bench.made.service, kind, id_, settings, by=SYSTEM)


async def register(bench: Workbench, held: Certified) -> RegistrationResult:
    credential = OnboardingCredential(chain=held.chain)
    request = RegisterRequest(bench.made.service.id_scope, DEVICE, credential)
    return await bench.provisioning.register(request)


async def provision(bench: Workbench, **spoil: object) -> Certified:
    """A device of an individual enrollment, on the hub."""
    held = self_signed(DEVICE, now=bench.clock.now(), **spoil)
    await enroll(bench, EnrollmentKind.INDIVIDUAL, OnboardingCertificates(held.chain[0]))
    await register(bench, held)
    return held


async def begin(bench: Workbench, held: Certified, **changed: object) -> Begun | None:
    """By the one statement."""
    arguments = {
        "hub": bench.made.hub,
        "device_key": DEVICE,
        "proof": CertificateProof(held.chain[:1]),
        "now": bench.clock.now(),
        "persistent": True,
        "unless": lambda: False,
    } | changed
    departures = sessions.Departures(bench.store.store)
    beginnings = sessions.Beginnings(bench.store.store, departures)
    return await beginnings.add(sessions.Beginning(**arguments))  # type: ignore[arg-type]


async def test_deleted_device_is_refused_and_loses_its_connection(bench: Workbench) -> None:
    held = await provision(bench)
    await bench.connect(DEVICE, held, wire := Wire())
    await bench.delete_device(DEVICE)
    await bench.outbox.drain()
    assert wire.endings == [Ending.REVOKED]
    assert await begin(bench, held) is None
    with pytest.raises(Unauthorized) as refused:
        await bench.connect(DEVICE, held, Wire())
    assert refused.value.reason == "device deleted"


async def test_device_is_let_in_by_one_statement(bench: Workbench) -> None:
    held = await provision(bench)
    begun = await begin(bench, held)
    identity = await bench.identity(DEVICE)
    assert begun is not None
    assert identity is not None
    assert identity.connected
    assert begun.epoch == identity.session_epoch
    principal = begun.principal
    assert (principal.pin, principal.certificate_sha256) == (Pin.THUMBPRINTS, None)
    assert (principal.pin_etag, principal.device_id) == (identity.pin_etag, DEVICE)
    assert principal.expires_at == held.leaf.not_valid_after_utc


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE identities SET enabled = false",
        "UPDATE identities SET pin = 'keys'",
        "UPDATE identities SET pin = 'policy'",
        "UPDATE identities SET primary_thumbprint = NULL",
        "UPDATE identities SET primary_thumbprint = 'ABCD'",
        "UPDATE devices SET enabled = false",
        "UPDATE hubs SET host_name = 'another.example'",
    ],
)
async def test_device_of_which_anything_does_not_hold_is_not_let_in(
    bench: Workbench, change: str
) -> None:
    held = await provision(bench)
    with bench.sql() as connection:
        connection.execute(text(change))
    assert await begin(bench, held) is None
    with pytest.raises(Unauthorized):  # nor in the other way, which says why
        await bench.connect(DEVICE, held)


async def test_hub_that_has_moved_to_another_namespace_lets_nobody_in_by_one_statement(
    bench: Workbench,
) -> None:
    held = await provision(bench)
    with bench.sql() as connection:
        for statement in (OTHER_NAMESPACE, "UPDATE hubs SET namespace_id = 'other'"):
            connection.execute(text(statement))
    assert await begin(bench, held) is None


@pytest.mark.parametrize("column", ["primary_thumbprint", "secondary_thumbprint"])
async def test_thumbprint_may_be_either_and_of_sha1(bench: Workbench, column: str) -> None:
    held = await provision(bench)
    thumbprint = sha1(held.chain[0]).hexdigest().upper()
    with bench.sql() as connection:
        connection.execute(text("UPDATE identities SET primary_thumbprint = NULL"))
        connection.execute(text(f"UPDATE identities SET {column} = '{thumbprint}'"))
    assert await begin(bench, held) is not None
    await bench.connect(DEVICE, held)


async def test_certificate_counts_from_its_first_to_its_last_moment(bench: Workbench) -> None:
    held = await provision(bench)
    moment = timedelta(microseconds=1)
    first, last = held.leaf.not_valid_before_utc, held.leaf.not_valid_after_utc
    times = {first - moment: False, first: True, last: True, last + moment: False}
    for now, counts in times.items():
        assert (await begin(bench, held, now=now) is not None) == counts


async def test_certificate_that_is_over_is_refused_at_connect(bench: Workbench) -> None:
    held = await provision(bench, end=DAY)
    bench.clock.advance(DAY + timedelta(seconds=1))
    with pytest.raises(Unauthorized) as refused:
        await bench.connect(DEVICE, held)
    assert refused.value.reason == "certificate of a thumbprint refused (expired)"


async def test_token_and_other_certificates_are_refused(bench: Workbench) -> None:
    await provision(bench)
    with pytest.raises(Unauthorized) as refused:
        await bench.connect(DEVICE, self_signed(DEVICE))
    assert refused.value.reason == "certificate of another thumbprint"
    with pytest.raises(Unauthorized) as refused:
        await bench.hubs.connect(bench.made.hub.host_name, DEVICE, None, Wire(), clean_session=True)
    assert "pinned to thumbprints" in refused.value.reason


@pytest.mark.parametrize("what", ["revoked", "disabled", "rolled"])
async def test_live_session_ends_when_its_ground_is_lost(bench: Workbench, what: str) -> None:
    held, wire = await provision(bench), Wire()
    await bench.connect(DEVICE, held, wire)
    namespace = bench.made.namespace
    async with bench.reading_the_outbox():
        if what == "rolled":
            new = self_signed(DEVICE, now=bench.clock.now())
            settings = EnrollmentSettings(
                attestation=Attestation.X509,
                certificates=OnboardingCertificates(new.chain[0]),
            )
            await bench.administration.put(
                bench.made.service,
                EnrollmentKind.INDIVIDUAL,
                DEVICE,
                settings,
                if_match="*",
                by=SYSTEM,
            )
            await register(bench, new)
        else:
            disable = what == "disabled"
            await bench.registry.revoke(namespace, DEVICE, disable=disable, by=SYSTEM)
        async with asyncio.timeout(10):
            while not wire.endings:
                await asyncio.sleep(0.01)
    expected = {
        "revoked": Ending.REVOKED,
        "disabled": Ending.DISABLED,
        "rolled": Ending.IDENTITY_CHANGED,
    }
    assert wire.endings == [expected[what]]


# --- what changes between a registration's decision and its commit


def _service(bench: Workbench) -> Owner:
    service = bench.made.service
    kind = ServiceKind.PROVISIONING_SERVICE
    return Owner(kind, service.id, service.name, service.namespace_id)


def _deleted(bench: Workbench, ca: Ca) -> Step:
    uploads = UploadedCertificates(bench.store, bench.bus, bench.clock)
    return lambda: uploads.delete(_service(bench), "factory", by=SYSTEM)


def _listed(bench: Workbench, ca: Ca) -> Step:
    lists = ThirdPartyLists(bench.store, bench.bus, bench.clock)
    above = ca.above[0]
    crl = above.crl(ca.certificate.serial_number, now=bench.clock.now())
    authority = ders(above.certificate)[0]
    return lambda: lists.upload(bench.made.namespace, crl, authority, by=SYSTEM)


@pytest.mark.parametrize("step", [_deleted, _listed], ids=["CA deleted", "CA listed"])
async def test_ca_that_goes_in_between_registers_nobody(
    bench: Workbench, step: Callable[[Workbench, Ca], Callable[[], Awaitable[object]]]
) -> None:
    ca = Ca.root(now=bench.clock.now()).below(now=bench.clock.now())
    uploads = UploadedCertificates(bench.store, bench.bus, bench.clock)
    await uploads.upload(_service(bench), "factory", ca.pem, verified=True, by=SYSTEM)
    await enroll(bench, EnrollmentKind.GROUP, OnboardingCertificates(primary_ca="factory"))
    held = ca.device(DEVICE, now=bench.clock.now())
    bench.store.before_write.append(step(bench, ca))
    with pytest.raises(Unauthorized):
        await register(bench, held)
    assert bench.contents()["registrations"] == []
    assert bench.contents()["identities"] == []
