"""What a namespace is made of: its root, its policies and their issuing CAs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID

from fleetroot.audit import SYSTEM
from fleetroot.custody import SealBroken
from fleetroot.errors import AlreadyExists, InvalidArgument, NotFound
from fleetroot.pki import KeyType
from fleetroot.registry import authorities
from fleetroot.registry.model import Authority, AuthorityKind
from workbench import PKI_URL, Workbench


async def authority(bench: Workbench, kind: AuthorityKind) -> Authority:
    found = await bench.registry.authorities(bench.made.namespace)
    [one] = [a for a in found if a.kind is kind]
    return one


def parsed(authority: Authority) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.certificate)


async def test_root_signed_itself(bench: Workbench) -> None:
    root = parsed(await authority(bench, AuthorityKind.ROOT))
    root.verify_directly_issued_by(root)


async def test_root_has_no_issuer_above_it(bench: Workbench) -> None:
    assert (await authority(bench, AuthorityKind.ROOT)).issuer_id is None


async def test_issuing_ca_of_a_policy_is_signed_by_the_root(bench: Workbench) -> None:
    root = await authority(bench, AuthorityKind.ROOT)
    issuing = await authority(bench, AuthorityKind.ISSUING)
    parsed(issuing).verify_directly_issued_by(parsed(root))
    assert (issuing.issuer_id, issuing.id) == (root.id, bench.made.policy.authority_id)


async def test_issuing_ca_names_the_public_pki_url(bench: Workbench) -> None:
    issuing = parsed(await authority(bench, AuthorityKind.ISSUING))
    access = issuing.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    places = {a.access_method: a.access_location.value for a in access}
    assert places[AuthorityInformationAccessOID.CA_ISSUERS].startswith(PKI_URL + "/")


async def test_every_policy_has_a_ca_of_its_own(bench: Workbench) -> None:
    other = await bench.policies.create(bench.made.namespace, "other", by=SYSTEM)
    assert other.authority_id != bench.made.policy.authority_id


async def test_key_of_an_authority_signs_for_it(bench: Workbench) -> None:
    issuing = await authority(bench, AuthorityKind.ISSUING)
    key = authorities.signing_key(bench.custody, issuing)
    assert key.public_key() == parsed(issuing).public_key()


async def test_sealed_key_of_one_authority_does_not_open_as_anothers(bench: Workbench) -> None:
    root = await authority(bench, AuthorityKind.ROOT)
    issuing = await authority(bench, AuthorityKind.ISSUING)
    assert issuing.sealed_key is not None
    name = authorities.key_name(root.namespace_id, root.id)
    with pytest.raises(SealBroken):
        bench.custody.load(name, issuing.sealed_key)


async def test_sealed_key_is_not_shown(bench: Workbench) -> None:
    issuing = await authority(bench, AuthorityKind.ISSUING)
    assert "sealed_key" not in repr(issuing)


@pytest.mark.parametrize(
    ("key_type", "curve"), [(KeyType.EC_P256, ec.SECP256R1), (KeyType.EC_P384, ec.SECP384R1)]
)
async def test_policy_chooses_the_kind_of_its_cas_key(
    bench: Workbench, key_type: KeyType, curve: type[ec.EllipticCurve]
) -> None:
    policy = await bench.policies.create(
        bench.made.namespace, "other", authority_key_type=key_type, by=SYSTEM
    )
    key = parsed(await bench.registry.authority(policy.authority_id)).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, curve)


async def test_a_policy_comes_back_as_it_was_made(bench: Workbench) -> None:
    made = await bench.policies.create(
        bench.made.namespace,
        "other",
        leaf_validity=timedelta(days=7, hours=12),
        leaf_key_types=[KeyType.EC_P384],
        by=SYSTEM,
    )
    assert await bench.registry.policy(bench.made.namespace, "other") == made


async def test_names_are_found_in_any_spelling(bench: Workbench) -> None:
    assert await bench.registry.namespace("DEFAULT") == bench.made.namespace
    assert await bench.registry.policy(bench.made.namespace, "Default") == bench.made.policy


async def test_names_are_unique_in_any_spelling(bench: Workbench) -> None:
    with pytest.raises(AlreadyExists):
        await bench.policies.create(bench.made.namespace, "DEFAULT", by=SYSTEM)


async def test_policy_that_could_not_be_made_leaves_no_authority(bench: Workbench) -> None:
    before = bench.contents()
    with pytest.raises(AlreadyExists):
        await bench.policies.create(bench.made.namespace, "DEFAULT", by=SYSTEM)
    assert bench.contents() == before


async def test_two_namespaces_may_have_policies_of_one_name(bench: Workbench) -> None:
    other = await bench.namespaces.create(
        "other", subscription_id="s", resource_group="g", pki_url=PKI_URL, by=SYSTEM
    )
    policy = await bench.policies.create(other, "default", by=SYSTEM)
    assert await bench.registry.policy(other, "default") == policy
    assert await bench.registry.policy(bench.made.namespace, "default") == bench.made.policy


@pytest.mark.parametrize("validity", [timedelta(days=7) - timedelta(seconds=1), timedelta(days=91)])
async def test_policy_with_a_validity_out_of_range_is_refused(
    bench: Workbench, validity: timedelta
) -> None:
    with pytest.raises(InvalidArgument):
        await bench.policies.create(
            bench.made.namespace, "other", leaf_validity=validity, by=SYSTEM
        )


async def test_policy_that_allows_no_key_type_is_refused(bench: Workbench) -> None:
    with pytest.raises(InvalidArgument):
        await bench.policies.create(bench.made.namespace, "other", leaf_key_types=[], by=SYSTEM)


@pytest.mark.parametrize("name", ["", "x", "-abc", "a b", "a/b", "x" * 51, "é" * 5])
async def test_a_name_that_is_none_is_refused(bench: Workbench, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await bench.policies.create(bench.made.namespace, name, by=SYSTEM)


async def test_what_does_not_exist_is_not_found(bench: Workbench) -> None:
    with pytest.raises(NotFound):
        await bench.registry.namespace("other")
    with pytest.raises(NotFound):
        await bench.registry.policy(bench.made.namespace, "other")
    with pytest.raises(NotFound):
        await bench.registry.device(bench.made.namespace, "other")
