"""What devices and operators do while a server fails: how it begins, is done, and is done again."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives.asymmetric import ec

from fleet import Certified, Fleet, Mqtt, Refused, device_csr, refusal
from fleetroot.gateway.mqtt import ConnackCode

ANSWERS = "$iothub/credentials/res/#"
ISSUE = "$iothub/credentials/POST/issueCertificate/"
SECONDS = 20.0
OTHER_HUB = "second.localhost"


class NotDone(Exception):
    """The server said that it could not."""


class Device:
    """A device, and everything that it was ever given."""

    host: str | None = None  # of its hub; None: the first

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.received: list[Certified] = []
        self.live: Mqtt | None = None

    # --- the operation

    @staticmethod
    async def lay_out(fleet: Fleet) -> None:
        """What is there before the first device of its kind."""

    async def prepare(self, fleet: Fleet) -> None:
        """What is there before."""

    async def act(self, fleet: Fleet) -> None:
        """The operation, as often as it takes.

        Raises:
            NotDone: it was refused for now.
        """
        raise NotImplementedError

    async def check(self, fleet: Fleet) -> None:
        """What holds when the operation was done at last: here, that the device is let in."""
        async with self.connected(fleet, self.received[-1]):
            pass

    # --- its steps

    async def provision(self, fleet: Fleet) -> None:
        await self._provision(fleet, self.id)

    async def _provision(self, fleet: Fleet, id_: str, token: bytes | None = None) -> None:
        key, csr = device_csr(id_)
        async with await fleet.provisioning(id_, token=token) as mqtt:
            body = json.dumps({"registrationId": id_, "csr": csr}).encode()
            answer = await mqtt.ask("$dps/registrations/PUT/iotdps-register/", body)
            if answer.status == 503:
                assert int(answer.query["retry-after"]) > 0
                raise NotDone
            assert answer.status == 200, answer.body
            chain = answer.body["registrationState"]["issuedCertificateChain"]
            self.received.append(Certified(tuple(map(base64.b64decode, chain)), key))

    @asynccontextmanager
    async def connected(self, fleet: Fleet, certified: Certified) -> AsyncIterator[Mqtt]:
        """Over this connection; when it is closed, the server knows."""
        try:
            mqtt = await fleet.connect(self.id, certified, host=self.host)
        except Refused as refused:
            if refused.code is not ConnackCode.SERVER_UNAVAILABLE:
                raise
            raise NotDone from refused
        async with mqtt:
            yield mqtt
        await until(lambda: len(fleet.server.hubs.live) == 0)

    async def stay(self, fleet: Fleet) -> None:
        """Connects, and stays."""
        self.live = await fleet.connect(self.id, self.received[-1])

    async def order(self, fleet: Fleet, what: str, **body: object) -> None:
        answer = await fleet.http.post(f"/fleetroot/devices/{self.id}/{what}", json=body)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
            raise NotDone
        assert answer.status_code == 200, answer.text

    async def assert_dropped(self, fleet: Fleet) -> None:
        """Whatever was given before is refused, and who was connected with it is not any more."""
        if self.live is not None:
            await self.live.wait_closed()
        for certified in self.received:
            code = await refusal(fleet.connect(self.id, certified))
            assert code is ConnackCode.NOT_AUTHORIZED


class FirstProvisioning(Device):
    async def act(self, fleet: Fleet) -> None:
        await self.provision(fleet)


class ProvisioningAgain(FirstProvisioning):
    async def prepare(self, fleet: Fleet) -> None:
        await self.provision(fleet)


class ProvisioningOnAnotherHub(FirstProvisioning):
    """The enrollment names another hub than the one that the device is on."""

    host = OTHER_HUB

    @staticmethod
    async def lay_out(fleet: Fleet) -> None:
        namespace = await fleet.server.registry.namespace("default")
        await fleet.server.hubs.create(namespace, "second", OTHER_HUB)
        await fleet.server.hubs.synchronize(namespace)
        await fleet.execute(
            "INSERT INTO linked_hubs (service_id, hub_id) "
            "SELECT provisioning_services.id, hubs.id FROM provisioning_services, hubs "
            "WHERE hubs.name = 'second'"
        )

    async def prepare(self, fleet: Fleet) -> None:
        self.key, _ = await fleet.enroll(self.id, policy="default", iotHubs=[fleet.hub_host])
        await self.provision(fleet)
        await fleet.enroll(self.id, policy="default", again=True, iotHubs=[OTHER_HUB])

    async def provision(self, fleet: Fleet) -> None:
        await self._provision(fleet, self.id, fleet.provisioning_token(self.id, self.key))


class TakingOver(Device):
    """Another enrollment names the device: what it was issued before does not count any more."""

    async def prepare(self, fleet: Fleet) -> None:
        await self.provision(fleet)
        await self.stay(fleet)
        self.own = f"own-{self.id}"
        self.key, _ = await fleet.enroll(self.own, policy="default", deviceId=self.id)
        self._before = list(self.received)

    async def act(self, fleet: Fleet) -> None:
        await self._provision(fleet, self.own, fleet.provisioning_token(self.own, self.key))

    async def check(self, fleet: Fleet) -> None:
        await super().check(fleet)
        after, self.received = self.received, self._before
        await self.assert_dropped(fleet)
        self.received = after


class Connecting(Device):
    async def prepare(self, fleet: Fleet) -> None:
        await self.provision(fleet)

    async def act(self, fleet: Fleet) -> None:
        async with self.connected(fleet, self.received[-1]):
            pass


class Renewal(Device):
    def __init__(self, id_: str) -> None:
        super().__init__(id_)
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}  # by request

    async def prepare(self, fleet: Fleet) -> None:
        await self.provision(fleet)

    async def act(self, fleet: Fleet) -> None:
        key, csr = device_csr(self.id)
        body = json.dumps({"id": self.id, "csr": csr, "replace": "*"}).encode()
        async with self.connected(fleet, self.received[-1]) as mqtt:
            await mqtt.subscribe(ANSWERS, qos=1)
            request = f"request-{len(self._keys)}"
            self._keys[request] = key
            await mqtt.publish(f"{ISSUE}?$rid={request}", body, qos=0)
            while await self._answered(mqtt) != request:
                continue
            await mqtt.unsubscribe(ANSWERS)  # its answer comes behind our acknowledgement

    async def _answered(self, mqtt: Mqtt) -> str:
        """The request of the next final answer, which may be one from before."""
        while (answer := await mqtt.answer()).status == 202:
            continue
        if answer.status == 503:
            raise NotDone
        assert answer.status == 200, answer.body
        chain = tuple(map(base64.b64decode, answer.body["certificates"]))
        request = answer.query["$rid"]
        self.received.append(Certified(chain, self._keys[request]))
        return request


class Revocation(Device):
    async def prepare(self, fleet: Fleet) -> None:
        await self.provision(fleet)
        await self.provision(fleet)
        await self.stay(fleet)

    async def act(self, fleet: Fleet) -> None:
        await self.order(fleet, "revoke")

    async def check(self, fleet: Fleet) -> None:
        await self.assert_dropped(fleet)
        await self.provision(fleet)
        await super().check(fleet)


class RevocationForGood(Revocation):
    async def act(self, fleet: Fleet) -> None:
        await self.order(fleet, "revoke", disable=True)

    async def check(self, fleet: Fleet) -> None:
        await self.assert_dropped(fleet)


class Disabling(RevocationForGood):
    async def act(self, fleet: Fleet) -> None:
        await self.order(fleet, "disable")


class IssuerRevocation(Revocation):
    """What was given under the old CA is refused, and its connections end."""

    path = "/fleetroot/namespaces/default/policies/default/revokeIssuer"

    async def act(self, fleet: Fleet) -> None:
        answer = await fleet.http.post(self.path)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
            raise NotDone
        assert answer.status_code == 200, answer.text


class IssuerRenewal(IssuerRevocation):
    """What was given under the old CA goes on, and so does its connection."""

    path = "/fleetroot/namespaces/default/policies/default/renewIssuer"

    async def check(self, fleet: Fleet) -> None:
        await self.provision(fleet)
        assert self.received[0].chain[1] != self.received[-1].chain[1]
        for certified in self.received:
            async with self.connected(fleet, certified):
                pass


OPERATIONS = (
    FirstProvisioning,
    ProvisioningAgain,
    ProvisioningOnAnotherHub,
    TakingOver,
    Connecting,
    Renewal,
    Revocation,
    RevocationForGood,
    Disabling,
    IssuerRevocation,
    IssuerRenewal,
)


async def until(condition: object) -> None:
    """Waits until something that nobody tells of is so."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)
