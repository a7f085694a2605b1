"""Policies whose CA is signed by a root of somebody else, which the `openssl` command is here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import AlreadyExists, Conflict, InvalidArgument, Unavailable
from fleetroot.pki import ActivationRule, KeyType
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.registry.expiry import ExpiryWatch
from fleetroot.registry.model import IssuerStatus, PolicyDetails
from fleetroot.registry.policy_administration import PolicyPatch
from openssl_ca import OpensslCa, openssl
from workbench import Workbench

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="apt-get install openssl")
NAME, SUBJECT = "plant", "CN=Plant 7,OU=Devices,O=Example"
DAY = timedelta(days=1)
EC = ("EC", "-pkeyopt")


@pytest.fixture
def corp(tmp_path: Path) -> OpensslCa:
    return OpensslCa.root(tmp_path / "corp")


@pytest.fixture
async def csr(bench: Workbench) -> bytes:
    """A policy that waits for its CA; the request, DER."""
    await bench.policies.create(
        bench.made.namespace, NAME, subject=SUBJECT, bring_your_own_root=True, by=SYSTEM
    )
    return await request(bench)


async def details(bench: Workbench) -> PolicyDetails:
    return await bench.policies.get(bench.made.namespace, NAME)


async def request(bench: Workbench) -> bytes:
    waiting = (await details(bench)).request
    assert waiting is not None
    return waiting.request


async def activate(bench: Workbench, chain: str) -> PolicyDetails:
    bench.clock.advance(timedelta(minutes=1))  # openssl has a clock of its own
    return await bench.lifecycle.activate(bench.made.namespace, NAME, chain, by=SYSTEM)


async def use(bench: Workbench) -> None:
    """Lets the group issue under the policy, and the hub trust it."""
    policy = (await details(bench)).policy
    await bench.hubs.synchronize(bench.made.namespace)
    await bench.administration.put(
        bench.made.service,
        EnrollmentKind.GROUP,
        "default",
        EnrollmentSettings(policy_id=policy.id),
        primary_key=bench.made.group.keys.primary,
        if_match="*",
        by=SYSTEM,
    )


# --- how it goes


async def test_policy_waits_with_a_request_that_openssl_can_read(
    bench: Workbench, csr: bytes
) -> None:
    found = await details(bench)
    assert found.issuer_status is IssuerStatus.PENDING_ACTIVATION
    assert (found.authority, found.policy.authority_id) == (None, None)
    shown = openssl("req", "-inform", "DER", "-noout", "-verify", "-subject", "-text", stdin=csr)
    assert b"O = Example, OU = Devices, CN = Plant 7" in shown
    assert b"CA:TRUE, pathlen:0" in shown


async def test_nothing_is_issued_before_the_activation(bench: Workbench, csr: bytes) -> None:
    await use(bench)
    with pytest.raises(Unavailable, match="cannot issue"):
        await bench.provision("dev-1")
    result = await bench.register("dev-1")
    assert result.chain is None
    identity = await bench.identity("dev-1")
    assert identity is not None
    assert identity.policy_id == (await details(bench)).policy.id


@pytest.mark.parametrize("with_root", [True, False])
async def test_device_has_the_chain_up_to_the_root_as_it_was_given(
    bench: Workbench, corp: OpensslCa, csr: bytes, with_root: bool
) -> None:
    middle = corp.below("Corp Middle")
    above = middle.pem + (corp.pem if with_root else "")
    activated = await activate(bench, middle.sign(csr) + above)
    assert activated.issuer_status is IssuerStatus.ACTIVE
    await use(bench)
    certified = await bench.provision("dev-1")
    assert len(certified.chain) == (4 if with_root else 3)
    await bench.connect("dev-1", certified)
    [leaf] = await bench.inventory("dev-1")
    chain = await bench.store.store.read(lambda tx: bench.issuance.chain_of(tx, leaf.sha256))
    assert chain is not None
    assert chain.certificates == certified.chain


async def test_chain_of_a_device_is_one_that_openssl_verifies(
    bench: Workbench, corp: OpensslCa, csr: bytes, tmp_path: Path
) -> None:
    await activate(bench, corp.sign(csr) + corp.pem)
    await use(bench)
    certified = await bench.provision("dev-1")
    pem = [
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certified.chain
    ]
    (tmp_path / "leaf.pem").write_bytes(pem[0])
    (tmp_path / "untrusted.pem").write_bytes(pem[1])
    openssl(
        *("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", corp.certificate),
        *("-untrusted", tmp_path / "untrusted.pem", tmp_path / "leaf.pem"),
    )


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("key_type", [KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521])
async def test_keys_on_every_nist_curve_are_taken(
    bench: Workbench, tmp_path: Path, curve: str, key_type: KeyType
) -> None:
    corp = OpensslCa.root(tmp_path / "corp", key=(*EC, f"ec_paramgen_curve:{curve}"))
    await bench.policies.create(
        bench.made.namespace,
        NAME,
        authority_key_type=key_type,
        bring_your_own_root=True,
        by=SYSTEM,
    )
    await activate(bench, corp.sign(await request(bench)) + corp.pem)


@pytest.mark.parametrize("key_type", [KeyType.RSA_3072, KeyType.ML_DSA_65])
async def test_key_that_is_not_ec_is_refused_before_it_is_made(
    bench: Workbench, key_type: KeyType
) -> None:
    with pytest.raises(InvalidArgument, match="external root cannot have a key"):
        await bench.policies.create(
            bench.made.namespace,
            NAME,
            authority_key_type=key_type,
            bring_your_own_root=True,
            by=SYSTEM,
        )


@pytest.mark.parametrize(
    "subject", ["/O=EXAMPLE/OU=devices/CN=plant 7", "/O=Example/OU= Devices /CN=Plant   7"]
)
async def test_case_and_white_space_of_the_subject_do_not_matter(
    bench: Workbench, corp: OpensslCa, csr: bytes, subject: str
) -> None:
    await activate(bench, corp.sign(csr, "-subj", subject) + corp.pem)


async def test_certificate_without_extended_key_usage_is_taken(
    bench: Workbench, corp: OpensslCa, csr: bytes
) -> None:
    await activate(bench, corp.sign(csr, extendedKeyUsage="") + corp.pem)


async def test_certificate_that_the_root_signed_is_taken_without_the_root(
    bench: Workbench, corp: OpensslCa, csr: bytes
) -> None:
    await activate(bench, corp.sign(csr))


async def test_year_that_is_left_is_enough(bench: Workbench, corp: OpensslCa, csr: bytes) -> None:
    await activate(bench, corp.sign(csr, days=366) + corp.pem)


# --- every rule

Make = Callable[[OpensslCa, bytes], str]


def foreign(corp: OpensslCa, **root: str | tuple[str, ...]) -> OpensslCa:
    return OpensslCa.root(corp.folder / "foreign", **root)  # type: ignore[arg-type]


def other_key(corp: OpensslCa, _: bytes) -> str:
    key = corp.folder / "other.key"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", key)
    csr = openssl(
        *("req", "-new", "-key", key, "-config", "/dev/null"),
        *("-subj", "/O=Example/OU=Devices/CN=Plant 7"),
    )
    return corp.sign(csr) + corp.pem


def explicit_parameters(corp: OpensslCa, csr: bytes) -> str:
    explicit = ("ec_paramgen_curve:P-384", "-pkeyopt", "ec_param_enc:explicit")
    root = foreign(corp, key=(*EC, *explicit))
    return root.sign(csr) + root.pem


def rsa_root(corp: OpensslCa, csr: bytes) -> str:
    root = foreign(corp, key=("RSA", "-pkeyopt", "rsa_keygen_bits:3072"))
    return root.sign(csr) + root.pem


def curve_k1(corp: OpensslCa, csr: bytes) -> str:
    root = foreign(corp, key=(*EC, "ec_paramgen_curve:secp256k1"))
    return root.sign(csr) + root.pem


def below_with(**extensions: str) -> Make:
    def make(corp: OpensslCa, csr: bytes) -> str:
        middle = corp.below("Corp Middle", **extensions)
        return middle.sign(csr) + middle.pem + corp.pem

    return make


def signed_with(*options: str, **extensions: str) -> Make:
    return lambda corp, csr: corp.sign(csr, *options, **extensions) + corp.pem


def another_of_that_name(corp: OpensslCa, csr: bytes) -> str:
    namesake = foreign(corp, name="Corp Root")
    return corp.sign(csr, authorityKeyIdentifier="") + namesake.pem


def root_signed_with_sha1(corp: OpensslCa, csr: bytes) -> str:
    root = foreign(corp, digest="sha1")
    return root.sign(csr) + root.pem


def tampered_root(corp: OpensslCa, csr: bytes) -> str:
    der = bytearray(openssl("x509", "-in", corp.certificate, "-outform", "DER"))
    der[-1] ^= 1
    broken = openssl("x509", "-inform", "DER", stdin=bytes(der)).decode()
    return corp.sign(csr) + broken


def four_above(corp: OpensslCa, csr: bytes) -> str:
    chain, ca = corp.pem, corp
    for number in range(3):
        ca = ca.below(f"Corp {number}")
        chain = ca.pem + chain
    return ca.sign(csr) + chain


R = ActivationRule
REFUSED: dict[str, tuple[ActivationRule, Make]] = {
    "not PEM": (R.PEM, lambda _, csr: "nothing"),
    "a private key": (R.PEM, lambda corp, _: corp.key.read_text()),
    "not ASCII": (R.PEM, lambda corp, csr: "é" + corp.sign(csr)),
    "too long": (R.PEM, lambda corp, csr: corp.sign(csr) + "\n" * 50_000),
    "too many certificates": (R.PEM, four_above),
    "RSA root": (R.KEY_TYPE, rsa_root),
    "another curve": (R.KEY_TYPE, curve_k1),
    "explicit parameters": (R.EXPLICIT_PARAMETERS, explicit_parameters),
    "SHA-1": (
        R.SIGNATURE_ALGORITHM,
        lambda corp, csr: corp.sign(csr, digest="sha1") + corp.pem,
    ),
    "SHA-224": (
        R.SIGNATURE_ALGORITHM,
        lambda corp, csr: corp.sign(csr, digest="sha224") + corp.pem,
    ),
    "SHA-1 above": (R.SIGNATURE_ALGORITHM, root_signed_with_sha1),
    "another subject": (R.SUBJECT, signed_with("-subj", "/O=Example/CN=Plant 7")),
    "another order": (R.SUBJECT, signed_with("-subj", "/CN=Plant 7/OU=Devices/O=Example")),
    "another key": (R.PUBLIC_KEY, other_key),
    "version 1": (R.VERSION, lambda corp, csr: corp.sign_without_extensions(csr)),
    "no basic constraints": (R.BASIC_CONSTRAINTS, signed_with(basicConstraints="")),
    "not a CA": (R.BASIC_CONSTRAINTS, signed_with(basicConstraints="critical,CA:FALSE")),
    "not critical": (R.BASIC_CONSTRAINTS, signed_with(basicConstraints="CA:TRUE,pathlen:0")),
    "path length above": (
        R.PATH_LENGTH,
        below_with(basicConstraints="critical,CA:TRUE,pathlen:0"),
    ),
    "no key usage": (R.KEY_USAGE, signed_with(keyUsage="")),
    "no digitalSignature": (R.KEY_USAGE, signed_with(keyUsage="critical,keyCertSign,cRLSign")),
    "no keyCertSign": (R.KEY_USAGE, signed_with(keyUsage="critical,digitalSignature,cRLSign")),
    "no cRLSign": (R.KEY_USAGE, signed_with(keyUsage="critical,digitalSignature,keyCertSign")),
    "no clientAuth": (R.EXTENDED_KEY_USAGE, signed_with(extendedKeyUsage="serverAuth")),
    "no key identifier": (R.SUBJECT_KEY_IDENTIFIER, signed_with(subjectKeyIdentifier="none")),
    "a year less a day": (
        R.REMAINING_VALIDITY,
        lambda corp, csr: corp.sign(csr, days=364) + corp.pem,
    ),
    "root first": (R.CHAIN, lambda corp, csr: corp.sign(csr) + corp.below("Low").pem + corp.pem),
    "a certificate twice": (R.CHAIN, lambda corp, csr: corp.sign(csr) + corp.pem * 2),
    "no middle": (
        R.CHAIN,
        lambda corp, csr: corp.below("Corp Middle").sign(csr) + corp.pem,
    ),
    "another root": (R.CHAIN, lambda corp, csr: corp.sign(csr) + foreign(corp, name="X").pem),
    "a namesake's key": (R.CHAIN, another_of_that_name),
    "tampered root": (R.CHAIN, tampered_root),
    "above cannot sign": (R.CHAIN, below_with(keyUsage="critical,digitalSignature")),
    "above is no CA": (R.CHAIN, below_with(basicConstraints="critical,CA:FALSE", keyUsage="")),
    "unknown critical extension": (R.CHAIN, signed_with(**{"1.2.3.4": "critical,ASN1:NULL"})),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_chain_that_breaks_a_rule_is_refused_by_the_name_of_the_rule(
    bench: Workbench, corp: OpensslCa, csr: bytes, case: str
) -> None:
    rule, make = REFUSED[case]
    before = bench.contents()
    with pytest.raises(InvalidArgument) as refused:
        await activate(bench, make(corp, csr))
    assert refused.value.info == {"rule": rule.value}, refused.value.message
    assert bench.contents() == before


def test_every_rule_is_tested() -> None:
    elsewhere = {R.NOT_YET_VALID}
    assert {rule for rule, _ in REFUSED.values()} | elsewhere == set(R)


async def test_certificate_that_is_not_valid_yet_is_refused(
    bench: Workbench, corp: OpensslCa, csr: bytes
) -> None:
    bench.clock.set_back(timedelta(hours=1))
    with pytest.raises(InvalidArgument) as refused:
        await activate(bench, corp.sign(csr) + corp.pem)
    assert refused.value.info == {"rule": "not_yet_valid"}


async def test_certificate_must_outlive_a_leaf_of_the_policy(
    bench: Workbench, corp: OpensslCa, csr: bytes
) -> None:
    with bench.sql() as connection:  # as a wider limit of leaf validity lets it be
        seconds = int((400 * DAY).total_seconds())
        connection.exec_driver_sql(f"UPDATE policies SET leaf_validity_seconds = {seconds}")
    with pytest.raises(InvalidArgument) as refused:
        await activate(bench, corp.sign(csr, days=380) + corp.pem)
    assert refused.value.info == {"rule": "remaining_validity"}


# --- the rest of its life


@pytest.fixture
async def active(bench: Workbench, corp: OpensslCa, csr: bytes) -> PolicyDetails:
    await activate(bench, corp.sign(csr) + corp.pem)
    await use(bench)
    return await details(bench)


async def test_activation_twice_is_refused(
    bench: Workbench, corp: OpensslCa, csr: bytes, active: PolicyDetails
) -> None:
    with pytest.raises(Conflict, match="waits for no certificate"):
        await activate(bench, corp.sign(csr) + corp.pem)


async def test_first_activation_is_trusted_by_no_hub_before_it_is_synchronized(
    bench: Workbench, corp: OpensslCa, csr: bytes
) -> None:
    await activate(bench, corp.sign(csr) + corp.pem)
    assert await bench.hubs.synchronize(bench.made.namespace) == 1


async def test_old_ca_signs_until_the_renewal_is_activated(
    bench: Workbench, corp: OpensslCa, active: PolicyDetails
) -> None:
    first = await bench.provision("dev-1")
    waiting = await bench.lifecycle.renew(bench.made.namespace, NAME, by=SYSTEM)
    assert waiting.issuer_status is IssuerStatus.ACTIVE_BUT_PENDING_RENEWAL
    assert waiting.authority == active.authority
    second = await bench.provision("dev-2")
    renewed = await activate(bench, corp.sign(await request(bench)) + corp.pem)
    assert renewed.issuer_status is IssuerStatus.ACTIVE
    assert renewed.authority != active.authority
    third = await bench.provision("dev-3")
    assert first.chain[1] == second.chain[1] != third.chain[1]
    for number, certified in enumerate((first, second, third), 1):
        await bench.connect(f"dev-{number}", certified)


async def test_request_for_a_renewal_is_made_when_it_is_due_and_made_once(
    bench: Workbench, active: PolicyDetails
) -> None:
    assert active.authority is not None
    left = active.authority.not_after - bench.clock.now()
    bench.clock.advance(left - 120 * DAY + timedelta(seconds=1))
    await bench.lifecycle.renew_due()
    waiting = await request(bench)
    await bench.lifecycle.renew_due()
    assert await request(bench) == waiting


async def test_renewal_is_due_by_the_first_of_the_chain_that_ends(
    bench: Workbench, tmp_path: Path, csr: bytes
) -> None:
    corp = OpensslCa.root(tmp_path / "short", days=400)
    await activate(bench, corp.sign(csr) + corp.pem)
    bench.clock.advance(290 * DAY)
    await bench.lifecycle.renew_due()
    assert (await details(bench)).request is not None


async def test_issuer_of_an_external_root_cannot_be_revoked_here(
    bench: Workbench, active: PolicyDetails
) -> None:
    with pytest.raises(InvalidArgument, match="external root"):
        await bench.lifecycle.revoke_issuer(bench.made.namespace, NAME, by=SYSTEM)


async def test_policy_of_an_external_root_is_deleted_only_when_its_devices_are_revoked(
    bench: Workbench, active: PolicyDetails
) -> None:
    await bench.provision("dev-1")
    with pytest.raises(Conflict, match="revoke every device"):
        await bench.policies.delete(bench.made.namespace, NAME, by=SYSTEM)
    await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)
    await bench.policies.delete(bench.made.namespace, NAME, by=SYSTEM)


async def test_policy_of_an_external_root_whose_leaves_are_over_can_be_deleted(
    bench: Workbench, active: PolicyDetails
) -> None:
    await bench.provision("dev-1")
    bench.clock.advance(30 * DAY + timedelta(seconds=1))
    await bench.policies.delete(bench.made.namespace, NAME, by=SYSTEM)


async def test_pending_policy_can_be_deleted(bench: Workbench, csr: bytes) -> None:
    await bench.policies.delete(bench.made.namespace, NAME, by=SYSTEM)
    await bench.policies.create(
        bench.made.namespace, NAME, subject=SUBJECT, bring_your_own_root=True, by=SYSTEM
    )


async def test_leaves_that_would_outlive_the_external_ca_are_refused_as_a_patch(
    bench: Workbench, active: PolicyDetails
) -> None:
    assert active.authority is not None
    bench.clock.advance(active.authority.not_after - bench.clock.now() - 60 * DAY)
    with pytest.raises(Conflict, match="renew it first"):
        await bench.policies.patch(
            bench.made.namespace, NAME, PolicyPatch(leaf_validity=90 * DAY), by=SYSTEM
        )


async def test_one_who_activates_while_the_policy_is_deleted_is_refused(
    bench: Workbench, corp: OpensslCa, csr: bytes
) -> None:
    bench.store.before_write.append(
        lambda: bench.policies.delete(bench.made.namespace, NAME, by=SYSTEM)
    )
    before = len(await bench.registry.authorities(bench.made.namespace))
    with pytest.raises(Exception, match="no policy"):
        await activate(bench, corp.sign(csr) + corp.pem)
    assert len(await bench.registry.authorities(bench.made.namespace)) == before


async def test_subject_of_another_policy_is_refused(bench: Workbench, csr: bytes) -> None:
    with pytest.raises(AlreadyExists, match="subject"):
        await bench.policies.create(
            bench.made.namespace, "other", subject=SUBJECT, bring_your_own_root=True, by=SYSTEM
        )


async def test_leaf_of_an_external_root_is_given_for_an_ec_key_of_each_curve(
    bench: Workbench, active: PolicyDetails
) -> None:
    result = await bench.register("dev-1", device_csr("dev-1")[1])
    assert result.chain is not None


async def test_chain_above_that_ends_soon_is_watched(
    bench: Workbench, tmp_path: Path, csr: bytes
) -> None:
    corp = OpensslCa.root(tmp_path / "short", days=400)
    await activate(bench, corp.sign(csr) + corp.pem)
    bench.clock.advance(390 * DAY)
    watch = ExpiryWatch(bench.store, bench.clock, 30 * DAY)
    await watch.look()
    assert [(each.what, each.name) for each in watch.soon] == [("CA above", "default/plant")]
