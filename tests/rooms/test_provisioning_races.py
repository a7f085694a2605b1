"""What happens to a registration when somebody commits between its decision and its own commit.

The step in between is always the same place: after everything was read and the leaf was signed,
before the one unit of work that makes it known.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet import device_csr
from fleetroot import sas
from fleetroot.audit import SYSTEM
from fleetroot.errors import EnrollmentNotFound, InvalidArgument, Unauthorized, Unavailable
from fleetroot.provisioning import registrations
from fleetroot.provisioning.model import (
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCredential,
    RegisterRequest,
    RegistrationResult,
)
from workbench import Step, Workbench, contents, generation

DEVICE = "dev-1"


def put_group(bench: Workbench, settings: EnrollmentSettings, **keys: bytes) -> Step:
    """A step: the operator replaces the group `default`."""
    return lambda: bench.administration.put(
        bench.made.service,
        EnrollmentKind.GROUP,
        "default",
        settings,
        if_match="*",
        **keys,
        by=SYSTEM,
    )


def between(bench: Workbench, step: Step) -> None:
    """Takes the step between signing and recording of the registration that comes next."""
    bench.store.before_write.append(step)


async def refused(bench: Workbench, error: type[Exception], step: Step) -> dict[str, list[object]]:
    """Registers with the step in between, expects the error, and gives what changed: the rows that
    are there now and were not right after the step."""
    after_step: dict[str, list[tuple[object, ...]]] = {}

    async def step_and_look() -> None:
        await step()
        after_step.update(bench.contents())

    between(bench, step_and_look)
    with pytest.raises(error):
        await bench.register(DEVICE, device_csr(DEVICE)[1])
    assert after_step, "the step was never taken"
    now = bench.contents()
    return {name: now[name] for name in now if now[name] != after_step[name]}


# --- revoked in between


async def test_device_revoked_in_between_gets_a_certificate_of_its_new_generation(
    bench: Workbench,
) -> None:
    old = await bench.provision(DEVICE)
    between(bench, lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM))
    new = await bench.provision(DEVICE)
    device = await bench.registry.device(bench.made.namespace, DEVICE)
    assert generation(new) == str(device.generation) != generation(old)


async def test_certificate_signed_before_a_revocation_was_never_issued(bench: Workbench) -> None:
    old = await bench.provision(DEVICE)
    between(bench, lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM))
    new = await bench.provision(DEVICE)
    assert [c.certificate for c in await bench.inventory(DEVICE)] == [new.chain[0], old.chain[0]]


async def test_only_the_certificate_after_a_revocation_connects(bench: Workbench) -> None:
    old = await bench.provision(DEVICE)
    between(bench, lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM))
    new = await bench.provision(DEVICE)
    await bench.connect(DEVICE, new)
    with pytest.raises(Unauthorized):
        await bench.connect(DEVICE, old)


async def test_device_revoked_and_disabled_in_between_gets_nothing(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    revoke = lambda: bench.registry.revoke(bench.made.namespace, DEVICE, disable=True, by=SYSTEM)  # noqa: E731
    assert await refused(bench, Unauthorized, revoke) == {}


async def test_device_revoked_in_between_without_a_csr_is_registered_under_its_new_generation(
    bench: Workbench,
) -> None:
    await bench.provision(DEVICE)
    between(bench, lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM))
    result = await bench.register(DEVICE)
    assert result.chain is None
    assert [c.revoked_at is None for c in await bench.inventory(DEVICE)] == [False]


async def test_device_that_is_changed_again_and_again_is_told_to_come_back(
    bench: Workbench,
) -> None:
    await bench.provision(DEVICE)
    revocations = 0

    async def revoke() -> None:
        nonlocal revocations
        revocations += 1
        await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
        between(bench, revoke)

    between(bench, revoke)
    with pytest.raises(Unavailable) as error:
        await bench.register(DEVICE, device_csr(DEVICE)[1])
    assert error.value.retry_after == 1
    assert revocations > 1
    assert len(await bench.inventory(DEVICE)) == 1


# --- disabled in between


async def test_device_disabled_in_between_gets_nothing(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    disable = lambda: bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)  # noqa: E731
    assert await refused(bench, Unauthorized, disable) == {}


async def test_device_disabled_in_between_without_a_csr_is_refused(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    between(
        bench, lambda: bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)
    )
    with pytest.raises(Unauthorized):
        await bench.register(DEVICE)


# --- the enrollment changed in between


async def test_enrollment_disabled_in_between_admits_nobody(bench: Workbench) -> None:
    settings = EnrollmentSettings(policy_id=bench.made.policy.id, enabled=False)
    assert await refused(bench, Unauthorized, put_group(bench, settings)) == {}


async def test_enrollment_deleted_in_between_admits_nobody(bench: Workbench) -> None:
    delete = lambda: bench.administration.delete(  # noqa: E731
        bench.made.service, EnrollmentKind.GROUP, "default", by=SYSTEM
    )
    assert await refused(bench, EnrollmentNotFound, delete) == {}


async def test_enrollment_whose_keys_were_changed_in_between_refuses_the_old_ones(
    bench: Workbench,
) -> None:
    settings = EnrollmentSettings(policy_id=bench.made.policy.id)
    change = put_group(bench, settings, primary_key=bytes(64), secondary_key=bytes(64))
    assert await refused(bench, Unauthorized, change) == {}


async def test_enrollment_that_lost_its_policy_in_between_issues_nothing(
    bench: Workbench,
) -> None:
    assert await refused(bench, InvalidArgument, put_group(bench, EnrollmentSettings())) == {}


async def test_enrollment_that_changed_in_between_and_still_admits_the_device_issues(
    bench: Workbench,
) -> None:
    settings = EnrollmentSettings(policy_id=bench.made.policy.id, migrate_device_data=False)
    between(bench, put_group(bench, settings))
    certified = await bench.provision(DEVICE)
    assert [c.certificate for c in await bench.inventory(DEVICE)] == [certified.chain[0]]


async def test_device_gets_a_certificate_of_the_policy_that_the_enrollment_names_now(
    bench: Workbench,
) -> None:
    other = await bench.policies.create(bench.made.namespace, "other", by=SYSTEM)
    between(bench, put_group(bench, EnrollmentSettings(policy_id=other.id)))
    await bench.provision(DEVICE)
    device = await bench.registry.device(bench.made.namespace, DEVICE)
    identity = await bench.identity(DEVICE)
    assert identity is not None
    [certificate] = await bench.inventory(DEVICE)
    assert {certificate.policy_id, device.policy_id, identity.policy_id} == {other.id}


# --- the same device twice


async def both_first(bench: Workbench, other: str = DEVICE) -> list[RegistrationResult]:
    """Two first registrations of a device: the second comes and goes while the first is about to
    commit."""
    results = []

    async def second() -> None:
        results.append(await bench.register(other, device_csr(other)[1]))

    between(bench, second)
    results.append(await bench.register(DEVICE, device_csr(DEVICE)[1]))
    return results


async def test_two_first_registrations_of_a_device_are_both_answered(bench: Workbench) -> None:
    results = await both_first(bench)
    assert all(result.chain is not None for result in results)


async def test_two_first_registrations_of_a_device_make_one_device(bench: Workbench) -> None:
    await both_first(bench)
    devices = await bench.registry.devices(bench.made.namespace)
    assert [device.device_id for device in devices] == [DEVICE]


async def test_certificates_of_two_first_registrations_share_the_generation(
    bench: Workbench,
) -> None:
    results = await both_first(bench)
    certificates = await bench.inventory(DEVICE)
    given = {result.chain.certificates[0] for result in results if result.chain}
    assert {c.certificate for c in certificates} == given
    assert len({c.generation for c in certificates}) == 1


async def test_the_spelling_that_registered_first_stands(bench: Workbench) -> None:
    """A group's keys are computed over it, so another spelling's key is another device's."""
    with pytest.raises(Unauthorized):
        await both_first(bench, DEVICE.upper())
    devices = await bench.registry.devices(bench.made.namespace)
    assert [device.device_id for device in devices] == [DEVICE.upper()]
    assert len(await bench.inventory(DEVICE)) == 1


# --- all or nothing, and durable before sent


async def test_registration_that_fails_at_its_last_step_leaves_nothing(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("power is gone")

    before = bench.contents()
    monkeypatch.setattr(registrations, "save", fail)
    with pytest.raises(OSError, match="power"):
        await bench.register(DEVICE, device_csr(DEVICE)[1])
    assert bench.contents() == before


async def test_certificate_is_in_the_inventory_before_the_device_has_it(
    bench: Workbench, tmp_path: Path
) -> None:
    result = await bench.register(DEVICE, device_csr(DEVICE)[1])
    crashed = bench.crash(tmp_path / "crashed")
    assert result.chain is not None
    assert result.registration.certificate_sha256 is not None
    found = contents(crashed)
    assert [row for row in found["certificates"] if result.chain.certificates[0] in row]
    assert len(found["devices"]) == len(found["identities"]) == len(found["registrations"]) == 1


async def test_crash_between_signing_and_recording_leaves_nothing(
    bench: Workbench, tmp_path: Path
) -> None:
    before = bench.contents()

    async def crash() -> None:
        bench.crash(tmp_path / "crashed")

    between(bench, crash)
    await bench.provision(DEVICE)
    assert contents(tmp_path / "crashed" / "fleetroot.db") == before


# --- taken over in between


@pytest.mark.parametrize("csr", [None, device_csr(DEVICE)[1]], ids=["plain", "with a CSR"])
async def test_group_does_not_get_a_device_that_was_taken_over_in_between(
    bench: Workbench, csr: str | None
) -> None:
    await bench.provision(DEVICE)
    service = bench.made.service

    async def take_over() -> None:
        own = await bench.administration.put(
            service,
            EnrollmentKind.INDIVIDUAL,
            "own",
            EnrollmentSettings(device_id=DEVICE),
            by=SYSTEM,
        )
        token = sas.sign_token(
            f"{service.id_scope}/registrations/own",
            own.keys.primary,
            bench.clock.now() + timedelta(hours=1),
        )
        await bench.provisioning.register(
            RegisterRequest(
                service.id_scope, "own", OnboardingCredential(sas.SasToken.parse(token))
            )
        )

    between(bench, take_over)
    with pytest.raises(Unauthorized) as refused:
        await bench.register(DEVICE, csr)
    assert refused.value.reason == "device provisions under another enrollment"
    device = await bench.registry.device(bench.made.namespace, DEVICE)
    assert device.policy_id is None
    assert [c.revoked_at is None for c in await bench.inventory(DEVICE)] == [False]
