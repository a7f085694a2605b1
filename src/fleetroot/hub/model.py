"""The values of the hub, and what it needs of a wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from fleetroot.errors import FleetrootError
from fleetroot.hub.cloud_to_device import QueuedMessage
from fleetroot.registry.model import IssuedChain
from fleetroot.sas import SasToken


@dataclass(frozen=True, slots=True)
class Hub:
    """Where devices connect and operate. `host_name` is in its canonical form."""

    id: str
    namespace_id: str
    name: str
    host_name: str
    created_at: datetime


class Pin(StrEnum):
    """The one kind of proof that an identity accepts."""

    POLICY = "policy"
    KEYS = "keys"
    THUMBPRINTS = "thumbprints"
    UPLOADED = "uploaded"  # any certificate of a CA that was uploaded to the hub


@dataclass(frozen=True, slots=True)
class Identity:
    """A device on a hub, or a module of one. Its keys stay sealed until an authentication needs
    them.

    Attributes:
        device_key: of a module `{parent_key}/{module id, canonical}`; no id has a slash.
        primary_thumbprint, secondary_thumbprint: SHA-256, or SHA-1, over a certificate's DER, in
            upper-case hexadecimal.
        parent_key: of a module, the key of its device's identity on the same hub.
        pin_etag: changes with the pin, the keys and the thumbprints alone.
        parent_scopes: a JSON array, as text.
        managed_by: who a module says manages it.
    """

    hub_id: str
    device_key: str
    device_id: str
    generation_id: str
    enabled: bool
    pin: Pin
    policy_id: str | None
    sealed_primary: bytes | None = field(repr=False)
    sealed_secondary: bytes | None = field(repr=False)
    session_epoch: int
    connected: bool
    connection_changed_at: datetime | None
    etag: str
    created_at: datetime
    updated_at: datetime
    primary_thumbprint: str | None = None
    secondary_thumbprint: str | None = None
    module_id: str | None = None
    parent_key: str | None = None
    pin_etag: str = ""
    status_reason: str | None = None
    status_changed_at: datetime | None = None
    iot_edge: bool = False
    device_scope: str | None = None
    parent_scopes: str | None = None
    managed_by: str | None = None

    @property
    def is_module(self) -> bool:
        """Whether it is of a module."""
        return self.parent_key is not None

    @property
    def resource(self) -> str:
        """What a token for it is for, behind the hub's host name and a slash."""
        module = "" if self.module_id is None else f"/modules/{self.module_id}"
        return f"devices/{self.device_id}{module}"


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """A client certificate whose key the TLS handshake proved: the peer's chain, DER, leaf first.
    Nothing about it has been verified but possession.
    """

    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TokenProof:
    """A shared access signature."""

    token: SasToken


Proof: TypeAlias = CertificateProof | TokenProof


@dataclass(frozen=True, slots=True)
class UploadedPath:
    """Why a certificate of an uploaded CA counts, once its signatures were checked.

    Attributes:
        anchor: the certificate that was uploaded, DER.
        signed: of each certificate below it, who signed it (`third_party_lists.issuer_id`), and its
            serial number.
    """

    anchor: bytes
    signed: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Principal:
    """A device that a hub let in, or a module of one, and by what.

    Attributes:
        generation: of the device when it was let in; None if the registry does not know it.
        certificate_sha256: of the certificate of a policy it was let in by.
        pin_etag: of the identity then; another one means another pin or other keys.
        expires_at: when what it was let in by ends.
        path: to the uploaded CA, where that is what it was let in by.
        module_id: of the device's module that it is; None for the device itself.
    """

    hub: Hub
    device_key: str
    device_id: str
    pin: Pin
    generation: UUID | None
    certificate_sha256: bytes | None
    pin_etag: str
    expires_at: datetime
    path: UploadedPath | None = None
    module_id: str | None = None


class Ending(StrEnum):
    """Why a hub ends a live connection."""

    REPLACED = "replaced by a newer connection"
    REVOKED = "revoked"
    DISABLED = "disabled"
    IDENTITY_CHANGED = "identity changed"
    CA_DISTRUSTED = "uploaded CA not trusted any more"
    CREDENTIAL_EXPIRED = "credential expired"
    LEASE_LOST = "the node cannot reach the database"
    SHUTDOWN = "shutdown"
    GONE = "the device went away"


class Channel(StrEnum):
    """What a device may listen to."""

    COMMANDS = "commands"
    CREDENTIALS = "credentials"
    DESIRED = "desired"
    INPUTS = "inputs"  # of a module
    METHODS = "methods"
    MODULE = "module"  # whatever is below the topic of a module
    TWIN = "twin"


REPLACE_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class CredentialWish:
    """What a device asks for when it renews; its form has been checked.

    Attributes:
        device_id: whom the certificate is to be for.
        csr: base64 of DER, not looked at yet.
        replace: the id of the active request that this one replaces, `REPLACE_ANY`, or None.
    """

    device_id: str
    csr: str
    replace: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A certificate request is being worked on until `expires_at`."""

    correlation_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate request was fulfilled."""

    correlation_id: str
    chain: IssuedChain


CredentialAnswer: TypeAlias = Accepted | Issued | FleetrootError


class Connection(Protocol):
    """A device's live connection, as a wire gives it to the hub."""

    @property
    def peer(self) -> str:
        """Where it comes from: host and port."""
        ...

    @property
    def trace_id(self) -> str:
        """By which what becomes of it is found."""
        ...

    def end(self, why: Ending) -> None:
        """Closes the connection. Idempotent."""
        ...

    def answer_credential_request(
        self,
        request_id: str,
        answer: CredentialAnswer,
        qos: int,
        delivered: Callable[[], None] | None = None,
    ) -> bool:
        """Sends an answer, and calls `delivered` when the device has it: at QoS 1 its
        acknowledgement, at QoS 0 the sending. False if it cannot be sent now.
        """
        ...

    def send_command(self, queued: QueuedMessage, qos: int, delivered: Callable[[], None]) -> bool:
        """Sends a cloud-to-device message, and calls `delivered` as above. False if it cannot be
        sent now, or should not because the device does not read: `Hubs.go_on` is called when it
        does again.
        """
        ...

    def desired_changed(
        self, patch: Mapping[str, Any], version: int, qos: int, delivered: Callable[[], None]
    ) -> bool:
        """Sends a patch of desired properties, which makes their `version`; as above."""
        ...

    def call_method(self, request_id: str, name: str, payload: bytes) -> bool:
        """Sends the call of a direct method; the device's answer names `request_id`. False as
        above.
        """
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A device-to-cloud message.

    Attributes:
        properties: what the application put on it; None is a property without a value.
        system_properties: the protocol's own, by their long names (`contentType`, …).
    """

    body: bytes
    properties: Mapping[str, str | None]
    system_properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """An event in the log: a message that a device sent, or a JSON object that tells what happened
    to it. The properties are JSON objects as text.
    """

    seq: int
    kind: str  # an `EventKind`, or one of a newer program
    device_id: str
    enqueued_at: datetime
    properties: str
    system_properties: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Twin:
    """A twin; its sections are JSON objects as text, with neither `$version` nor `$metadata`."""

    tags: str
    desired: str
    reported: str
    desired_version: int
    reported_version: int
