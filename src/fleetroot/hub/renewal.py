"""Renewal: a certificate request over the device's own connection.

A request is opened in one unit of work (a device has one at a time), accepted, signed, and answered
in a second unit that also puts the certificate into the inventory. The final answer stays in the
table until it reached the device, so a device that lost its connection in between, or was not
listening, gets it when it listens again while the request is alive.

Source: Azure IoT Hub, certificate signing requests over MQTT (2025-08-01-preview).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import structlog

from fleetroot.audit import Actor, ActorKind
from fleetroot.clock import Clock, iso8601
from fleetroot.errors import (
    CredentialRequestActive,
    CredentialRequestFailed,
    FleetrootError,
    InvalidArgument,
    NoSuchRequest,
    NotFound,
    Unauthorized,
    Unavailable,
)
from fleetroot.hub import identities, requests
from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import (
    REPLACE_ANY,
    Accepted,
    Channel,
    CredentialAnswer,
    CredentialWish,
    Issued,
)
from fleetroot.hub.requests import CredentialRequest, RequestState
from fleetroot.ids import canonical
from fleetroot.pki import CertificateRequest, CsrRefused
from fleetroot.registry import devices, inventory
from fleetroot.registry.certificate_limit import CertificateLimit
from fleetroot.registry.issuance import (
    CsrText,
    DeviceChanged,
    Issuance,
    Issuer,
    IssuerRevoked,
)
from fleetroot.registry.model import IssuedChain, Origin
from fleetroot.storage import Store, Transaction

LIFETIME: Final = timedelta(hours=1)  # of a request whose answer nobody fetches
_log = structlog.get_logger("fleetroot.hub.renewal")


class Renewal:
    """Issues certificates to devices that are connected."""

    def __init__(
        self,
        store: Store,
        issuance: Issuance,
        live: LiveTable,
        clock: Clock,
        limit: CertificateLimit,
    ) -> None:
        self._store = store
        self._limit = limit
        self._issuance = issuance
        self._live = live
        self._clock = clock
        self._working: set[str] = set()  # correlation ids of what is being issued now

    async def request(
        self, session: LiveSession, request_id: str, wish: CredentialWish
    ) -> Coroutine[Any, Any, None] | None:
        """Takes a certificate request and gives its answers to the session's connection; whatever
        is wrong with it is an answer too.

        Returns:
            What is left to do once the request is accepted: the issuing, to be run beside whatever
            the device asks next; None if it was refused.
        """
        try:
            return await self._request(session, request_id, wish)
        except FleetrootError as error:
            self.refuse(session, request_id, error)
            return None

    def refuse(self, session: LiveSession, request_id: str, error: FleetrootError) -> None:
        """Answers a request that cannot even be taken."""
        _log.debug(
            "certificate request refused",
            device_id=session.principal.device_id,
            code=error.code.value,
            reason=error.reason,
        )
        self._tell(session, request_id, error)

    async def deliver_pending(self, session: LiveSession) -> None:
        """Gives a device what it has not been told about a request of its that is alive."""
        principal, now = session.principal, self._clock.now()

        def read(tx: Transaction) -> tuple[CredentialRequest, IssuedChain | None] | None:
            request = requests.find(tx, principal.hub.id, principal.device_key, now)
            if request is None:
                return None
            fingerprint = request.certificate_sha256
            return request, self._issuance.chain_of(tx, fingerprint) if fingerprint else None

        found = await self._store.read(read)
        if found is None or session.sent_request == found[0].correlation_id:
            return
        request, chain = found
        issuing = request.state is RequestState.ISSUING
        if issuing and request.correlation_id not in self._working:
            return  # given up, and the database could not be told
        self._tell_accepted(session, request)
        if not issuing:
            outcome = Issued(request.correlation_id, chain) if chain else request.error
            self._tell_final(session, request, outcome or Unauthorized("certificate revoked"))

    async def remove_expired(self) -> None:
        """Removes requests whose time is over."""
        now = self._clock.now()
        await self._store.write(lambda tx: requests.remove_expired(tx, now))

    # --- one request

    async def _request(
        self, session: LiveSession, request_id: str, wish: CredentialWish
    ) -> Coroutine[Any, Any, None]:
        principal = session.principal
        if canonical(wish.device_id) != principal.device_key:
            raise InvalidArgument("id: must be the id of the device that is connected")
        self._limit.take(principal.hub.namespace_id, principal.device_key)
        issuer = await self._issuer(session)
        now = self._clock.now()
        csr: CertificateRequest | CsrRefused
        try:
            text = CsrText(wish.csr)
            csr = self._issuance.read_request(issuer.policy, text, principal.device_id).verify()
        except CsrRefused as refused:
            csr = refused
        request = CredentialRequest(
            hub_id=principal.hub.id,
            device_key=principal.device_key,
            request_id=request_id,
            correlation_id=str(uuid4()),
            state=RequestState.ISSUING,
            certificate_sha256=None,
            error=None,
            expires_at=now + LIFETIME,
            created_at=now,
        )
        sent = session.sent_request
        self._working.add(request.correlation_id)
        try:
            await self._store.write(lambda tx: self._open(tx, request, wish.replace, sent, now))
            self._tell_accepted(session, request)
        except BaseException:  # nobody will fulfil it: it must not block the device's next
            self._working.discard(request.correlation_id)
            raise
        return self._fulfil(session, request, issuer, csr)

    async def _fulfil(
        self,
        session: LiveSession,
        request: CredentialRequest,
        issuer: Issuer,
        csr: CertificateRequest | CsrRefused,
    ) -> None:
        try:
            await self._issue_or_fail(session, request, issuer, csr)
        except FleetrootError as error:
            self.refuse(session, request.request_id, error)
        finally:
            self._working.discard(request.correlation_id)

    async def _issue_or_fail(
        self,
        session: LiveSession,
        request: CredentialRequest,
        issuer: Issuer,
        csr: CertificateRequest | CsrRefused,
    ) -> None:
        if isinstance(csr, CsrRefused):
            await self._fail(session, request, _csr_error(csr))
            return
        try:
            try:
                await self._issue(session, request, issuer, csr)
            except IssuerRevoked:  # between signing and recording; another one signs now
                await self._issue(session, request, await self._issuer(session), csr)
        except DeviceChanged:
            await self._fail(session, request, Unauthorized("device revoked or disabled"))
        except IssuerRevoked:
            await self._fail(session, request, Unavailable("the policy is changing"))
        except FleetrootError as error:
            await self._fail(session, request, error)

    async def _issuer(self, session: LiveSession) -> Issuer:
        principal = session.principal
        identity = await self._store.read(
            lambda tx: identities.find(tx, principal.hub.id, principal.device_key)
        )
        if identity is None or identity.policy_id is None:
            raise InvalidArgument("id: the device is under no policy that issues certificates")
        try:
            return await self._issuance.issuer_of(identity.policy_id)
        except NotFound as error:
            raise Unavailable("the policy cannot issue now", retry_after=60) from error

    async def _issue(
        self,
        session: LiveSession,
        request: CredentialRequest,
        issuer: Issuer,
        csr: CertificateRequest,
    ) -> None:
        principal, now = session.principal, self._clock.now()
        device = await self._store.read(
            lambda tx: devices.find(tx, principal.hub.namespace_id, principal.device_key)
        )
        # Only what let this session in may renew itself: not what was revoked since.
        if device is None or device.generation != principal.generation:
            raise DeviceChanged
        connection = session.connection
        by = Actor(ActorKind.DEVICE, device.device_id, connection.peer, connection.trace_id)
        leaf = await self._issuance.sign_waiting(issuer, device, csr, now, by=by)

        def unit(tx: Transaction) -> bool:
            shown = principal.certificate_sha256
            if shown is not None and inventory.is_revoked(tx, shown):
                raise DeviceChanged
            if not requests.answer(tx, request, leaf.certificate.sha256):
                return False  # replaced: nobody wants this certificate, so it never exists
            self._issuance.record(tx, [leaf], Origin.RENEWAL, now)
            return True

        if await self._store.write(unit):
            self._tell_final(session, request, Issued(request.correlation_id, leaf.chain))

    async def _fail(
        self, session: LiveSession, request: CredentialRequest, error: FleetrootError
    ) -> None:
        _log.info(
            "certificate request failed",
            device_id=session.principal.device_id,
            code=error.code.value,
            reason=error.reason,
        )
        if await self._store.write(lambda tx: requests.answer(tx, request, error)):
            self._tell_final(session, request, error)

    def _active(
        self, tx: Transaction, request: CredentialRequest, sent: str | None, now: datetime
    ) -> CredentialRequest | None:
        """The device's other request that is in progress."""
        other = requests.find(tx, request.hub_id, request.device_key, now)
        if other is None or other.correlation_id == sent:
            return None  # over, but for the acknowledgement of its answer
        if other.state is RequestState.ISSUING and other.correlation_id not in self._working:
            return None  # given up, and the database could not be told
        return other

    def _open(
        self,
        tx: Transaction,
        request: CredentialRequest,
        replaced: str | None,
        sent: str | None,
        now: datetime,
    ) -> None:
        """Opens the request, in place of what it replaces.

        Raises:
            CredentialRequestActive: the device has another one in progress.
            NoSuchRequest: it replaces one that is not in progress.
        """
        active = self._active(tx, request, sent, now)
        if replaced not in (None, REPLACE_ANY) and (
            active is None or active.request_id != replaced
        ):
            raise NoSuchRequest(
                "replace: no such request is active", info={"requestId": str(replaced)}
            )
        if active is not None and replaced is None:
            raise CredentialRequestActive(
                "another certificate request of the device is active",
                info={
                    "requestId": active.request_id,
                    "operationExpires": iso8601(active.expires_at),
                    "correlationId": active.correlation_id,
                },
            )
        requests.open_one(tx, request)

    # --- answers

    def _tell_accepted(self, session: LiveSession, request: CredentialRequest) -> None:
        """Says once over a connection that the request is being worked on: while what is pending
        was read for a device, it may have opened this very request.
        """
        if session.accepted_request != request.correlation_id and self._tell(
            session, request.request_id, Accepted(request.correlation_id, request.expires_at)
        ):
            session.accepted_request = request.correlation_id

    def _tell_final(
        self, session: LiveSession, request: CredentialRequest, answer: CredentialAnswer
    ) -> None:
        """Gives the final answer to the connection that the device has now, which may be a newer
        one than it asked over; the request ends when it reached the device.
        """
        session = self._live.current(session)
        if session.sent_request == request.correlation_id:
            return  # a device that asked what is pending was quicker than its answer

        def delivered() -> None:
            self._store.submit(lambda tx: requests.remove(tx, request))

        if self._tell(session, request.request_id, answer, delivered):
            session.sent_request = request.correlation_id

    @staticmethod
    def _tell(
        session: LiveSession,
        request_id: str,
        answer: CredentialAnswer,
        delivered: Callable[[], None] | None = None,
    ) -> bool:
        """Gives an answer to a device that listens; whether it could be sent."""
        qos = session.subscriptions.get(Channel.CREDENTIALS)
        if qos is None or session.ended is not None:
            return False
        return session.connection.answer_credential_request(request_id, answer, qos, delivered)


def _csr_error(refused: CsrRefused) -> CredentialRequestFailed:
    return CredentialRequestFailed(
        "the certificate signing request was refused",
        info={"credentialError": refused.reason.value, "credentialMessage": refused.message},
    )
