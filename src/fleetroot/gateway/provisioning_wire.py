"""Provisioning over MQTT: from the `$dps` topics to calls on `provisioning`, and back.

Attestation is checked on every request, so CONNECT asks only for an ID scope that exists. There are
no persistent sessions, whatever CleanSession says.

Source: Azure DPS, "Communicate with DPS using MQTT".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fleetroot.clock import Clock
from fleetroot.errors import FleetrootError, InvalidArgument, Unauthorized
from fleetroot.gateway.connection import DeviceConnection, parse_token
from fleetroot.gateway.error_bodies import error_body
from fleetroot.gateway.mqtt import (
    Connect,
    MalformedProperties,
    PublishReceived,
    SubackCode,
    SubscribeReceived,
    UnsubscribeReceived,
    Will,
    parse_rid_query,
)
from fleetroot.gateway.names import ProvisioningName
from fleetroot.gateway.refusals import Refusals
from fleetroot.gateway.registration_bodies import (
    csr_field,
    is_final,
    operation_status,
    read_registration,
)
from fleetroot.ids import canonical
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning.model import RegisterRequest, RegistrationResult
from fleetroot.sas import SasToken

ANSWERS: Final = "$dps/registrations/res/#"
_REGISTER: Final = "$dps/registrations/PUT/iotdps-register/"
_OPERATION: Final = "$dps/registrations/GET/iotdps-get-operationstatus/"
_RETRY_AFTER: Final = 3  # seconds, for what is not done yet
_UNATTESTED_SECONDS: Final = 60.0  # that a connection may stand without, or since, an attestation


class ProvisioningWire:
    """One device that comes to provision."""

    def __init__(
        self,
        connection: DeviceConnection,
        name: ProvisioningName,
        provisioning: Provisioning,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._name = name
        self._provisioning = provisioning
        self._refusals = refusals
        self._clock = clock
        self._token: SasToken | None = None
        self._qos: int | None = None  # of the answers; None: not subscribed

    async def connect(self, connect: Connect) -> bool:
        """See `connection.Wire.connect`."""
        if canonical(connect.client_id) != canonical(self._name.registration_id):
            raise InvalidArgument("client id is not the registration id")
        self._token = parse_token(connect.password)
        if not await self._provisioning.has_id_scope(self._name.id_scope):
            raise Unauthorized("unknown ID scope")
        self._stay()
        return False

    def _stay(self) -> None:
        """An ID scope is no secret: who knows one does not hold a connection for long."""
        self._connection.end_after(
            _UNATTESTED_SECONDS, lambda: self._connection.refuse("provisioning", "idle")
        )

    def connected(self) -> None:
        """Nothing waits for a device here."""

    async def lost(self, will: Will | None) -> None:
        """Nothing is left of a device here; wills are not offered."""

    def subscribed(self, event: SubscribeReceived) -> None:
        """Grants the answers' topic at most QoS 1, and nothing else."""
        granted: list[SubackCode] = []
        for topic_filter, qos in event.filters:
            if topic_filter == ANSWERS:
                self._qos = min(qos, 1)
                granted.append(SubackCode(self._qos))
            else:
                granted.append(SubackCode.FAILURE)
        self._connection.suback(event.packet_id, granted)

    def unsubscribed(self, event: UnsubscribeReceived) -> None:
        """Gives the answers' topic back."""
        if ANSWERS in event.filters:
            self._qos = None
        self._connection.unsuback(event.packet_id)

    def published(self, event: PublishReceived) -> None:
        """A register or poll request."""
        topic, _, tail = event.topic.rpartition("/")
        topic += "/"
        requests: dict[
            str, Callable[[PublishReceived, dict[str, str]], Awaitable[RegistrationResult]]
        ]
        requests = {_REGISTER: self._register, _OPERATION: self._operation}
        request = requests.get(topic)
        if request is None:
            self._connection.refuse("topic", "not a topic of provisioning")
            return
        try:
            query = parse_rid_query(tail)
        except MalformedProperties as error:
            self._connection.refuse("topic", error.message)
            return
        self._connection.puback(event.packet_id)
        self._connection.in_order(lambda: self._answer(request(event, query), query))

    async def _register(self, event: PublishReceived, _query: dict[str, str]) -> RegistrationResult:
        field = csr_field(self._name.api_version)
        csr = read_registration(event.payload, self._name.registration_id, field)
        return await self._provisioning.register(
            RegisterRequest(self._name.id_scope, self._name.registration_id, self._token, csr)
        )

    async def _operation(
        self, _event: PublishReceived, query: dict[str, str]
    ) -> RegistrationResult:
        csr_field(self._name.api_version)
        operation_id = query.get("operationId")
        if not operation_id:
            raise InvalidArgument("operationId: required")
        return await self._provisioning.operation(
            self._name.id_scope, self._name.registration_id, self._token, operation_id
        )

    async def _answer(self, request: Awaitable[RegistrationResult], query: dict[str, str]) -> None:
        retry_after: int | None = None
        try:
            result = await request
            self._stay()
            version = self._name.api_version or ""
            body = operation_status(result, csr_field(version), version)
            status = 200
            if not is_final(result):
                status, retry_after = 202, _RETRY_AFTER
        except FleetrootError as error:
            trace_id = self._refusals.add(
                "provisioning",
                error.reason,
                peer=self._connection.peer,
                device=self._name.registration_id,
            )
            body = error_body(error, self._clock.now(), trace_id)
            status, retry_after = error.code.status, error.retry_after
            if retry_after is None and (status == 429 or status >= 500):
                retry_after = _RETRY_AFTER
        if self._qos is None or "$rid" not in query:
            return
        topic = f"$dps/registrations/res/{status}/?$rid={query['$rid']}"
        if retry_after is not None:
            topic += f"&retry-after={retry_after}"
        self._connection.publish(topic, body, self._qos)
