"""Renewal against revocation, and durable before sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import Unauthorized
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Accepted, Channel, CredentialAnswer, CredentialWish, Issued
from workbench import Wire, Workbench, contents

DEVICE = "dev-1"


class Silent(Wire):
    """The connection of a device that acknowledges nothing."""

    def answer_credential_request(
        self,
        request_id: str,
        answer: CredentialAnswer,
        qos: int,
        delivered: Callable[[], None] | None = None,
    ) -> bool:
        return super().answer_credential_request(request_id, answer, qos)


async def renew(bench: Workbench, session: LiveSession) -> None:
    wish = CredentialWish(DEVICE, device_csr(DEVICE)[1], None)
    await bench.renew(session, "1", wish)


async def test_renewed_certificate_is_in_the_inventory_before_the_device_has_it(
    bench: Workbench, tmp_path: Path
) -> None:
    crashed: list[tuple[Issued, Path]] = []

    def crash(answer: CredentialAnswer) -> None:
        if isinstance(answer, Issued):
            crashed.append((answer, bench.crash(tmp_path / "crashed")))

    session = await bench.connect(DEVICE, await bench.provision(DEVICE), Wire(on_answer=crash))
    await renew(bench, session)
    [(issued, database)] = crashed
    leaf = issued.chain.certificates[0]
    assert [row for row in contents(database)["certificates"] if leaf in row]


async def test_device_revoked_before_its_renewal_is_recorded_gets_no_certificate(
    bench: Workbench,
) -> None:
    wire = Wire()
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)

    async def revoke_at_the_second_write() -> None:
        bench.store.before_write.append(
            lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
        )

    bench.store.after_write.append(revoke_at_the_second_write)  # behind the opening of the request
    await renew(bench, session)
    assert [type(answer) for answer in wire.answers] == [Accepted, Unauthorized]
    assert len(await bench.inventory(DEVICE)) == 1


async def test_device_revoked_before_its_renewal_is_signed_gets_no_certificate(
    bench: Workbench,
) -> None:
    """The revocation has committed and its notice has not been heard: the session still lives."""
    wire = Wire()
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    await renew(bench, session)
    assert [type(answer) for answer in wire.answers] == [Accepted, Unauthorized]
    assert len(await bench.inventory(DEVICE)) == 1


async def test_device_disabled_before_its_renewal_is_recorded_gets_no_certificate(
    bench: Workbench,
) -> None:
    wire = Wire()
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    await bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)
    await renew(bench, session)
    assert not any(isinstance(answer, Issued) for answer in wire.answers)
    assert len(await bench.inventory(DEVICE)) == 1


async def test_listening_again_does_not_repeat_an_answer_that_was_sent(bench: Workbench) -> None:
    wire = Silent()
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    await renew(bench, session)
    await bench.hubs.renewal.deliver_pending(session)
    assert [type(answer) for answer in wire.answers] == [Accepted, Issued]


async def test_listening_twice_does_not_repeat_an_answer_that_was_waiting(
    bench: Workbench,
) -> None:
    wire = Silent()
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    session.subscriptions.clear()
    await renew(bench, session)
    session.subscriptions[Channel.CREDENTIALS] = 1
    for _ in range(2):
        await bench.hubs.renewal.deliver_pending(session)
    assert [type(answer) for answer in wire.answers] == [Accepted, Issued]


async def test_answer_that_was_not_acknowledged_comes_again_over_the_next_connection(
    bench: Workbench,
) -> None:
    certified, wire = await bench.provision(DEVICE), Silent()
    await renew(bench, await bench.connect(DEVICE, certified, Silent()))
    await bench.hubs.renewal.deliver_pending(await bench.connect(DEVICE, certified, wire))
    assert [type(answer) for answer in wire.answers] == [Accepted, Issued]


async def test_answer_that_a_device_comes_for_while_it_is_on_its_way_is_given_once(
    bench: Workbench,
) -> None:
    """Whoever sends it first: the connection that asked, or the one that came back for it."""
    certified = await bench.provision(DEVICE)
    wire = Wire()
    session = await bench.connect(DEVICE, certified, wire)

    async def comes_back() -> None:
        await bench.hubs.renewal.deliver_pending(session)

    async def after_the_answer() -> None:
        bench.store.after_write.append(comes_back)  # committed, and nobody was told

    bench.store.after_write.append(after_the_answer)
    await bench.renew(session, "one", CredentialWish(DEVICE, device_csr(DEVICE)[1], None))
    assert [type(answer) for answer in wire.answers if isinstance(answer, Issued)] == [Issued]


async def test_request_that_is_opened_while_the_pending_one_is_read_is_accepted_once(
    bench: Workbench,
) -> None:
    """A device subscribes, and asks before the hub has looked for what is pending."""
    wire = Wire()
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)

    async def looks() -> None:
        await bench.hubs.renewal.deliver_pending(session)

    bench.store.after_write.append(looks)  # opened, and the device was not told so
    await renew(bench, session)
    assert [type(answer) for answer in wire.answers] == [Accepted, Issued]
