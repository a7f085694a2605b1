"""Incidents: which certificates a scope has, and revoking them at a pace, to the end, whatever
happens in between.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from fleet import device_csr
from fleetroot.audit import SYSTEM, Actor, ActorKind
from fleetroot.errors import Conflict, InvalidArgument, NotFound, Unauthorized
from fleetroot.hub.model import CredentialWish, Ending, Issued
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.registry import incidents, revocation_jobs
from fleetroot.registry.incidents import Scope
from fleetroot.registry.inventory import RevocationReason
from fleetroot.registry.model import Certificate
from fleetroot.registry.revocation_jobs import MAX_RUNNING, RevocationJobs, State
from workbench import PKI_URL, Recorder, Wire, Workbench

BY = Actor(ActorKind.TOKEN, "ops", "192.0.2.1:9", "trace-1")


@pytest.fixture
def jobs(bench: Workbench) -> RevocationJobs:
    return RevocationJobs(bench.store, bench.bus, bench.clock)


def issued_by(bench: Workbench, **more: Any) -> Scope:
    """What the CA of the policy `default` issued."""
    return Scope(bench.made.namespace.id, bench.made.policy.authority_id, **more)


async def provision_many(bench: Workbench, count: int, first: int = 0) -> list[str]:
    names = [f"dev-{n}" for n in range(first, first + count)]
    for name in names:
        await bench.provision(name)
    return names


async def devices_in(jobs: RevocationJobs, scope: Scope) -> list[str]:
    return [each.device_id async for page in jobs.pages(scope) for each in page]


async def revoked(bench: Workbench) -> list[str]:
    page = await bench.registry.certificates(bench.made.namespace, limit=1000)
    return sorted(each.device_id for each in page if each.revoked_at is not None)


# --- scopes


async def test_scope_of_a_time_has_its_beginning_and_not_its_end(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    times = []
    for n in range(4):
        times.append(bench.clock.now())
        await bench.provision(f"dev-{n}")
        bench.clock.advance(timedelta(minutes=1))
    scope = issued_by(bench, since=times[1], until=times[3])
    assert await devices_in(jobs, scope) == ["dev-1", "dev-2"]


async def test_scope_of_devices_has_every_certificate_of_theirs(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await provision_many(bench, 3)
    await bench.provision("dev-0")
    scope = Scope(bench.made.namespace.id, device_keys=("dev-0", "dev-2"))
    assert sorted(await devices_in(jobs, scope)) == ["dev-0", "dev-0", "dev-2"]


async def test_scope_of_an_enrollment_has_what_it_attested_and_what_was_renewed(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    session = await bench.connect("dev-0", await bench.provision("dev-0"))
    await bench.renew(session, "1", CredentialWish("dev-0", device_csr("dev-0")[1], None))
    settings = EnrollmentSettings(policy_id=bench.made.policy.id)
    made = await bench.administration.put(
        bench.made.service, EnrollmentKind.INDIVIDUAL, "alone", settings, by=SYSTEM
    )
    assert made is not None
    name = bench.administration.enrollment_name(bench.made.service, EnrollmentKind.GROUP, "DEFAULT")
    scope = Scope(bench.made.namespace.id, enrollment=name)
    assert await devices_in(jobs, scope) == ["dev-0", "dev-0"]
    other = bench.administration.enrollment_name(
        bench.made.service, EnrollmentKind.INDIVIDUAL, "alone"
    )
    assert await devices_in(jobs, replace(scope, enrollment=other)) == []


async def test_everything_that_a_scope_says_must_be_true(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await provision_many(bench, 2)
    scope = issued_by(bench, device_keys=("dev-1",))
    assert await devices_in(jobs, scope) == ["dev-1"]
    assert await devices_in(jobs, replace(scope, enrollment="s/group/other")) == []
    assert await devices_in(jobs, replace(scope, until=bench.clock.now())) == []


async def test_pages_have_everything_once_where_many_were_issued_at_once(
    bench: Workbench, jobs: RevocationJobs, record: Recorder
) -> None:
    await bench.register("dev-1")
    device = await bench.registry.device(bench.made.namespace, "dev-1")
    for _ in range(7):
        await record(device)
    found: list[Certificate] = []
    sizes, after = [], None
    while True:
        page, after = await jobs.page(issued_by(bench), after, limit=3)
        found += page
        sizes.append(len(page))
        if after is None:
            break
    assert sizes == [3, 3, 1]
    assert len({each.id for each in found}) == 7


async def test_scope_that_names_nothing_is_refused(bench: Workbench, jobs: RevocationJobs) -> None:
    with pytest.raises(InvalidArgument, match="name a CA"):
        await jobs.summary(Scope(bench.made.namespace.id, since=bench.clock.now()))


async def test_ca_of_another_namespace_is_not_found(bench: Workbench, jobs: RevocationJobs) -> None:
    other = await bench.namespaces.create(
        "other", subscription_id="s", resource_group="g", pki_url=PKI_URL, by=SYSTEM
    )
    scope = replace(issued_by(bench), namespace_id=other.id)
    with pytest.raises(NotFound):
        await jobs.page(scope)
    with pytest.raises(NotFound):
        await jobs.start(scope, pace=1, by=BY)


async def test_summary_says_what_a_revocation_would_revoke(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await provision_many(bench, 2)
    bench.clock.advance(timedelta(days=31))
    await provision_many(bench, 3, first=2)
    await bench.registry.revoke(bench.made.namespace, "dev-2", by=SYSTEM)
    found = await jobs.summary(issued_by(bench))
    assert (found.certificates, found.alive, found.revoked, found.expired) == (5, 2, 1, 2)
    assert await revoked(bench) == ["dev-2"]


# --- revoking


async def test_each_round_revokes_as_many_as_the_pace_says(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await provision_many(bench, 5)
    job = await jobs.start(issued_by(bench), pace=2, by=BY)
    counts = []
    for _ in range(4):
        await jobs.work()
        counts.append(len(await revoked(bench)))
    assert counts == [2, 4, 5, 5]
    done = await jobs.get(bench.made.namespace, job.id)
    assert (done.state, done.found, done.revoked) == (State.DONE, 5, 5)


async def test_what_is_issued_after_the_beginning_is_not_meant(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await provision_many(bench, 2)
    await jobs.start(issued_by(bench), pace=1, by=BY)
    await jobs.work()
    await bench.provision("dev-0")  # its device has lost the first, and provisions again
    await bench.provision("dev-9")
    for _ in range(5):
        await jobs.work()
    assert await revoked(bench) == ["dev-0", "dev-1"]


async def test_revocation_goes_on_after_a_restart_where_it_was(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await provision_many(bench, 3)
    job = await jobs.start(issued_by(bench), pace=1, by=BY)
    await jobs.work()
    restarted = RevocationJobs(bench.store, bench.bus, bench.clock)
    await restarted.work()
    assert len(await revoked(bench)) == 2
    await restarted.work()
    await restarted.work()
    assert (await jobs.get(bench.made.namespace, job.id)).state is State.DONE


async def test_cancelled_revocation_revokes_no_more(bench: Workbench, jobs: RevocationJobs) -> None:
    await provision_many(bench, 3)
    job = await jobs.start(issued_by(bench), pace=1, by=BY)
    await jobs.work()
    cancelled = await jobs.cancel(bench.made.namespace, job.id, by=BY)
    await jobs.work()
    assert (cancelled.state, await revoked(bench)) == (State.CANCELLED, ["dev-0"])


async def test_cancel_between_two_units_of_a_round_ends_it(
    bench: Workbench, jobs: RevocationJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_jobs, "_AT_ONCE", 2)
    await provision_many(bench, 5)
    job = await jobs.start(issued_by(bench), pace=5, by=BY)

    async def cancel() -> None:
        await jobs.cancel(bench.made.namespace, job.id, by=BY)

    bench.store.after_write.append(cancel)
    await jobs.work()
    assert await revoked(bench) == ["dev-0", "dev-1"]


async def test_only_so_many_run_at_once(bench: Workbench, jobs: RevocationJobs) -> None:
    await bench.provision("dev-0")
    for _ in range(MAX_RUNNING):
        await jobs.start(issued_by(bench), pace=1, by=BY)
    with pytest.raises(Conflict):
        await jobs.start(issued_by(bench), pace=1, by=BY)


async def test_job_comes_back_as_it_was_made(bench: Workbench, jobs: RevocationJobs) -> None:
    await bench.provision("dev-0")
    scope = issued_by(
        bench,
        since=bench.clock.now() - timedelta(hours=1),
        until=bench.clock.now() + timedelta(hours=1),
        device_keys=("dev-0", "dev-1"),
        enrollment="s/group/default",
    )
    job = await jobs.start(scope, pace=7, reason=RevocationReason.KEY_COMPROMISE, by=BY)
    [found] = await jobs.all(bench.made.namespace)
    assert found == job
    assert (found.scope, found.pace, found.by) == (scope, 7, BY)
    assert found.reason is RevocationReason.KEY_COMPROMISE


async def test_every_certificate_that_is_revoked_is_in_the_audit_log(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await bench.provision("dev-0")
    job = await jobs.start(issued_by(bench), pace=1, reason=RevocationReason.KEY_COMPROMISE, by=BY)
    await jobs.work()
    entry, _ = [json.loads(e.line) for e in await bench.audit_log.page(subject="device/dev-0")]
    [certificate] = await bench.inventory("dev-0")
    assert entry["action"] == "certificate.revoke"
    assert (entry["actor"], entry["peer"], entry["traceId"]) == ("ops", "192.0.2.1:9", "trace-1")
    assert entry["details"] == {
        "serialNumber": certificate.serial,
        "sha256": certificate.sha256.hex(),
        "issuingAuthority": certificate.authority_id,
        "reason": "keyCompromise",
        "revocation": job.id,
    }
    about = await bench.audit_log.page(subject=f"revocation/{job.id}")
    actions = [json.loads(e.line)["action"] for e in about]
    assert actions == ["revocation.finish", "revocation.start"]


# --- what follows for devices


async def test_live_connection_by_a_revoked_certificate_ends(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    wire = Wire()
    certified = await bench.provision("dev-0")
    await bench.connect("dev-0", certified, wire)
    await jobs.start(issued_by(bench), pace=1, by=BY)
    await jobs.work()
    await bench.outbox.drain()
    assert wire.endings == [Ending.REVOKED]
    with pytest.raises(Unauthorized):
        await bench.connect("dev-0", certified)


async def test_live_connection_by_another_certificate_stays(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await bench.provision("dev-0")
    before, wire = bench.clock.now() + timedelta(seconds=1), Wire()
    bench.clock.advance(timedelta(minutes=1))
    await bench.connect("dev-0", await bench.provision("dev-0"), wire)
    await jobs.start(issued_by(bench, until=before), pace=1, by=BY)
    await jobs.work()
    await bench.outbox.drain()
    assert (await revoked(bench), wire.endings) == (["dev-0"], [])


async def test_certificate_that_is_being_revoked_renews_nothing(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    """The session has not been told yet when the new certificate is recorded."""
    wire = Wire()
    session = await bench.connect("dev-0", await bench.provision("dev-0"), wire)
    await jobs.start(issued_by(bench), pace=1, by=BY)

    async def accepted() -> None:
        """The first write: the request is opened."""

    bench.store.before_write += [accepted, jobs.work]
    await bench.renew(session, "1", CredentialWish("dev-0", device_csr("dev-0")[1], None))
    assert not any(isinstance(answer, Issued) for answer in wire.answers)
    assert len(await bench.inventory("dev-0")) == 1


async def test_device_whose_certificate_was_revoked_provisions_again(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await bench.provision("dev-0")
    await jobs.start(issued_by(bench), pace=1, by=BY)
    await jobs.work()
    await bench.connect("dev-0", await bench.provision("dev-0"))


# --- a million certificates


KINDS = {
    (True, False, False): "ix_certificates_issued (authority_id=? AND issued_at=? AND id>?",
    (False, True, False): "ix_certificates_device (namespace_id=? AND device_key=?",
    (False, False, True): "ix_certificates_enrollment (enrollment=? AND issued_at=? AND id>?",
    (True, True, False): "ix_certificates_device (namespace_id=? AND device_key=?",
    (True, False, True): "ix_certificates_enrollment (enrollment=? AND issued_at=? AND id>?",
    (False, True, True): "ix_certificates_device (namespace_id=? AND device_key=?",
    (True, True, True): "ix_certificates_device (namespace_id=? AND device_key=?",
}


@pytest.mark.sqlite(reason="the plan is SQLite's")
@pytest.mark.parametrize("statement", [incidents._pages, incidents._briefs])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_scope_is_read_from_its_index(
    bench: Workbench, statement: Any, kind: tuple[bool, bool, bool]
) -> None:
    with bench.sql() as connection:
        source = statement(*kind)._source("sqlite")
        sql = str(source.compile(dialect=connection.dialect))
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")
        ).fetchall()
    steps = [str(row[3]) for row in plan]
    assert any(KINDS[kind] in step for step in steps), steps
    if not kind[1]:
        assert not any("TEMP B-TREE" in step for step in steps), steps


async def test_certificates_of_before_enrollments_were_kept_are_of_none(
    bench: Workbench, jobs: RevocationJobs
) -> None:
    await bench.provision("dev-0")
    with bench.sql() as sql:
        sql.execute(text("UPDATE certificates SET enrollment = NULL"))
    [certificate] = await bench.inventory("dev-0")
    assert certificate.enrollment is None
    assert await devices_in(jobs, issued_by(bench)) == ["dev-0"]
