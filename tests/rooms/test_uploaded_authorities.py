"""Identities that are pinned to the CAs that were uploaded to their hub: who is let in, why the
others are not, and who loses the ground.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fleet import Certified, device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import Unauthorized
from fleetroot.hub.alerts import NeverIssued
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import CertificateProof, Ending, Pin
from fleetroot.registry.assignment import Assignment, UploadedPin
from fleetroot.registry.service_resources import Owner, ServiceKind
from fleetroot.registry.third_party_lists import ThirdPartyLists
from fleetroot.registry.uploaded_certificates import UploadedCertificates
from manufacturer import DAY, Ca, ders
from workbench import Wire, Workbench

DEVICE = "dev-1"


class Yard:
    """A hub with devices of CAs that are not ours."""

    def __init__(self, bench: Workbench) -> None:
        hub = bench.made.hub
        self.bench = bench
        self.now = bench.clock.now()
        self.owner = Owner(ServiceKind.HUB, hub.id, hub.name, hub.namespace_id)
        self.uploaded = UploadedCertificates(bench.store, bench.bus, bench.clock)
        self.lists = ThirdPartyLists(bench.store, bench.bus, bench.clock)
        self.ca = Ca.root("Maker", now=self.now)

    async def upload(self, ca: Ca, *, verified: bool = True, name: str = "maker") -> None:
        await self.uploaded.upload(
            self.owner, name, ca.pem, verified=verified, if_match="*", by=SYSTEM
        )

    async def forget(self) -> None:
        await self.uploaded.delete(self.owner, "maker", by=SYSTEM)

    async def bring_list(self, ca: Ca, *revoked: x509.Certificate) -> None:
        serials = [each.serial_number for each in revoked]
        crl = ca.crl(*serials, now=self.bench.clock.now())
        namespace, authority = self.bench.made.namespace, ders(ca.certificate)[0]
        await self.lists.upload(namespace, crl, authority, by=SYSTEM)

    async def add(self, device_id: str = DEVICE) -> None:
        """A device whose identity is pinned to uploaded CAs."""
        await self.bench.put_device(device_id)
        wanted = Assignment(self.bench.made.hub.id, device_id, UploadedPin())
        await self.bench.store.write(self.bench.directory.assign(wanted, self.now))

    async def connect(
        self, held: Certified, wire: Wire | None = None, device_id: str = DEVICE
    ) -> LiveSession:
        session, _ = await self.bench.hubs.connect(
            self.bench.made.hub.host_name,
            device_id,
            CertificateProof(held.chain),
            wire or Wire(),
            clean_session=True,
        )
        return session

    async def refusal(self, held: Certified) -> str:
        """Why the device does not come in with it."""
        with pytest.raises(Unauthorized) as refused:
            await self.connect(held)
        return refused.value.reason


@pytest.fixture
async def yard(bench: Workbench) -> Yard:
    made = Yard(bench)
    await made.upload(made.ca)
    await made.add()
    return made


async def test_certificate_of_an_uploaded_ca_is_let_in(yard: Yard) -> None:
    held = yard.ca.device(DEVICE, now=yard.now)
    session = await yard.connect(held)
    principal = session.principal
    assert (principal.pin, principal.certificate_sha256) == (Pin.UPLOADED, None)
    assert principal.expires_at == held.leaf.not_valid_after_utc


async def test_chain_may_lead_there_over_others(yard: Yard) -> None:
    below = yard.ca.below("Line", now=yard.now, end=30 * DAY).below("Cell", now=yard.now)
    session = await yard.connect(below.device(DEVICE, now=yard.now))
    # Until the first of them ends.
    assert session.principal.expires_at == below.above[0].certificate.not_valid_after_utc


async def test_uploaded_ca_need_not_be_a_root(bench: Workbench) -> None:
    yard = Yard(bench)
    line = yard.ca.below("Line", now=yard.now)
    await yard.upload(line)
    await yard.add()
    await yard.connect(line.device(DEVICE, now=yard.now))
    assert await yard.refusal(yard.ca.device(DEVICE, now=yard.now)) == (
        "certificate of an uploaded CA refused (untrusted)"
    )


async def test_device_is_named_in_any_case(yard: Yard) -> None:
    await yard.connect(yard.ca.device(DEVICE.upper(), now=yard.now))


async def test_nobody_is_let_in_by_a_ca_that_is_not_verified(yard: Yard) -> None:
    await yard.upload(yard.ca, verified=False)
    held = yard.ca.device(DEVICE, now=yard.now)
    assert await yard.refusal(held) == "certificate of an uploaded CA refused (untrusted)"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"start": DAY}, "certificate of an uploaded CA refused (not_yet_valid)"),
        ({"start": -2 * DAY, "end": -DAY}, "certificate of an uploaded CA refused (expired)"),
        ({"purposes": None}, "certificate of an uploaded CA refused (client_auth_missing)"),
        ({"ca": True}, "certificate of an uploaded CA refused (leaf_is_ca)"),
    ],
)
async def test_certificate_that_breaks_a_rule_is_refused(
    yard: Yard, spoil: dict[str, object], reason: str
) -> None:
    assert await yard.refusal(yard.ca.device(DEVICE, now=yard.now, **spoil)) == reason


async def test_certificate_of_another_device_is_refused(yard: Yard) -> None:
    held = yard.ca.device("dev-2", now=yard.now)
    assert await yard.refusal(held) == "certificate of another device"


async def test_certificate_of_another_ca_is_refused(yard: Yard) -> None:
    held = Ca.root("Other", now=yard.now).device(DEVICE, now=yard.now)
    assert await yard.refusal(held) == "certificate of an uploaded CA refused (untrusted)"


async def test_certificate_of_a_namesake_with_another_key_is_refused(yard: Yard) -> None:
    held = Ca.root("Maker", now=yard.now).device(DEVICE, now=yard.now)
    assert await yard.refusal(held) != ""


async def test_token_is_refused(yard: Yard) -> None:
    host = yard.bench.made.hub.host_name
    with pytest.raises(Unauthorized) as refused:
        await yard.bench.hubs.connect(host, DEVICE, None, Wire(), clean_session=True)
    assert refused.value.reason == ("no client certificate, and the identity is pinned to CAs")


async def test_ca_of_another_hub_does_not_count(yard: Yard) -> None:
    other = await yard.bench.hubs.create(yard.bench.made.namespace, "other", "other.hub.example")
    wanted = Assignment(other.id, DEVICE, UploadedPin())
    await yard.bench.store.write(yard.bench.directory.assign(wanted, yard.now))
    proof = CertificateProof(yard.ca.device(DEVICE, now=yard.now).chain)
    with pytest.raises(Unauthorized) as refused:
        await yard.bench.hubs.connect(other.host_name, DEVICE, proof, Wire(), clean_session=True)
    assert refused.value.reason.endswith("(untrusted)")


async def test_deleted_device_is_refused_and_loses_its_connection(yard: Yard) -> None:
    held = yard.ca.device(DEVICE, now=yard.now)
    await yard.connect(held, wire := Wire())
    await yard.bench.delete_device(DEVICE)
    await yard.bench.outbox.drain()
    assert wire.endings == [Ending.REVOKED]
    assert await yard.refusal(held) == "device deleted"


async def test_disabled_device_is_refused(yard: Yard) -> None:
    await yard.bench.register(DEVICE)
    await yard.add()
    await yard.bench.registry.revoke(yard.bench.made.namespace, DEVICE, disable=True, by=SYSTEM)
    assert await yard.refusal(yard.ca.device(DEVICE, now=yard.now)) == "device disabled"


# --- ours and theirs


async def test_certificate_that_we_issued_is_refused(yard: Yard) -> None:
    held = await yard.bench.provision(DEVICE)
    await yard.add()
    assert await yard.refusal(held) == "certificate of a CA of this installation"


async def test_certificate_that_we_never_issued_is_theft_though_its_root_was_uploaded(
    yard: Yard,
) -> None:
    """The uploaded CA has signed our issuing CA's key, as it may: it is its operator's."""
    bench = yard.bench
    await bench.provision(DEVICE)
    await yard.add()
    issuer = await bench.issuance.issuer_of(bench.made.policy.id)
    ours = x509.load_der_x509_certificate(issuer.chain[0])
    crossed = (
        x509.CertificateBuilder(
            *(yard.ca.certificate.subject, ours.subject, ours.public_key(), 77),
            *(yard.now - DAY, yard.now + DAY),
        )
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ours.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(yard.ca.key.public_key()), False
        )
        .sign(yard.ca.key, hashes.SHA256())
    )
    key, _ = device_csr(DEVICE)
    [device] = await bench.registry.devices(bench.made.namespace)
    leaf = issuer.profile.issue(
        issuer.key,
        key.public_key(),
        device_id=DEVICE,
        generation=device.generation,
        now=yard.now,
    )
    with pytest.raises(NeverIssued):
        await yard.connect(Certified((leaf.der, *ders(crossed)), key))


# --- lists


async def test_certificate_on_a_list_of_its_ca_is_refused(yard: Yard) -> None:
    held = yard.ca.device(DEVICE, now=yard.now)
    await yard.bring_list(yard.ca, held.leaf)
    assert await yard.refusal(held) == "certificate on a revocation list"


async def test_ca_between_on_a_list_lets_nobody_in(yard: Yard) -> None:
    line = yard.ca.below("Line", now=yard.now)
    await yard.bring_list(yard.ca, line.certificate)
    held = line.device(DEVICE, now=yard.now)
    assert await yard.refusal(held) == "certificate on a revocation list"


async def test_list_of_others_is_none_of_its(yard: Yard) -> None:
    held = yard.ca.device(DEVICE, now=yard.now)
    await yard.bring_list(Ca.root("Other", now=yard.now), held.leaf)
    await yard.connect(held)


# --- live


async def disabled(yard: Yard, held: Certified) -> None:
    await yard.bench.registry.revoke(yard.bench.made.namespace, DEVICE, disable=True, by=SYSTEM)


CAUSES: dict[str, tuple[Callable[[Yard, Certified], Awaitable[None]], Ending]] = {
    "deleted": (lambda yard, _: yard.forget(), Ending.CA_DISTRUSTED),
    "replaced": (
        lambda yard, _: yard.upload(Ca.root("Maker", now=yard.now)),
        Ending.CA_DISTRUSTED,
    ),
    "not verified": (
        lambda yard, _: yard.upload(yard.ca, verified=False),
        Ending.CA_DISTRUSTED,
    ),
    "listed": (lambda yard, held: yard.bring_list(yard.ca, held.leaf), Ending.REVOKED),
    "disabled": (disabled, Ending.DISABLED),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_live_session_ends_when_its_ground_is_lost(yard: Yard, cause: str) -> None:
    await yard.bench.register(DEVICE)
    await yard.add()
    held, wire = yard.ca.device(DEVICE, now=yard.now), Wire()
    await yard.connect(held, wire)
    act, ending = CAUSES[cause]
    async with yard.bench.reading_the_outbox():
        await act(yard, held)
        async with asyncio.timeout(10):
            while not wire.endings:
                await asyncio.sleep(0.01)
    assert wire.endings == [ending]
    await yard.refusal(held)


async def test_others_stay_connected(yard: Yard) -> None:
    await yard.upload(other := Ca.root("Other", now=yard.now), name="other")
    await yard.add("dev-2")
    await yard.bench.provision("dev-3")
    stays = [Wire() for _ in range(3)]
    await yard.connect(yard.ca.device(DEVICE, now=yard.now), gone := Wire())
    await yard.connect(other.device("dev-2", now=yard.now), stays[0], "dev-2")
    await yard.bench.connect("dev-3", await yard.bench.provision("dev-3"), stays[1])
    async with yard.bench.reading_the_outbox():
        await yard.forget()
        async with asyncio.timeout(10):
            while not gone.endings:
                await asyncio.sleep(0.01)
    assert [wire.endings for wire in stays] == [[], [], []]


async def test_drawing_a_code_ends_nothing(yard: Yard) -> None:
    await yard.connect(yard.ca.device(DEVICE, now=yard.now), wire := Wire())
    await yard.uploaded.new_code(yard.owner, "maker", if_match=None, by=SYSTEM)
    await yard.bench.outbox.drain()
    assert wire.endings == []


@pytest.mark.parametrize("what", ["deleted", "listed"])
async def test_what_goes_between_the_look_and_the_session_lets_nobody_in(
    yard: Yard, what: str
) -> None:
    held = yard.ca.device(DEVICE, now=yard.now)
    act, _ = CAUSES[what]

    async def step() -> None:  # before the second write: the first is the one statement
        yard.bench.store.before_write.append(lambda: act(yard, held))

    yard.bench.store.before_write.append(step)
    await yard.refusal(held)
    assert len(yard.bench.hubs.live) == 0


# --- explained


async def test_standing_says_that_no_ca_was_uploaded(yard: Yard) -> None:
    await yard.forget()
    [standing] = (await yard.bench.hubs.standing(yard.bench.made.namespace, DEVICE)).identities
    assert standing.against == ("no CA was uploaded and verified",)
    await yard.upload(yard.ca)
    [standing] = (await yard.bench.hubs.standing(yard.bench.made.namespace, DEVICE)).identities
    assert standing.against == ()


async def test_ca_that_is_over_lets_nobody_in(yard: Yard) -> None:
    held = yard.ca.device(DEVICE, now=yard.now, end=800 * DAY)
    session = await yard.connect(held)
    assert session.principal.expires_at == yard.ca.certificate.not_valid_after_utc
    yard.bench.clock.advance(365 * DAY + timedelta(seconds=1))
    assert await yard.refusal(held) == "certificate of an uploaded CA refused (expired)"
