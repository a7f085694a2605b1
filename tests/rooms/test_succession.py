"""One issuing CA follows another: in time, at every place of what devices do, and after it was
revoked.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from test_every_interleaving import Actors, at_every_place, in_one_commit

import database
from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.custody import SealBroken
from fleetroot.errors import EtagMismatch, Unauthorized, Unavailable
from fleetroot.hub import hubs
from fleetroot.hub.model import CredentialWish, Ending, Issued
from fleetroot.registry import authorities
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.registry.policy_administration import PolicyPatch
from workbench import Wire, Workbench

DAY = timedelta(days=1)
MONTH = 30 * DAY


async def signing(bench: Workbench) -> Authority:
    """The CA that signs for policy `default` now."""
    details = await bench.policies.get(bench.made.namespace, "default")
    assert details.authority is not None
    return details.authority


async def issuing(bench: Workbench) -> list[Authority]:
    found = await bench.registry.authorities(bench.made.namespace)
    return [each for each in found if each.kind is AuthorityKind.ISSUING]


async def renew_issuer(actors: Actors) -> None:
    bench = actors.bench
    await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)


async def revoke_issuer(actors: Actors) -> None:
    bench = actors.bench
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)


async def all_was_given_and_is_let_in(actors: Actors) -> None:
    assert all(await actors.lets_in())
    assert len(actors.given) + len(actors.sessions) == 2


async def renewed_and_let_in(actors: Actors) -> None:
    assert all(await actors.lets_in())
    assert len(actors.given) == 2


async def only_what_the_new_ca_signed_is_let_in(actors: Actors) -> None:
    new = await signing(actors.bench)
    issued = {
        each.certificate: each.authority_id
        for each in await actors.bench.inventory(actors.device_id)
    }
    by_new = [issued[certified.chain[0]] == new.id for certified in actors.given]
    assert await actors.lets_in() == by_new
    assert not by_new[0]
    for session in actors.sessions:
        assert session.ended is not None or by_new[-1]


# --- in time


async def test_no_leaf_is_cut_short_in_twenty_years(bench: Workbench) -> None:
    validity = bench.made.policy.leaf_validity
    before = await signing(bench)
    seen = {before.id}
    root_end = (await bench.namespaces.credential(bench.made.namespace)).root.not_after
    number = 0
    while bench.clock.now() + authorities.ISSUING_VALIDITY < root_end:
        bench.clock.advance(25 * DAY)
        await bench.lifecycle.renew_due()
        number += 1
        certified = await bench.provision(f"dev-{number}")
        [leaf] = await bench.inventory(f"dev-{number}")
        issuer = await bench.registry.authority(leaf.authority_id)
        assert leaf.not_after == bench.clock.now() + validity
        assert leaf.not_after <= issuer.not_after
        await bench.connect(f"dev-{number}", certified)
        seen.add(issuer.id)
    assert len(seen) == 4  # one in five years


async def test_ca_is_renewed_a_month_before_it_would_cut_a_leaf_short(bench: Workbench) -> None:
    old = await signing(bench)
    bench.clock.advance(old.not_after - bench.clock.now() - 2 * MONTH)
    await bench.lifecycle.renew_due()
    assert await signing(bench) == old
    bench.clock.advance(timedelta(seconds=1))
    await bench.lifecycle.renew_due()
    assert (await signing(bench)).not_after > old.not_after
    await bench.lifecycle.renew_due()
    assert len(await issuing(bench)) == 2


@pytest.mark.parametrize(
    "error", [SealBroken("broken"), Unavailable("the token is away")], ids=repr
)
async def test_ca_that_cannot_be_renewed_now_is_renewed_later(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    old = await signing(bench)
    bench.clock.advance(old.not_after - bench.clock.now() - MONTH)
    with monkeypatch.context() as away:
        away.setattr(authorities, "signing_key", fails)
        await bench.lifecycle.renew_due()
        assert await signing(bench) == old
    await bench.lifecycle.renew_due()
    assert await signing(bench) != old


async def test_leaf_of_the_old_ca_is_good_to_its_end(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    [leaf] = await bench.inventory("dev-1")
    bench.clock.advance(leaf.not_after - bench.clock.now())
    await bench.connect("dev-1", certified)
    bench.clock.advance(timedelta(seconds=1))
    with pytest.raises(Unauthorized, match="Unauthorized"):
        await bench.connect("dev-1", certified)


async def test_hub_that_trusted_the_old_ca_trusts_the_new_one_and_no_other_hub_does(
    bench: Workbench,
) -> None:
    other = await bench.hubs.create(bench.made.namespace, "second", "second.example")
    await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    new = await signing(bench)
    rows = database.rows(bench.folder, "SELECT hub_id, authority_id FROM hub_authorities")
    assert (bench.made.hub.id, new.id) in rows
    assert other.id not in {hub_id for hub_id, _ in rows}


async def test_new_ca_is_trusted_by_the_commit_that_lets_it_sign(
    bench: Workbench, tmp_path: Path
) -> None:
    found: list[dict[str, list[tuple[object, ...]]]] = []

    async def look() -> None:
        found.append(bench.contents())

    bench.store.before_write.append(look)
    bench.store.after_write.append(look)
    await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    before, after = found
    assert len(after["authorities"]) == len(before["authorities"]) + 1
    assert len(after["hub_authorities"]) == len(before["hub_authorities"]) + 1


async def test_new_hub_trusts_the_cas_of_leaves_that_still_live(bench: Workbench) -> None:
    old = await signing(bench)
    await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    other = await bench.hubs.create(bench.made.namespace, "second", "second.example")
    await bench.hubs.synchronize(bench.made.namespace)
    rows = database.rows(bench.folder, "SELECT hub_id, authority_id FROM hub_authorities")
    assert {a for hub, a in rows if hub == other.id} == {old.id, (await signing(bench)).id}


async def test_ca_whose_root_ends_soon_is_not_renewed_again_and_again(bench: Workbench) -> None:
    root = (await bench.namespaces.credential(bench.made.namespace)).root
    bench.clock.advance(root.not_after - bench.clock.now() - 50 * DAY)
    await bench.lifecycle.renew_due()
    await bench.lifecycle.renew_due()
    assert len(await issuing(bench)) == 2
    assert (await signing(bench)).not_after == root.not_after


@pytest.mark.parametrize("act", [Actors.provision, Actors.connect], ids=lambda act: act.__name__)
async def test_nobody_is_refused_wherever_a_ca_follows_another(
    bench: Workbench, act: object
) -> None:
    places = await at_every_place(
        bench,
        act,  # type: ignore[arg-type]
        renew_issuer,
        all_was_given_and_is_let_in,
        connected=False,
    )
    assert places >= 2


async def test_renewal_in_flight_succeeds_wherever_a_ca_follows_another(bench: Workbench) -> None:
    assert (
        await at_every_place(bench, Actors.renew, renew_issuer, renewed_and_let_in, connected=True)
        >= 8
    )


@pytest.mark.parametrize(
    "interfere", [Actors.provision, Actors.connect], ids=lambda act: act.__name__
)
async def test_device_that_comes_while_a_ca_follows_another_is_let_in(
    bench: Workbench, interfere: object
) -> None:
    assert (
        await at_every_place(
            bench,
            renew_issuer,
            interfere,  # type: ignore[arg-type]
            all_was_given_and_is_let_in,
            connected=False,
        )
        >= 4
    )


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
async def test_registration_that_shares_a_commit_with_the_succession_is_let_in(
    bench: Workbench, order: int
) -> None:
    actors = await Actors.of_device(bench, "dev-1", connected=False)
    await in_one_commit(actors, *(renew_issuer, Actors.provision)[::order])
    await actors.check()
    await all_was_given_and_is_let_in(actors)


async def test_two_who_renew_at_the_same_time_leave_one_ca_that_signs(bench: Workbench) -> None:
    bench.store.before_write.append(
        lambda: bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    )
    renewed = await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    assert renewed.authority == await signing(bench)
    await bench.provision("dev-1")
    [leaf] = await bench.inventory("dev-1")
    assert leaf.authority_id == (await signing(bench)).id


async def test_policy_that_is_patched_meanwhile_keeps_the_patch_and_gets_the_ca(
    bench: Workbench,
) -> None:
    patch = PolicyPatch(leaf_validity=8 * DAY)
    old = await signing(bench)
    bench.store.before_write.append(
        lambda: bench.policies.patch(bench.made.namespace, "default", patch, by=SYSTEM)
    )
    renewed = await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    assert renewed.policy.leaf_validity == 8 * DAY
    assert renewed.authority != old


# --- revocation of the issuer


async def test_revoked_issuer_ends_connections_and_refuses_its_leaves(bench: Workbench) -> None:
    certified, wire = await bench.provision("dev-1"), Wire()
    await bench.connect("dev-1", certified, wire)
    old = await signing(bench)
    details = await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    await bench.outbox.drain()
    assert wire.endings == [Ending.REVOKED]
    with pytest.raises(Unauthorized) as refused:
        await bench.connect("dev-1", certified)
    assert refused.value.reason == "issuing CA revoked"
    assert (await bench.registry.authority(old.id)).revoked_at == bench.clock.now()
    assert details.authority is not None
    assert details.authority.id != old.id
    assert details.authority.certificate != old.certificate


async def test_devices_provision_again_after_their_issuer_was_revoked(bench: Workbench) -> None:
    await bench.provision("dev-1")
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    again = await bench.provision("dev-1")
    await bench.connect("dev-1", again)


async def test_revocation_that_is_heard_while_a_device_comes_in_ends_it(
    bench: Workbench,
) -> None:
    certified = await bench.provision("dev-1")

    async def revoke_and_hear() -> None:
        await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
        await bench.outbox.drain()

    bench.store.after_write.append(revoke_and_hear)
    with pytest.raises(Unauthorized, match="Unauthorized") as refused:
        await bench.connect("dev-1", certified)
    assert refused.value.reason == "ended while connecting: revoked"


async def test_leaves_of_a_revoked_issuer_are_revoked_in_the_inventory(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    [leaf] = await bench.inventory("dev-1")
    assert leaf.status(bench.clock.now()) == "revoked"
    assert leaf.revocation_reason == "cACompromise"
    found = await bench.registry.certificate(bench.made.namespace, leaf.sha256.hex())
    assert found == leaf
    standing = await bench.hubs.standing(bench.made.namespace, "dev-1")
    assert standing.identities[0].against == ("issuing CA revoked",)
    assert certified.chain[0] == leaf.certificate


async def test_every_ca_of_the_policy_is_revoked_and_none_of_another(bench: Workbench) -> None:
    namespace = bench.made.namespace
    other = await bench.policies.create(namespace, "other", by=SYSTEM)
    certified = await bench.provision("dev-1")
    await bench.lifecycle.renew(namespace, "default", by=SYSTEM)
    await bench.lifecycle.revoke_issuer(namespace, "default", by=SYSTEM)
    living = {each.id for each in await issuing(bench) if each.revoked_at is None}
    assert living == {other.authority_id, (await signing(bench)).id}
    with pytest.raises(Unauthorized):
        await bench.connect("dev-1", certified)


async def test_connections_of_other_policies_stay(bench: Workbench) -> None:
    wire = Wire()
    await bench.connect("dev-1", await bench.provision("dev-1"), wire)
    await bench.policies.create(bench.made.namespace, "other", by=SYSTEM)
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "other", by=SYSTEM)
    await bench.outbox.drain()
    assert wire.endings == []


async def test_thousand_connections_end_by_one_notice(bench: Workbench) -> None:
    wires = [Wire() for _ in range(600)]
    for number, wire in enumerate(wires):
        certified = await bench.provision(f"dev-{number}")
        await bench.connect(f"dev-{number}", certified, wire)
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    await bench.outbox.drain()
    assert {tuple(wire.endings) for wire in wires} == {(Ending.REVOKED,)}


async def test_every_hub_is_synchronized_after_a_revocation(bench: Workbench) -> None:
    other = await bench.hubs.create(bench.made.namespace, "second", "second.example")
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    new = await signing(bench)
    rows = database.rows(bench.folder, "SELECT hub_id, authority_id FROM hub_authorities")
    assert set(rows) == {(bench.made.hub.id, new.id), (other.id, new.id)}


async def test_revoked_ca_does_not_come_back_by_synchronizing(bench: Workbench) -> None:
    old = await signing(bench)
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    assert await bench.hubs.synchronize(bench.made.namespace) == 0
    rows = database.rows(bench.folder, "SELECT authority_id FROM hub_authorities")
    assert (old.id,) not in rows


async def test_synchronization_under_way_does_not_bring_a_revoked_ca_back(
    bench: Workbench,
) -> None:
    namespace = bench.made.namespace
    bench.store.before_write.append(
        lambda: bench.lifecycle.revoke_issuer(namespace, "default", by=SYSTEM)
    )
    old = await signing(bench)
    await bench.hubs.synchronize(namespace)
    assert not await bench.store.store.read(
        lambda tx: old.id in hubs.trusted(tx, bench.made.hub.id)
    )


async def test_revocation_of_an_older_version_is_refused(bench: Workbench) -> None:
    await bench.lifecycle.renew(bench.made.namespace, "default", by=SYSTEM)
    with pytest.raises(EtagMismatch):
        await bench.lifecycle.revoke_issuer(
            bench.made.namespace, "default", if_match=bench.made.policy.etag, by=SYSTEM
        )


async def test_revocation_is_one_commit(bench: Workbench, tmp_path: Path) -> None:
    """So there is no step between which it could be cut: a crash finds all of it or nothing."""
    await bench.provision("dev-1")
    units = 0

    async def count() -> None:
        nonlocal units
        units += 1
        bench.store.after_write.append(count)

    bench.store.after_write.append(count)
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    assert units == 1


@pytest.mark.parametrize("act", [Actors.provision, Actors.connect], ids=lambda act: act.__name__)
async def test_nothing_of_a_revoked_issuer_is_let_in_wherever_it_is_revoked(
    bench: Workbench, act: object
) -> None:
    places = await at_every_place(
        bench,
        act,  # type: ignore[arg-type]
        revoke_issuer,
        only_what_the_new_ca_signed_is_let_in,
        connected=False,
    )
    assert places >= 2


async def test_renewal_of_a_device_of_a_revoked_issuer_gets_nothing_that_is_let_in(
    bench: Workbench,
) -> None:
    places = await at_every_place(
        bench,
        Actors.renew,
        revoke_issuer,
        only_what_the_new_ca_signed_is_let_in,
        connected=True,
    )
    assert places >= 8


async def test_registration_meets_the_revocation_and_gets_a_leaf_of_the_new_ca(
    bench: Workbench,
) -> None:
    bench.store.before_write.append(
        lambda: bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    )
    certified = await bench.provision("dev-1")
    await bench.connect("dev-1", certified)
    issuer = x509.load_der_x509_certificate((await signing(bench)).certificate)
    certified.leaf.verify_directly_issued_by(issuer)


async def test_renewal_that_was_signed_before_its_ca_was_revoked_is_signed_again(
    bench: Workbench,
) -> None:
    """The session is of another CA, which is not revoked; the certificate would be of the one that
    is."""
    namespace = bench.made.namespace
    wire = Wire()
    session = await bench.connect("dev-1", await bench.provision("dev-1"), wire)
    [old] = await issuing(bench)

    async def revoke_what_signs() -> None:
        new = await signing(bench)
        with bench.sql() as connection:
            connection.exec_driver_sql(
                f"UPDATE authorities SET revoked_at = 1 WHERE id = '{new.id}'"
            )
        await bench.lifecycle.renew(namespace, "default", by=SYSTEM)

    async def at_the_second_write() -> None:
        bench.store.before_write.append(revoke_what_signs)

    await bench.lifecycle.renew(namespace, "default", by=SYSTEM)
    bench.store.before_write.append(at_the_second_write)
    await bench.renew(session, "1", CredentialWish("dev-1", device_csr("dev-1")[1], None))
    [issued] = [answer for answer in wire.answers if isinstance(answer, Issued)]
    leaf = x509.load_der_x509_certificate(issued.chain.certificates[0])
    leaf.verify_directly_issued_by(
        x509.load_der_x509_certificate((await signing(bench)).certificate)
    )
    assert old.revoked_at is None
