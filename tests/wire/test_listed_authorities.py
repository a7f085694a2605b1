"""An issuing CA under a root of somebody else, which revokes it: the list is made by `openssl ca`,
uploaded, and counts at connect and at registering.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_hub_admission import NOT_AUTHORIZED, refusal

from fleet import Certified, Fleet, device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import InvalidArgument
from openssl_ca import OpensslCa

LISTS = "/fleetroot/crls/third-party"


@dataclass
class Plant:
    """A fleet whose devices are issued to by a CA that another one signed.

    Attributes:
        signer: who signed it; the root, or one below it.
        issuing: the CA's certificate, PEM.
    """

    fleet: Fleet
    root: OpensslCa
    signer: OpensslCa
    issuing: str
    keys: dict[str, bytes] = field(default_factory=dict)

    async def upload(self, by: OpensslCa, *revoked: str) -> str:
        """Brings a list of that CA with these (PEM); its id."""
        answer = await self.fleet.http.post(
            LISTS,
            json={
                "crl": base64.b64encode(by.crl(*revoked)).decode(),
                "caCertificate": base64.b64encode(by.pem.encode()).decode(),
            },
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def token(self, device: str) -> bytes:
        """What the device attests with, under an enrollment of its own."""
        if device not in self.keys:
            self.keys[device], _ = await self.fleet.enroll(device, policy="plant")
        return self.fleet.provisioning_token(device, self.keys[device])

    async def provision(self, device: str) -> Certified:
        return await self.fleet.provision(device, token=await self.token(device))

    async def ask(self, device: str) -> int:
        """The status that a registration with a CSR gets."""
        body, token = {"csr": device_csr(device)[1]}, await self.token(device)
        return (await self.fleet.register(device, body, token=token)).status

    async def settle(self) -> None:
        await self.fleet.server._outbox.drain()


async def activated(
    fleet: Fleet, root: OpensslCa, signer: OpensslCa, *, with_root: bool = True
) -> Plant:
    namespace = await fleet.server.namespaces.get("default")
    policies = fleet.server.policies
    await policies.create(
        namespace, "plant", subject="CN=Plant 7", bring_your_own_root=True, by=SYSTEM
    )
    waiting = (await policies.get(namespace, "plant")).request
    assert waiting is not None
    issuing = signer.sign(waiting.request)
    above = "" if signer is root else signer.pem
    chain = issuing + above + (root.pem if with_root else "")
    await fleet.server.lifecycle.activate(namespace, "plant", chain, by=SYSTEM)
    await fleet.server.hubs.synchronize(namespace)
    return Plant(fleet, root, signer, issuing)


@pytest.fixture
async def plant(fleet: Fleet, tmp_path: Path) -> Plant:
    root = OpensslCa.root(tmp_path / "corp")
    return await activated(fleet, root, root)


async def test_list_without_our_ca_changes_nothing(plant: Plant, tmp_path: Path) -> None:
    certified = await plant.provision("dev-1")
    other = plant.root.below("Another")
    await plant.upload(plant.root, other.pem)
    await (await plant.fleet.connect("dev-1", certified)).close()


async def test_device_of_a_revoked_ca_is_refused(plant: Plant) -> None:
    certified = await plant.provision("dev-1")
    await plant.upload(plant.root, plant.issuing)
    assert await refusal(plant.fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await plant.fleet.refusals() == {"issuing CA on a revocation list": 1}


async def test_live_connection_ends(plant: Plant) -> None:
    live = await plant.fleet.connect("dev-1", await plant.provision("dev-1"))
    await plant.upload(plant.root, plant.issuing)
    await plant.settle()
    await live.wait_closed()


async def test_devices_of_other_cas_stay(plant: Plant) -> None:
    live = await plant.fleet.connect("dev-2", await plant.fleet.provision("dev-2"))
    await plant.upload(plant.root, plant.issuing)
    await plant.settle()
    await live.subscribe("$iothub/twin/res/#")
    await live.close()


async def test_revoked_ca_issues_nothing(plant: Plant) -> None:
    await plant.provision("dev-1")
    await plant.upload(plant.root, plant.issuing)
    assert await plant.ask("dev-1") == 503
    assert await plant.ask("dev-9") == 503


async def test_list_of_the_root_counts_for_the_ca_between(fleet: Fleet, tmp_path: Path) -> None:
    root = OpensslCa.root(tmp_path / "corp")
    plant = await activated(fleet, root, root.below("Between"))
    certified = await plant.provision("dev-1")
    await plant.upload(plant.root, plant.signer.pem)
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_list_of_the_ca_between_counts(fleet: Fleet, tmp_path: Path) -> None:
    root = OpensslCa.root(tmp_path / "corp")
    plant = await activated(fleet, root, root.below("Between"))
    certified = await plant.provision("dev-1")
    await plant.upload(plant.signer, plant.issuing)
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_list_counts_where_the_root_was_left_out(fleet: Fleet, tmp_path: Path) -> None:
    root = OpensslCa.root(tmp_path / "corp")
    plant = await activated(fleet, root, root, with_root=False)
    certified = await plant.provision("dev-1")
    await plant.upload(plant.root, plant.issuing)
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_list_that_was_forgotten_counts_no_more(plant: Plant) -> None:
    certified = await plant.provision("dev-1")
    list_id = await plant.upload(plant.root, plant.issuing)
    await plant.fleet.http.delete(f"{LISTS}/{list_id}")
    await (await plant.fleet.connect("dev-1", certified)).close()
    assert await plant.ask("dev-1") == 200


async def test_revoked_ca_is_not_activated(fleet: Fleet, tmp_path: Path) -> None:
    root = OpensslCa.root(tmp_path / "corp")
    between = root.below("Between")
    await Plant(fleet, root, between, "").upload(root, between.pem)
    with pytest.raises(InvalidArgument, match="rule revoked"):
        await activated(fleet, root, between)


async def test_another_ca_is_the_way_out(plant: Plant) -> None:
    await plant.provision("dev-1")
    await plant.upload(plant.root, plant.issuing)
    namespace = await plant.fleet.server.namespaces.get("default")
    lifecycle = plant.fleet.server.lifecycle
    waiting = (await lifecycle.renew(namespace, "plant", by=SYSTEM)).request
    assert waiting is not None
    chain = plant.root.sign(waiting.request) + plant.root.pem
    await lifecycle.activate(namespace, "plant", chain, by=SYSTEM)
    await plant.fleet.server.hubs.synchronize(namespace)
    await (await plant.fleet.connect("dev-1", await plant.provision("dev-1"))).close()


async def test_device_is_explained(plant: Plant) -> None:
    await plant.provision("dev-1")
    await plant.upload(plant.root, plant.issuing)
    explained = await plant.fleet.http.get("/fleetroot/devices/dev-1/explanation")
    assert "issuing CA on a revocation list" in explained.text
