"""What operators do with policies: several of a namespace, what one may say, change and delete."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    EtagMismatch,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from fleetroot.pki import KeyType, certified_key
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.registry import authorities
from fleetroot.registry.model import IssuerStatus
from fleetroot.registry.policy_administration import LeafLimits, PolicyPatch
from workbench import PKI_URL, Workbench

DAY = timedelta(days=1)
OTHER = "other"


async def subjects(bench: Workbench) -> list[str]:
    found = await bench.registry.authorities(bench.made.namespace)
    return [
        x509.load_der_x509_certificate(each.certificate).subject.rfc4514_string() for each in found
    ]


async def issuer(bench: Workbench, device_id: str) -> str:
    """The CA that issued the device's newest certificate."""
    return (await bench.inventory(device_id))[0].authority_id


# --- create


async def test_policies_of_a_namespace_have_cas_of_their_own(bench: Workbench) -> None:
    await bench.policies.create(bench.made.namespace, OTHER, by=SYSTEM)
    found = await bench.policies.list_all(bench.made.namespace)
    assert [each.policy.name for each in found] == ["default", OTHER]
    assert found[0].authority != found[1].authority
    assert {each.issuer_status for each in found} == {IssuerStatus.ACTIVE}


@pytest.mark.parametrize("key_type", sorted(authorities.AUTHORITY_KEY_TYPES))
async def test_ca_has_the_key_type_that_the_policy_names(
    bench: Workbench, key_type: KeyType
) -> None:
    await bench.policies.create(bench.made.namespace, OTHER, authority_key_type=key_type, by=SYSTEM)
    found = await bench.policies.get(bench.made.namespace, OTHER)
    assert found.authority is not None
    _, certified = certified_key(x509.load_der_x509_certificate(found.authority.certificate))
    assert certified == found.policy.authority_key_type == key_type


async def test_ca_with_an_rsa_key_of_2048_bits_is_refused(bench: Workbench) -> None:
    with pytest.raises(InvalidArgument, match="cannot have a key of type RSA-2048"):
        await bench.policies.create(
            bench.made.namespace, OTHER, authority_key_type=KeyType.RSA_2048, by=SYSTEM
        )


def test_limits_of_leaf_validity_are_a_setting() -> None:
    wider = LeafLimits(shortest=timedelta(hours=1), longest=timedelta(days=365))
    wider.check(timedelta(hours=1))
    wider.check(timedelta(days=365))
    with pytest.raises(InvalidArgument, match="7 to 90 days"):
        LeafLimits().check(timedelta(hours=1))


@pytest.mark.parametrize("subject", ["Plant 7", "CN=Plant 7,OU=Devices,O=Example"])
async def test_ca_has_the_subject_that_the_policy_names(bench: Workbench, subject: str) -> None:
    await bench.policies.create(bench.made.namespace, OTHER, subject=subject, by=SYSTEM)
    wanted = subject if "=" in subject else f"CN={subject}"
    assert wanted in await subjects(bench)


@pytest.mark.parametrize("subject", ["", "CN", "=", "x" * 300, "CN=a\nb", "O="])
async def test_subject_that_is_none_is_refused(bench: Workbench, subject: str) -> None:
    if subject == "CN":
        subject = "CN=,="
    with pytest.raises(InvalidArgument, match="subject"):
        await bench.policies.create(bench.made.namespace, OTHER, subject=subject, by=SYSTEM)


@pytest.mark.parametrize("again", ["Plant 7", "CN=plant  7", "CN=PLANT 7"])
async def test_subject_of_another_policy_is_refused(bench: Workbench, again: str) -> None:
    await bench.policies.create(bench.made.namespace, OTHER, subject="Plant 7", by=SYSTEM)
    with pytest.raises(AlreadyExists, match="subject"):
        await bench.policies.create(bench.made.namespace, "third", subject=again, by=SYSTEM)


async def test_subject_of_the_root_or_a_ca_that_named_itself_is_refused(bench: Workbench) -> None:
    for taken in await subjects(bench):
        with pytest.raises(AlreadyExists, match="subject"):
            await bench.policies.create(bench.made.namespace, OTHER, subject=taken, by=SYSTEM)


async def test_subject_is_free_in_another_namespace_and_after_a_deletion(bench: Workbench) -> None:
    namespace = bench.made.namespace
    second = await bench.namespaces.create(
        "second", subscription_id="s", resource_group="g", pki_url=PKI_URL, by=SYSTEM
    )
    await bench.policies.create(namespace, OTHER, subject="Plant 7", by=SYSTEM)
    await bench.policies.create(second, OTHER, subject="Plant 7", by=SYSTEM)
    await bench.policies.delete(namespace, OTHER, by=SYSTEM)
    await bench.policies.create(namespace, OTHER, subject="Plant 7", by=SYSTEM)


async def test_policy_needs_a_credential(bench: Workbench) -> None:
    bare = await bench.namespaces.create("bare", subscription_id="s", resource_group="g", by=SYSTEM)
    with pytest.raises(NotFound, match="credential"):
        await bench.policies.create(bare, OTHER, by=SYSTEM)


# --- patch


async def test_patch_changes_the_leaves_from_then_on(bench: Workbench) -> None:
    await bench.provision("dev-1")
    patch = PolicyPatch(leaf_validity=7 * DAY, leaf_key_types=frozenset({KeyType.EC_P384}))
    changed = await bench.policies.patch(bench.made.namespace, "default", patch, by=SYSTEM)
    assert changed.policy.leaf_validity == 7 * DAY
    await bench.provision("dev-2")
    [before], [after] = await bench.inventory("dev-1"), await bench.inventory("dev-2")
    assert before.not_after - bench.clock.now() == 30 * DAY
    assert after.not_after - bench.clock.now() == 7 * DAY


async def test_patch_of_an_older_version_is_refused(bench: Workbench) -> None:
    patch = PolicyPatch(leaf_validity=8 * DAY)
    etag = bench.made.policy.etag
    after = await bench.policies.patch(
        bench.made.namespace, "default", patch, if_match=etag, by=SYSTEM
    )
    assert after.policy.etag != etag
    with pytest.raises(EtagMismatch):
        await bench.policies.patch(bench.made.namespace, "default", patch, if_match=etag, by=SYSTEM)


@pytest.mark.parametrize(
    "patch", [PolicyPatch(leaf_validity=DAY), PolicyPatch(leaf_key_types=frozenset())]
)
async def test_patch_that_cannot_be_changes_nothing(bench: Workbench, patch: PolicyPatch) -> None:
    before = bench.contents()
    with pytest.raises(InvalidArgument):
        await bench.policies.patch(bench.made.namespace, "default", patch, by=SYSTEM)
    assert bench.contents() == before


async def test_patch_to_leaves_that_outlive_the_ca_renews_it_with_the_same_commit(
    bench: Workbench,
) -> None:
    bench.clock.advance(authorities.ISSUING_VALIDITY - 80 * DAY)
    patch = PolicyPatch(leaf_validity=90 * DAY)
    changed = await bench.policies.patch(bench.made.namespace, "default", patch, by=SYSTEM)
    assert changed.policy.authority_id != bench.made.policy.authority_id
    certified = await bench.provision("dev-1")
    [leaf] = await bench.inventory("dev-1")
    assert leaf.not_after - bench.clock.now() == 90 * DAY
    await bench.connect("dev-1", certified)


# --- delete


async def test_deleted_policy_issues_nothing_and_what_it_issued_works(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    await bench.policies.delete(bench.made.namespace, "default", by=SYSTEM)
    with pytest.raises(NotFound):
        await bench.policies.get(bench.made.namespace, "default")
    with pytest.raises(Unavailable, match="cannot issue"):
        await bench.register("dev-1", device_csr("dev-1")[1])
    with pytest.raises(Unavailable, match="cannot issue"):
        await bench.provision("dev-2")
    await bench.connect("dev-1", certified)


async def test_deleted_policy_stops_working_where_its_ca_is_taken_from_the_hub(
    bench: Workbench,
) -> None:
    certified = await bench.provision("dev-1")
    session = await bench.connect("dev-1", certified)
    await bench.policies.delete(bench.made.namespace, "default", by=SYSTEM)
    authority_id = bench.made.policy.authority_id
    assert authority_id is not None
    await bench.hubs.distrust(bench.made.hub, authority_id, by=SYSTEM)
    await bench.outbox.drain()
    assert session.ended is not None
    assert await bench.hubs.synchronize(bench.made.namespace) == 0


async def test_name_of_a_deleted_policy_is_free_and_its_enrollments_do_not_move_to_the_new_one(
    bench: Workbench,
) -> None:
    await bench.policies.delete(bench.made.namespace, "default", by=SYSTEM)
    made = await bench.policies.create(bench.made.namespace, "default", by=SYSTEM)
    with pytest.raises(Unavailable, match="cannot issue"):
        await bench.provision("dev-1")
    await bench.administration.put(
        bench.made.service,
        EnrollmentKind.GROUP,
        "default",
        EnrollmentSettings(policy_id=made.id),
        primary_key=bench.made.group.keys.primary,
        if_match="*",
        by=SYSTEM,
    )
    await bench.provision("dev-1")
    assert await issuer(bench, "dev-1") == made.authority_id


async def test_deletion_of_an_older_version_is_refused(bench: Workbench) -> None:
    with pytest.raises(EtagMismatch):
        await bench.policies.delete(bench.made.namespace, "default", if_match="another", by=SYSTEM)


# --- credentials and namespaces


async def test_credential_with_policies_cannot_be_deleted(bench: Workbench) -> None:
    with pytest.raises(Conflict, match="policies"):
        await bench.namespaces.delete_credential(bench.made.namespace, by=SYSTEM)


async def test_deleted_credential_does_not_come_back_and_another_has_another_root(
    bench: Workbench,
) -> None:
    namespace = bench.made.namespace
    before = await bench.namespaces.credential(namespace)
    await bench.policies.delete(namespace, "default", by=SYSTEM)
    await bench.namespaces.delete_credential(namespace, by=SYSTEM)
    assert await bench.namespaces.credentials(namespace) == []
    with pytest.raises(NotFound):
        await bench.policies.create(namespace, OTHER, by=SYSTEM)
    after = await bench.namespaces.create_credential(
        namespace, key_type=KeyType.ML_DSA_65, pki_url=PKI_URL, by=SYSTEM
    )
    assert after.root.id != before.root.id
    policy = await bench.policies.create(namespace, OTHER, by=SYSTEM)
    assert (await bench.registry.authority(policy.authority_id)).issuer_id == after.root.id


async def test_second_credential_is_refused(bench: Workbench) -> None:
    with pytest.raises(AlreadyExists):
        await bench.namespaces.create_credential(bench.made.namespace, pki_url=PKI_URL, by=SYSTEM)


async def test_namespace_that_is_not_empty_cannot_be_deleted(bench: Workbench) -> None:
    with pytest.raises(Conflict, match="hubs"):
        await bench.namespaces.delete("default", by=SYSTEM)
    second = await bench.namespaces.create(
        "second", subscription_id="s", resource_group="g", pki_url=PKI_URL, by=SYSTEM
    )
    with pytest.raises(Conflict, match="credential"):
        await bench.namespaces.delete("second", by=SYSTEM)
    await bench.policies.create(second, OTHER, by=SYSTEM)
    with pytest.raises(Conflict, match="policies"):
        await bench.namespaces.delete("second", by=SYSTEM)


async def test_deleted_namespace_frees_its_name(bench: Workbench) -> None:
    first = await bench.namespaces.create(
        "second", subscription_id="s", resource_group="g", by=SYSTEM
    )
    await bench.namespaces.delete("second", if_match=first.etag, by=SYSTEM)
    with pytest.raises(NotFound):
        await bench.namespaces.get("second")
    again = await bench.namespaces.create(
        "second", subscription_id="s", resource_group="g", by=SYSTEM
    )
    assert again.id != first.id
    assert [each.name for each in await bench.namespaces.list_all()] == ["default", "second"]


async def test_tags_of_namespace_and_credential_are_replaced(bench: Workbench) -> None:
    namespace = await bench.namespaces.patch("default", {"site": "plant"}, by=SYSTEM)
    assert namespace.tags == {"site": "plant"}
    assert namespace.etag != bench.made.namespace.etag
    credential = await bench.namespaces.patch_credential(namespace, {"tier": "1"}, by=SYSTEM)
    assert credential.tags == {"tier": "1"}
    with pytest.raises(EtagMismatch):
        await bench.namespaces.patch("default", {}, if_match=bench.made.namespace.etag, by=SYSTEM)


async def test_too_many_tags_are_refused(bench: Workbench) -> None:
    with pytest.raises(InvalidArgument, match="tags"):
        await bench.namespaces.patch(
            "default", {str(number): "" for number in range(51)}, by=SYSTEM
        )
