"""Tokens: made, used, rotated, expired, revoked; and what each role may do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleetroot.access import EVERYWHERE, Caller, Grant, Permission, Role, TokenText
from fleetroot.access.access import FIRST
from fleetroot.audit import SYSTEM
from fleetroot.errors import AlreadyExists, Forbidden, InvalidArgument, NotFound, Unauthorized
from workbench import Workbench

OWNER = Grant(Role.OWNER, EVERYWHERE)


async def made(
    bench: Workbench, name: str = "pipeline", grant: Grant = OWNER, **how: timedelta
) -> str:
    _, text = await bench.access.create_token(name, grant, by=SYSTEM, **how)
    return text.text


async def caller(bench: Workbench, text: str) -> Caller:
    return await bench.access.authenticate(text, "192.0.2.1:5", "trace")


async def refused(bench: Workbench, text: str) -> None:
    with pytest.raises(Unauthorized):
        await caller(bench, text)


# --- authentication


async def test_token_says_who_calls(bench: Workbench) -> None:
    found = await caller(bench, await made(bench))
    assert (found.actor.kind, found.actor.name) == ("token", "pipeline")
    assert (found.actor.peer, found.actor.trace_id) == ("192.0.2.1:5", "trace")


@pytest.mark.parametrize("text", ["", "x", "fleetroot__", "fleetroot_000000000000_" + "A" * 43])
async def test_text_that_is_no_token_is_refused(bench: Workbench, text: str) -> None:
    await refused(bench, text)


async def test_token_with_another_secret_is_refused(bench: Workbench) -> None:
    text = await made(bench)
    token_id = text.split("_")[1]
    await refused(bench, TokenText.new(token_id).text)


async def test_expired_token_is_refused(bench: Workbench) -> None:
    text = await made(bench, lifetime=timedelta(hours=1))
    bench.clock.advance(timedelta(minutes=59))
    await caller(bench, text)
    bench.clock.advance(timedelta(minutes=1))
    await refused(bench, text)


async def test_revoked_token_is_refused(bench: Workbench) -> None:
    text = await made(bench)
    await bench.access.revoke_token("pipeline", by=SYSTEM)
    await refused(bench, text)


async def test_secret_before_the_rotation_is_good_for_the_overlap(bench: Workbench) -> None:
    old = await made(bench)
    _, new = await bench.access.rotate_token("pipeline", overlap=timedelta(minutes=5), by=SYSTEM)
    await caller(bench, new.text)
    await caller(bench, old)
    bench.clock.advance(timedelta(minutes=5))
    await refused(bench, old)
    await caller(bench, new.text)


async def test_rotation_without_overlap_ends_the_old_secret_at_once(bench: Workbench) -> None:
    old = await made(bench)
    await bench.access.rotate_token("pipeline", overlap=timedelta(), by=SYSTEM)
    await refused(bench, old)


async def test_revocation_ends_the_secret_before_the_rotation_too(bench: Workbench) -> None:
    old = await made(bench)
    _, new = await bench.access.rotate_token("pipeline", by=SYSTEM)
    await bench.access.revoke_token("pipeline", by=SYSTEM)
    await refused(bench, old)
    await refused(bench, new.text)


async def test_secret_is_nowhere_in_the_database_or_a_repr(bench: Workbench) -> None:
    token, text = await bench.access.create_token("pipeline", OWNER, by=SYSTEM)
    secret = text.text.rpartition("_")[2] if text.text.count("_") == 2 else text.text[23:]
    assert secret not in repr(text)
    assert secret not in repr(token)
    bench.store.close()
    for path in bench.folder.iterdir():
        assert secret.encode() not in path.read_bytes()


# --- making them


async def test_name_of_a_token_in_use_is_taken(bench: Workbench) -> None:
    await made(bench)
    with pytest.raises(AlreadyExists):
        await made(bench)
    await bench.access.revoke_token("pipeline", by=SYSTEM)
    await made(bench)


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(days=-1), timedelta(days=4000)])
async def test_lifetime_out_of_range_is_refused(bench: Workbench, lifetime: timedelta) -> None:
    with pytest.raises(InvalidArgument):
        await made(bench, lifetime=lifetime)


async def test_revoked_token_cannot_be_rotated(bench: Workbench) -> None:
    await made(bench)
    token = await bench.access.revoke_token("pipeline", by=SYSTEM)
    with pytest.raises(InvalidArgument):
        await bench.access.rotate_token(token.id, by=SYSTEM)
    with pytest.raises(NotFound):
        await bench.access.rotate_token("pipeline", by=SYSTEM)


async def test_what_is_done_to_tokens_is_in_the_audit_log(bench: Workbench) -> None:
    token, _ = await bench.access.create_token("pipeline", OWNER, by=SYSTEM)
    await bench.access.rotate_token("pipeline", by=SYSTEM)
    await bench.access.revoke_token("pipeline", by=SYSTEM)
    entries = await bench.audit_log.page(subject=f"token/{token.id}")
    assert [b"token.revoke" in entries[0].line, b"token.rotate" in entries[1].line] == [True, True]
    assert b"token.create" in entries[2].line


async def test_last_use_is_kept(bench: Workbench) -> None:
    await caller(bench, await made(bench))
    await bench.access.write_uses()
    [token] = [token for token in await bench.access.tokens() if token.name == "pipeline"]
    assert token.last_used_at == bench.clock.now()


# --- the first token


async def test_first_token_stays_while_it_is_good(bench: Workbench) -> None:
    first = await bench.access.first_token(None)
    assert await bench.access.first_token(first.text) == first


async def test_first_token_that_was_lost_is_replaced(bench: Workbench) -> None:
    first = await bench.access.first_token(None)
    second = await bench.access.first_token("something else")
    assert second.text != first.text
    await caller(bench, second.text)
    assert len([t for t in await bench.access.tokens() if t.name == FIRST]) == 1


async def test_first_token_is_replaced_before_its_time_is_over(bench: Workbench) -> None:
    first = await bench.access.first_token(None)
    bench.clock.advance(timedelta(days=61))
    second = await bench.access.first_token(first.text)
    await caller(bench, first.text)  # in the overlap
    await caller(bench, second.text)
    bench.clock.advance(timedelta(hours=2))
    await refused(bench, first.text)


async def test_first_token_that_was_revoked_does_not_come_again(bench: Workbench) -> None:
    first = await bench.access.first_token(None)
    await bench.access.revoke_token(FIRST, by=SYSTEM)
    assert await bench.access.first_token(first.text) is None


# --- authorization

MAY = {
    Role.READER: {Permission.READ},
    Role.DEVICE_CONTRIBUTOR: {
        Permission.READ,
        Permission.READ_SECRETS,
        Permission.WRITE_DEVICES,
        Permission.WRITE_ENROLLMENTS,
    },
    Role.CREDENTIALS_CONTRIBUTOR: {
        Permission.READ,
        Permission.WRITE_CREDENTIALS,
        Permission.APPROVE,
        Permission.READ_AUDIT_LOG,
    },
    Role.OWNER: set(Permission),
}


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("role", Role)
def test_role_carries_these_permissions_and_no_other(role: Role, permission: Permission) -> None:
    found = Caller(SYSTEM, (Grant(role, "here"),))
    assert found.may(permission, "here") == (permission in MAY[role])
    assert not found.may(permission, "there")
    assert not found.may(permission, EVERYWHERE)
    everywhere = Caller(SYSTEM, (Grant(role, EVERYWHERE),))
    assert everywhere.may(permission, "there") == (permission in MAY[role])


def test_caller_without_a_grant_may_nothing() -> None:
    with pytest.raises(Forbidden):
        Caller(SYSTEM, ()).require(Permission.READ, "here")
