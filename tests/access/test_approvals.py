"""The second person: asked for, given, spent once, by nobody for himself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleetroot.access.access import Access
from fleetroot.access.approvals import Guarded
from fleetroot.audit import Actor, ActorKind
from fleetroot.errors import AlreadyExists, ApprovalNeeded, Forbidden, NotFound
from workbench import Workbench

ANN = Actor(ActorKind.TOKEN, "ann")
BOB = Actor(ActorKind.TOKEN, "bob")
ISSUER = "policy/default"


@pytest.fixture
def access(bench: Workbench) -> Access:
    return Access(bench.store, bench.clock, second_person_for=[Guarded.REVOKE_ISSUER])


async def asked(access: Access, by: Actor = ANN, subject: str = ISSUER) -> str:
    with pytest.raises(ApprovalNeeded) as needed:
        await access.claim(Guarded.REVOKE_ISSUER, subject, by=by)
    assert needed.value.info is not None
    return needed.value.info["approvalId"]


async def test_what_is_not_guarded_needs_nobody(access: Access) -> None:
    await access.claim(Guarded.BACK_UP, "backup", by=ANN)


async def test_approved_action_passes_once(access: Access) -> None:
    approval = await asked(access)
    await access.decide(approval, approve=True, by=BOB)
    await access.claim(Guarded.REVOKE_ISSUER, ISSUER, by=ANN)
    assert await asked(access) != approval


async def test_asking_again_is_the_same_request(access: Access) -> None:
    assert await asked(access) == await asked(access)


async def test_nobody_approves_his_own(access: Access) -> None:
    approval = await asked(access)
    with pytest.raises(Forbidden):
        await access.decide(approval, approve=True, by=ANN)
    same_name_elsewhere = Actor(ActorKind.OIDC, "ann")
    await access.decide(approval, approve=True, by=same_name_elsewhere)


async def test_approval_is_for_this_caller_action_and_subject(access: Access) -> None:
    await access.decide(await asked(access), approve=True, by=BOB)
    await asked(access, by=BOB)
    await asked(access, subject="policy/other")
    await access.claim(Guarded.REVOKE_ISSUER, ISSUER, by=ANN)


async def test_rejected_request_does_not_pass(access: Access) -> None:
    approval = await asked(access)
    await access.decide(approval, approve=False, by=BOB)
    assert await asked(access) != approval
    with pytest.raises(AlreadyExists):
        await access.decide(approval, approve=True, by=BOB)


async def test_who_asked_may_take_it_back(access: Access) -> None:
    approval = await asked(access)
    taken_back = await access.decide(approval, approve=False, by=ANN)
    assert taken_back.approved is False


async def test_approval_lasts_a_day(access: Access, bench: Workbench) -> None:
    approval = await asked(access)
    await access.decide(approval, approve=True, by=BOB)
    bench.clock.advance(timedelta(days=1))
    late = await asked(access)
    assert late != approval
    bench.clock.advance(timedelta(days=1))
    with pytest.raises(AlreadyExists):
        await access.decide(late, approve=True, by=BOB)


async def test_approval_that_is_none_is_not_found(access: Access) -> None:
    with pytest.raises(NotFound):
        await access.decide("none", approve=True, by=BOB)


async def test_every_step_is_in_the_audit_log(access: Access, bench: Workbench) -> None:
    approval = await asked(access)
    await access.decide(approval, approve=True, by=BOB)
    await access.claim(Guarded.REVOKE_ISSUER, ISSUER, by=ANN)
    lines = [entry.line for entry in await bench.audit_log.page(subject=ISSUER)]
    for line, action in zip(lines, ("use", "give", "request"), strict=False):
        assert f"approval.{action}".encode() in line
        assert approval.encode() in line
