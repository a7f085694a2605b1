"""Provisioning over MQTT: from the `$dps` topics to calls on `provisioning`, and back.

Attestation is checked on every request, so CONNECT asks only for an ID scope that exists. There are
no persistent sessions, whatever CleanSession says.

Source: Azure DPS, "Communicate with DPS using MQTT".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fleetroot.clock import Clock
from fleetroot.errors import EnrollmentNotFound, FleetrootError, InvalidArgument, Unauthorized
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
from fleetroot.gateway.registration_bodies import (
    MAX_BODY_BYTES,
    csr_field,
    is_final,
    operation_status,
    read_registration,
)
from fleetroot.ids import canonical
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning.model import OnboardingCredential, RegisterRequest, RegistrationResult

ANSWERS: Final = "$dps/registrations/res/#"
_REGISTER: Final = "$dps/registrations/PUT/iotdps-register/"
_OPERATION: Final = "$dps/registrations/GET/iotdps-get-operationstatus/"
_RETRY_AFTER: Final = 3  # seconds, for what is not done yet
_ROOM: Final = 8 * 1024  # for a topic, and for a body a little over its limit, which is told so
_Request = Callable[[PublishReceived, dict[str, str]], Awaitable[RegistrationResult]]


class ProvisioningWire:
    """One device that comes to provision."""

    max_packet_bytes = MAX_BODY_BYTES + _ROOM

    def __init__(
        self,
        connection: DeviceConnection,
        name: ProvisioningName,
        provisioning: Provisioning,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._name = name
        self._provisioning = provisioning
        self._clock = clock
        self._failed = 0  # attestations, since one that did not
        self._credential = OnboardingCredential()
        self._has_asked = False
        self._qos: int | None = None  # of the answers; None: not subscribed

    async def connect(self, connect: Connect) -> bool:
        """See `connection.Wire.connect`."""
        if canonical(connect.client_id) != canonical(self._name.registration_id):
            raise InvalidArgument("client id is not the registration id")
        self._credential = OnboardingCredential(
            parse_token(connect.password), self._connection.peer_chain
        )
        if not await self._provisioning.has_id_scope(self._name.id_scope):
            raise Unauthorized("unknown ID scope")
        self._stay()
        return False

    def _stay(self) -> None:
        """An ID scope is no secret: who knows one does not hold a connection for long."""
        self._connection.end_after(
            self._connection.limits.unattested_seconds,
            lambda: self._connection.refuse("provisioning", "idle"),
        )

    def connected(self) -> None:
        """Nothing waits for a device here."""

    async def lost(self, will: Will | None) -> None:
        """Nothing is left of a device here; wills are not offered."""
        if not self._has_asked and not self._connection.was_refused:
            self._connection.report("provisioning", "gone without attesting")

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
        requests: dict[str, _Request] = {_REGISTER: self._register, _OPERATION: self._operation}
        request = requests.get(topic)
        if request is None:
            self._connection.refuse("topic", "not a topic of provisioning")
            return
        try:
            query = parse_rid_query(tail)
        except MalformedProperties as error:
            self._connection.refuse("topic", f"malformed properties in a topic: {error.message}")
            return
        self._has_asked = True
        self._connection.puback(event.packet_id)
        self._connection.in_order(lambda: self._answer(request, event, query))

    async def _register(self, event: PublishReceived, _query: dict[str, str]) -> RegistrationResult:
        field = csr_field(self._name.api_version)
        asked = read_registration(event.payload, self._name.registration_id, field)
        return await self._provisioning.register(
            RegisterRequest(
                self._name.id_scope,
                self._name.registration_id,
                self._credential,
                asked.csr,
                self._connection.peer,
                self._connection.trace_id,
                asked.payload,
            )
        )

    async def _operation(
        self, _event: PublishReceived, query: dict[str, str]
    ) -> RegistrationResult:
        csr_field(self._name.api_version)
        operation_id = query.get("operationId")
        if not operation_id:
            raise InvalidArgument("operationId: required")
        return await self._provisioning.operation(
            self._name.id_scope,
            self._name.registration_id,
            self._credential,
            operation_id,
            self._connection.peer,
        )

    async def _answer(
        self, request: _Request, event: PublishReceived, query: dict[str, str]
    ) -> None:
        if self._has_failed_enough():
            return  # it was asked before the connection was closed for it
        retry_after: int | None = None
        try:
            result = await request(event, query)
            self._attested()
            version = self._name.api_version or ""
            body = operation_status(result, csr_field(version), version)
            status = 200
            if not is_final(result):
                status, retry_after = 202, _RETRY_AFTER
        except FleetrootError as error:
            self._connection.report("provisioning", error)
            self._failed += isinstance(error, Unauthorized | EnrollmentNotFound)
            body = error_body(error, self._clock.now(), self._connection.trace_id)
            status, retry_after = error.code.status, error.retry_after
            if retry_after is None and (status == 429 or status >= 500):
                retry_after = _RETRY_AFTER
        if self._qos is not None and "$rid" in query:
            self._publish(query["$rid"], status, retry_after, body)
        if self._has_failed_enough():
            self._connection.refuse("provisioning", "too many failed attestations", charge=False)

    def _has_failed_enough(self) -> bool:
        return self._failed >= self._connection.limits.failed_attestations

    def _attested(self) -> None:
        self._failed = 0
        self._connection.vouch()
        self._stay()

    def _publish(self, rid: str, status: int, retry_after: int | None, body: bytes) -> None:
        assert self._qos is not None  # noqa: S101
        topic = f"$dps/registrations/res/{status}/?$rid={rid}"
        if retry_after is not None:
            topic += f"&retry-after={retry_after}"
        self._connection.publish(topic, body, self._qos)
