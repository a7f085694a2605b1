"""A hub over MQTT: from its topics to calls on `hub`, and back.

The topics are fixed; anything else closes the connection. A message is acknowledged when it is in
the event log, so a device that saw no acknowledgement sends it again.

Source: Azure IoT Hub, "Communicate with an IoT hub using MQTT".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from fleetroot.clock import Clock
from fleetroot.errors import FleetrootError, InvalidArgument, Unauthorized
from fleetroot.gateway import hub_bodies
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
    format_properties,
    parse_properties,
    parse_rid_query,
)
from fleetroot.gateway.names import HUB_VERSIONS, HubName
from fleetroot.hub.cloud_to_device import QueuedMessage
from fleetroot.hub.hub import Hubs
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import (
    Accepted,
    CertificateProof,
    Channel,
    CredentialAnswer,
    Ending,
    Issued,
    Proof,
    TokenProof,
)

_TWIN_GET: Final = "$iothub/twin/GET/"
_TWIN_PATCH: Final = "$iothub/twin/PATCH/properties/reported/"
_DESIRED: Final = "$iothub/twin/PATCH/properties/desired/"
_METHOD_CALL: Final = "$iothub/methods/POST/"
_METHOD_ANSWER: Final = "$iothub/methods/res/"
_ISSUE_CERTIFICATE: Final = "$iothub/credentials/POST/issueCertificate/"
_FILTERS: Final = {
    "$iothub/twin/res/#": Channel.TWIN,
    f"{_DESIRED}#": Channel.DESIRED,
    f"{_METHOD_CALL}#": Channel.METHODS,
}
_CREDENTIALS: Final = "$iothub/credentials/res/#"


class HubWire:
    """One device that works; also its `hub.model.Connection`."""

    def __init__(
        self,
        connection: DeviceConnection,
        name: HubName,
        hubs: Hubs,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._name = name
        self._hubs = hubs
        self._clock = clock
        self.max_packet_bytes = connection.limits.packet_bytes
        self._session: LiveSession
        self._filters = _FILTERS
        self._events = ""
        self._commands = ""

    # --- connection.Wire

    async def connect(self, connect: Connect) -> bool:
        """See `connection.Wire.connect`."""
        if self._name.api_version not in HUB_VERSIONS:
            raise Unauthorized("unknown api-version")
        if connect.client_id != self._name.client_id:
            raise InvalidArgument("client id is not the device id of the user name")
        self._look_at_topics()
        if connect.will is not None and not self._is_events(connect.will.topic):
            raise Unauthorized("will on a topic that is not the device's events")
        self._session, present = await self._hubs.connect(
            self._name.host_name,
            self._name.client_id,
            self._proof(connect.password),
            self,
            clean_session=connect.clean_session,
        )
        self._connection.vouch()
        self._connection.on_reading = lambda: self._hubs.go_on(self._session)
        if self._name.model_id is not None:
            self._hubs.note_model(self._session, self._name.model_id)
        return present

    def _look_at_topics(self) -> None:
        """Those below `devices/`; a module renews no certificate, and is sent no messages."""
        device = f"devices/{self._name.device_id}/"
        if self._name.module_id is None:
            self._events = f"{device}messages/events/"
            self._commands = f"{device}messages/devicebound/"
            self._filters = {
                **_FILTERS,
                _CREDENTIALS: Channel.CREDENTIALS,
                f"{self._commands}#": Channel.COMMANDS,
            }
            return
        module = f"{device}modules/{self._name.module_id}/"
        self._events = f"{module}messages/events/"
        self._filters = {
            **_FILTERS,
            f"{module}#": Channel.MODULE,
            f"{module}inputs/#": Channel.INPUTS,
        }

    def _proof(self, password: bytes | None) -> Proof | None:
        """A password is a token; without one, the certificate of the handshake counts."""
        token = parse_token(password)
        if token is not None:
            return TokenProof(token)
        chain = self._connection.peer_chain
        return CertificateProof(chain) if chain else None

    def connected(self) -> None:
        """A session that is resumed may have an answer waiting."""
        if Channel.CREDENTIALS in self._session.subscriptions:
            self._connection.in_order(lambda: self._hubs.renewal.deliver_pending(self._session))
        if Channel.COMMANDS in self._session.subscriptions:
            self._connection.in_order(lambda: self._hubs.commands.deliveries.begin(self._session))
        if Channel.METHODS in self._session.subscriptions:
            self._hubs.methods.go_on(self._session)

    async def lost(self, will: Will | None) -> None:
        """See `connection.Wire.lost`."""
        try:
            if will is not None:
                await self._send_will(will)
        finally:
            self._hubs.disconnect(self._session)

    async def _send_will(self, will: Will) -> None:
        bag = parse_properties(will.topic[len(self._events) :])
        bag["iothub-MessageType"] = "Will"
        message = hub_bodies.to_message(
            will.payload, bag, self._session.principal, retain=will.retain
        )
        await self._hubs.send(self._session, message)

    def published(self, event: PublishReceived) -> None:
        """Telemetry, a twin request, a method's answer or a certificate request."""
        if self._is_events(event.topic):
            self._telemetry(event)
            return
        topic, _, tail = event.topic.rpartition("/")
        topic += "/"
        try:
            is_answer = topic.startswith(_METHOD_ANSWER)
            is_known = (
                is_answer
                or topic in (_TWIN_GET, _TWIN_PATCH)
                or (topic == _ISSUE_CERTIFICATE and self._name.module_id is None)
            )
            if not is_known:
                raise Unauthorized("not a topic of this device")
            rid = parse_rid_query(tail).get("$rid")
        except MalformedProperties as error:
            self._connection.refuse("topic", f"malformed properties in a topic: {error.message}")
            return
        except Unauthorized as error:
            self._connection.refuse("topic", error.reason)
            return
        self._connection.puback(event.packet_id)
        if rid is None:
            return  # nobody could be answered
        if is_answer:
            self._answer_method(rid, topic[len(_METHOD_ANSWER) : -1], event.payload)
        elif topic == _TWIN_GET:
            self._connection.in_order(lambda: self._get_twin(rid))
        elif topic == _TWIN_PATCH:
            self._connection.in_order(lambda: self._patch_twin(rid, event.payload))
        else:
            self._connection.in_order(lambda: self._request_credential(rid, event.payload))

    def subscribed(self, event: SubscribeReceived) -> None:
        """Grants the QoS that was asked, at most 1; a filter that is not offered is the end."""
        granted: dict[Channel, int] = {}
        codes: list[SubackCode] = []
        for topic_filter, qos in event.filters:
            channel = self._filters.get(topic_filter)
            if channel is None:
                self._connection.refuse("topic", "not a filter of this device")
                return
            granted[channel] = min(qos, 1)
            codes.append(SubackCode(granted[channel]))

        async def subscribe() -> None:
            await self._hubs.subscribe(self._session, granted)
            self._connection.suback(event.packet_id, codes)
            if Channel.CREDENTIALS in granted:
                await self._hubs.renewal.deliver_pending(self._session)
            if Channel.COMMANDS in granted:
                await self._hubs.commands.deliveries.begin(self._session)
            if Channel.METHODS in granted:
                self._hubs.methods.go_on(self._session)

        self._connection.in_order(subscribe)

    def unsubscribed(self, event: UnsubscribeReceived) -> None:
        """Gives topics back; those that the device never had are none of its."""
        channels = [self._filters[f] for f in event.filters if f in self._filters]

        async def unsubscribe() -> None:
            await self._hubs.unsubscribe(self._session, channels)
            self._connection.unsuback(event.packet_id)

        self._connection.in_order(unsubscribe)

    # --- hub.model.Connection

    @property
    def peer(self) -> str:
        """See `hub.model.Connection.peer`."""
        return self._connection.peer

    @property
    def trace_id(self) -> str:
        """See `hub.model.Connection.trace_id`."""
        return self._connection.trace_id

    def end(self, why: Ending) -> None:
        """See `hub.model.Connection.end`."""
        self._connection.refuse("ended", why.value, charge=False)

    def answer_credential_request(
        self,
        request_id: str,
        answer: CredentialAnswer,
        qos: int,
        delivered: Callable[[], None] | None = None,
    ) -> bool:
        """See `hub.model.Connection.answer_credential_request`."""
        match answer:
            case Accepted():
                status, body = 202, hub_bodies.accepted_body(answer)
            case Issued():
                status, body = 200, hub_bodies.issued_body(answer)
            case FleetrootError():
                self._connection.report("renewal", answer, charge=False)
                status = answer.code.status
                now, tracked = self._clock.now(), self._connection.trace_id
                body = error_body(answer, now, tracked, says_when=True)
        # Exactly this topic: clients of the preview know no further parameter.
        topic = f"$iothub/credentials/res/{status}/?$rid={request_id}"
        return self._connection.publish(topic, body, qos, delivered)

    def send_command(self, queued: QueuedMessage, qos: int, delivered: Callable[[], None]) -> bool:
        """See `hub.model.Connection.send_command`."""
        if self._connection.reader_is_slow:
            return False
        bag = hub_bodies.command_properties(queued.message, self._name.device_id)
        # The slash stays even where no property follows.
        topic = self._commands + format_properties(bag)
        return self._connection.publish(topic, queued.message.body, qos, delivered)

    def desired_changed(
        self, patch: Mapping[str, Any], version: int, qos: int, delivered: Callable[[], None]
    ) -> bool:
        """See `hub.model.Connection.desired_changed`."""
        if self._connection.reader_is_slow:
            return False
        topic = f"{_DESIRED}?$version={version}"
        body = hub_bodies.desired_body(patch, version)
        return self._connection.publish(topic, body, qos, delivered)

    def call_method(self, request_id: str, name: str, payload: bytes) -> bool:
        """See `hub.model.Connection.call_method`. At QoS 0, whatever was granted: it is the answer
        that says that the device has it.
        """
        if self._connection.reader_is_slow:
            return False
        return self._connection.publish(f"{_METHOD_CALL}{name}/?$rid={request_id}", payload, 0)

    # --- messages and twins

    def _is_events(self, topic: str) -> bool:
        return topic.startswith(self._events)

    def _telemetry(self, event: PublishReceived) -> None:
        try:
            bag = parse_properties(event.topic[len(self._events) :])
        except MalformedProperties as error:
            self._connection.refuse("topic", f"malformed properties in a topic: {error.message}")
            return
        message = hub_bodies.to_message(
            event.payload, bag, self._session.principal, retain=event.retain
        )

        async def send() -> None:
            await self._hubs.send(self._session, message)
            self._connection.puback(event.packet_id)

        self._connection.beside(send())

    def _answer_method(self, rid: str, status: str, payload: bytes) -> None:
        """What a caller does not wait for any more is nobody's fault; what is no answer is told."""
        try:
            self._hubs.methods.answer(self._session, rid, status, payload)
        except FleetrootError as error:
            self._connection.report("method", error, charge=False)

    async def _request_credential(self, rid: str, body: bytes) -> None:
        try:
            wish = hub_bodies.read_credential_request(body)
        except FleetrootError as error:
            self._hubs.renewal.refuse(self._session, rid, error)
            return
        issuing = await self._hubs.renewal.request(self._session, rid, wish)
        if issuing is not None:
            # Beside the rest: a second request must find this one active.
            self._connection.beside(issuing)

    async def _get_twin(self, rid: str) -> None:
        try:
            body = hub_bodies.twin_body(await self._hubs.twin(self._session))
        except FleetrootError as error:
            self._twin_refused(rid, error)
        else:
            self._twin_answer(f"200/?$rid={rid}", body)

    async def _patch_twin(self, rid: str, patch: bytes) -> None:
        try:
            version = await self._hubs.report(self._session, patch)
        except FleetrootError as error:
            self._twin_refused(rid, error)
        else:
            self._twin_answer(f"204/?$rid={rid}&$version={version}", b"")

    def _twin_refused(self, rid: str, error: FleetrootError) -> None:
        self._connection.report("twin", error)
        body = error_body(error, self._clock.now(), self._connection.trace_id)
        self._twin_answer(f"{error.code.status}/?$rid={rid}", body)

    def _twin_answer(self, tail: str, body: bytes) -> None:
        if Channel.TWIN in self._session.subscriptions:
            self._connection.publish(f"$iothub/twin/res/{tail}", body, 0)
