"""Operational certificates of this installation, shown as onboarding certificates."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet import Certified
from fleetroot.audit import SYSTEM
from fleetroot.errors import Unauthorized
from fleetroot.provisioning.model import (
    Attestation,
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCertificates,
    OnboardingCredential,
    RegisterRequest,
    RegistrationResult,
    Status,
)
from fleetroot.registry import authorities
from fleetroot.storage import Transaction
from openssl_ca import OpensslCa
from workbench import Step, Workbench

DEVICE = "dev-1"
REASON = "onboarding certificate was issued here and revoked"


async def register(bench: Workbench, shown: Certified) -> RegistrationResult:
    """Registers by that certificate and its chain, and by nothing else."""
    credential = OnboardingCredential(chain=shown.chain)
    scope = bench.made.service.id_scope
    return await bench.provisioning.register(RegisterRequest(scope, DEVICE, credential))


async def refused(bench: Workbench, shown: Certified, reason: str = REASON) -> None:
    before = bench.contents()
    with pytest.raises(Unauthorized) as refusal:
        await register(bench, shown)
    assert refusal.value.reason == reason
    assert bench.contents() == before


async def enroll(
    bench: Workbench, kind: EnrollmentKind, id_: str, certificate: bytes, device_id: str | None
) -> None:
    settings = EnrollmentSettings(
        device_id=device_id,
        attestation=Attestation.X509,
        certificates=OnboardingCertificates(primary=certificate),
    )
    await bench.administration.put(bench.made.service, kind, id_, settings, by=SYSTEM)


def revoke_device(bench: Workbench) -> Step:
    return lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)


def revoke_issuer(bench: Workbench) -> Step:
    return lambda: bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)


def list_issuer(bench: Workbench) -> Step:
    """The CA stands on a list of somebody above it."""

    def unit(tx: Transaction) -> None:
        [issuer] = authorities.of_policy(tx, bench.made.namespace.id, bench.made.policy.id)
        authorities.set_listed(tx, issuer, bench.clock.now())

    return lambda: bench.store.write(unit)


@pytest.mark.parametrize("revoke", [revoke_device, revoke_issuer, list_issuer])
async def test_enrolled_certificate_of_ours_counts_until_it_is_revoked(
    bench: Workbench, revoke: Callable[[Workbench], Step]
) -> None:
    shown = await bench.provision(DEVICE)
    # Of another device: one that moves to another enrollment leaves its certificates behind.
    await enroll(bench, EnrollmentKind.INDIVIDUAL, DEVICE, shown.chain[0], "other")
    assert (await register(bench, shown)).registration.status is Status.ASSIGNED
    await revoke(bench)()
    await refused(bench, shown)


async def test_device_whose_certificate_is_enrolled_as_its_own_leaves_it_behind(
    bench: Workbench,
) -> None:
    shown = await bench.provision(DEVICE)
    await enroll(bench, EnrollmentKind.INDIVIDUAL, DEVICE, shown.chain[0], None)
    await register(bench, shown)
    await refused(bench, shown)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="apt-get install openssl")
async def test_revoked_certificate_of_ours_counts_for_no_group_of_a_root_above_us(
    bench: Workbench, tmp_path: Path
) -> None:
    corp, made = OpensslCa.root(tmp_path / "corp"), bench.made
    await bench.policies.create(made.namespace, "plant", bring_your_own_root=True, by=SYSTEM)
    waiting = (await bench.policies.get(made.namespace, "plant")).request
    assert waiting is not None
    bench.clock.advance(timedelta(minutes=1))  # openssl has a clock of its own
    chain = corp.sign(waiting.request) + corp.pem
    policy = (await bench.lifecycle.activate(made.namespace, "plant", chain, by=SYSTEM)).policy
    await bench.hubs.synchronize(made.namespace)
    settings = EnrollmentSettings(policy_id=policy.id)
    key = made.group.keys.primary
    await bench.administration.put(
        made.service,
        EnrollmentKind.GROUP,
        "default",
        settings,
        primary_key=key,
        if_match="*",
        by=SYSTEM,
    )
    shown = await bench.provision(DEVICE)
    root = x509.load_pem_x509_certificate(corp.pem.encode()).public_bytes(Encoding.DER)
    await enroll(bench, EnrollmentKind.GROUP, "factory", root, None)
    await refused(bench, shown, "device provisions under another enrollment")
    await revoke_device(bench)()
    await refused(bench, shown)
