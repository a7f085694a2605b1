"""What a hub accepts.

Authentication only says who. Each identity is pinned to one kind of proof, and each kind has its
own rule; a proof of another kind is refused, however good it is. The rule of certificates stands
once more in `sessions`, as the one statement that lets a device in; here is why it did not.

A certificate of a policy counts because it is in the inventory, byte for byte, for this namespace,
device and policy. That replaces checking its signature a second time: nothing is in the inventory
that we did not sign. One that chains to a trusted issuing CA and is not in the inventory was signed
by somebody else with our key, and is reported as that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from cryptography import x509
from sqlalchemy import and_, bindparam, select

from fleetroot.custody import Sealer
from fleetroot.errors import TokenInvalid, Unauthorized
from fleetroot.hub import identities, thumbprints, uploaded_authorities
from fleetroot.hub.alerts import NeverIssued, UnknownCertificate
from fleetroot.hub.model import (
    CertificateProof,
    Hub,
    Identity,
    Pin,
    Principal,
    Proof,
    TokenProof,
    UploadedPath,
)
from fleetroot.hub.uploaded_authorities import UploadedAuthorities
from fleetroot.ids import canonical, device_of
from fleetroot.pki import Anchors, ChainRefused, load_chain, verify_chain
from fleetroot.registry import authorities, inventory, restores, shared_access
from fleetroot.registry.model import AuthorityKind
from fleetroot.registry.shared_access import Right
from fleetroot.sas import SasToken
from fleetroot.storage import Query, Transaction
from fleetroot.storage.schema import authorities as authorities_table
from fleetroot.storage.schema import certificates, devices, hub_authorities
from fleetroot.storage.schema import hubs as hubs_table
from fleetroot.storage.schema import identities as identities_table


@dataclass(frozen=True, slots=True)
class _Presented:
    """The certificate that was presented, as the inventory has it."""

    namespace_id: str
    policy_id: str
    device_key: str
    generation: UUID
    not_before: datetime
    not_after: datetime
    expired_at: datetime | None
    revoked_at: datetime | None
    issuer_revoked_at: datetime | None
    issuer_listed_at: datetime | None
    synchronized: bool


@dataclass(frozen=True, slots=True)
class _Admission:
    """Everything that decides whether a device may come in: one row of one query."""

    identity: Identity
    parent_enabled: bool  # of a device, its own identity
    device_enabled: bool | None  # None: the registry does not know the device
    generation: UUID | None
    presented: _Presented | None


_IDENTITY_COLUMNS: Final = len(identities_table.columns)
_NO_CERTIFICATE: Final = b""


def _row(*columns: Any) -> _Admission:
    parent_enabled, enabled, generation, *certificate = columns[_IDENTITY_COLUMNS:]
    *certificate, trusted, issuer_revoked_at, issuer_listed_at = certificate
    presented = None
    if certificate[0] is not None:
        namespace_id, policy_id, device_key, of_generation, start, end, expired_at, revoked_at = (
            certificate
        )
        presented = _Presented(
            namespace_id=namespace_id,
            policy_id=policy_id,
            device_key=device_key,
            generation=UUID(of_generation),
            not_before=start,
            not_after=end,
            expired_at=expired_at,
            revoked_at=revoked_at,
            issuer_revoked_at=issuer_revoked_at,
            issuer_listed_at=issuer_listed_at,
            synchronized=trusted is not None,
        )
    return _Admission(
        identities.row(*columns[:_IDENTITY_COLUMNS]),
        parent_enabled,
        enabled,
        None if generation is None else UUID(generation),
        presented,
    )


_parents: Final = identities_table.alias("parents")
_ADMISSION: Final = Query(
    select(
        *identities_table.columns,
        _parents.c.enabled.label("parent_enabled"),
        devices.c.enabled.label("device_enabled"),
        devices.c.generation.label("device_generation"),
        certificates.c.namespace_id.label("of_namespace"),
        certificates.c.policy_id.label("of_policy"),
        certificates.c.device_key.label("of_device"),
        certificates.c.generation.label("of_generation"),
        certificates.c.not_before,
        certificates.c.not_after,
        certificates.c.expired_at,
        certificates.c.revoked_at,
        hub_authorities.c.authority_id,
        authorities_table.c.revoked_at.label("issuer_revoked_at"),
        authorities_table.c.listed_at.label("issuer_listed_at"),
    )
    .select_from(
        identities_table.join(hubs_table, hubs_table.c.id == identities_table.c.hub_id)
        .join(
            _parents,
            and_(
                _parents.c.hub_id == identities_table.c.hub_id,
                _parents.c.device_key == bindparam("device"),
            ),
        )
        .outerjoin(
            devices,
            and_(
                devices.c.namespace_id == hubs_table.c.namespace_id,
                devices.c.device_key == bindparam("device"),
            ),
        )
        .outerjoin(certificates, certificates.c.sha256 == bindparam("sha256"))
        .outerjoin(
            hub_authorities,
            and_(
                hub_authorities.c.hub_id == identities_table.c.hub_id,
                hub_authorities.c.authority_id == certificates.c.authority_id,
            ),
        )
        .outerjoin(authorities_table, authorities_table.c.id == certificates.c.authority_id)
    )
    .where(
        and_(
            identities_table.c.hub_id == bindparam("hub"),
            identities_table.c.device_key == bindparam("key"),
        )
    ),
    _row,
)


class CertificateExpired(Unauthorized):
    """A certificate was shown whose time is over."""

    def __init__(self, sha256: bytes) -> None:
        super().__init__("certificate expired")
        self.sha256 = sha256


class _NotInInventory(Unauthorized):
    """A certificate was shown that the inventory does not have."""


class Authentication:
    """Decides whether a proof lets a device into a hub."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._uploaded = UploadedAuthorities()

    def authenticate(
        self,
        tx: Transaction,
        hub: Hub,
        device_id: str,
        proof: Proof | None,
        now: datetime,
        before: Principal | None = None,
    ) -> Principal:
        """Holds a proof against the identity's pin.

        Args:
            device_id: in any spelling; of a module, its device's, a slash, and its own.
            before: what the same proof gave at the same time; its signatures are not checked again.

        Raises:
            Unauthorized: the device is not let in; the reason is for the operator alone.
            NeverIssued: nor is it, and its certificate is of one of our CAs, and nobody issued it.
        """
        fingerprint = (
            sha256(proof.chain[0]).digest()
            if isinstance(proof, CertificateProof)
            else _NO_CERTIFICATE
        )
        try:
            return self._admit(tx, hub, device_id, proof, fingerprint, now, before)
        except Unauthorized as refused:
            # Whatever else is wrong with the device: a certificate that was never issued is news.
            if isinstance(proof, CertificateProof) and inventory.find(tx, fingerprint) is None:
                reason, unknown = self._stranger(tx, hub, device_id, proof, now)
                if not isinstance(refused, _NotInInventory):
                    reason = refused.reason
                if unknown is not None:
                    raise NeverIssued(reason, unknown) from refused
                if isinstance(refused, _NotInInventory):
                    raise Unauthorized(reason) from refused
            raise

    def _admit(
        self,
        tx: Transaction,
        hub: Hub,
        device_id: str,
        proof: Proof | None,
        fingerprint: bytes,
        now: datetime,
        before: Principal | None,
    ) -> Principal:
        key = canonical(device_id)
        found = tx.first(_ADMISSION, hub=hub.id, key=key, device=device_of(key), sha256=fingerprint)
        if found is None:
            if device_of(key) != key:
                raise Unauthorized("no such module on this hub")
            raise Unauthorized("no such device on this hub")
        if found.device_enabled is None:
            raise Unauthorized("device deleted")
        if not (found.identity.enabled and found.parent_enabled and found.device_enabled):
            raise Unauthorized("device disabled")
        path = None
        match found.identity.pin:
            case Pin.POLICY:
                expires_at = self._check_certificate(hub, found, proof, now)
            case Pin.KEYS:
                expires_at = self._check_token(tx, hub, found.identity, proof, now)
            case Pin.THUMBPRINTS:
                expires_at = self._check_thumbprint(found.identity, proof, now)
            case Pin.UPLOADED:
                path, expires_at = self._check_uploaded(tx, hub, found, proof, now, before)
        return Principal(
            hub=hub,
            device_key=found.identity.device_key,
            device_id=found.identity.device_id,
            pin=found.identity.pin,
            generation=found.generation,
            certificate_sha256=fingerprint if found.identity.pin is Pin.POLICY else None,
            pin_etag=found.identity.pin_etag,
            expires_at=expires_at,
            path=path,
            module_id=found.identity.module_id,
        )

    def _check_uploaded(
        self,
        tx: Transaction,
        hub: Hub,
        found: _Admission,
        proof: Proof | None,
        now: datetime,
        before: Principal | None,
    ) -> tuple[UploadedPath, datetime]:
        if not isinstance(proof, CertificateProof):
            raise Unauthorized("no client certificate, and the identity is pinned to CAs")
        if found.presented is not None:
            raise Unauthorized("certificate of a CA of this installation")
        if before is not None and before.path is not None:
            uploaded_authorities.check_stands(tx, hub, before.path)
            return before.path, before.expires_at
        try:
            return self._uploaded.check(tx, hub, found.identity, proof, now)
        except uploaded_authorities.IssuedByUs as error:
            raise _NotInInventory(error.reason) from error

    @staticmethod
    def _check_certificate(
        hub: Hub, found: _Admission, proof: Proof | None, now: datetime
    ) -> datetime:
        if not isinstance(proof, CertificateProof):
            raise Unauthorized("no client certificate, and the identity is pinned to a policy")
        identity, presented = found.identity, found.presented
        if presented is None:
            raise _NotInInventory("certificate not in the inventory")
        if presented.namespace_id != hub.namespace_id:
            raise Unauthorized("certificate of another namespace")
        if presented.device_key != identity.device_key:
            raise Unauthorized("certificate of another device")
        if presented.policy_id != identity.policy_id:
            raise Unauthorized("certificate of another policy")
        if presented.issuer_revoked_at is not None:
            raise Unauthorized("issuing CA revoked")
        if presented.issuer_listed_at is not None:
            raise Unauthorized("issuing CA on a revocation list")
        if not presented.synchronized:
            raise Unauthorized("issuing CA not synchronized to this hub")
        if presented.revoked_at is not None or presented.generation != found.generation:
            raise Unauthorized("certificate revoked")
        if now < presented.not_before:
            raise Unauthorized("certificate not yet valid")
        if presented.expired_at is not None or now > presented.not_after:
            raise CertificateExpired(sha256(proof.chain[0]).digest())
        return presented.not_after

    @staticmethod
    def _check_thumbprint(identity: Identity, proof: Proof | None, now: datetime) -> datetime:
        if not isinstance(proof, CertificateProof):
            raise Unauthorized("no client certificate, and the identity is pinned to thumbprints")
        wanted = {identity.primary_thumbprint, identity.secondary_thumbprint} - {None}
        if wanted.isdisjoint(thumbprints.of(proof)):
            raise Unauthorized("certificate of another thumbprint")
        return thumbprints.check(proof, now)

    @staticmethod
    def _stranger(
        tx: Transaction, hub: Hub, device_id: str, proof: CertificateProof, now: datetime
    ) -> tuple[str, UnknownCertificate | None]:
        """Whose a certificate is that is not in the inventory, and what is known of it in the case
        that must not be.

        Every issuing CA of the namespace counts, synchronized or not, and the certificate's own
        dates: a stolen key signs whatever dates it likes.
        """
        try:
            chain = load_chain(proof.chain)
            issuing = {
                x509.load_der_x509_certificate(authority.certificate): authority.id
                for authority in authorities.of_namespace(tx, hub.namespace_id)
                if authority.kind is AuthorityKind.ISSUING
            }
            leaf = chain[0]
            at = min(max(now, leaf.not_valid_before_utc), leaf.not_valid_after_utc)
            anchor = verify_chain(chain, Anchors(issuing), at).anchor
        except ChainRefused as refused:
            return f"certificate of a foreign CA ({refused.reason})", None
        if restores.lost(tx, leaf.serial_number):
            return "certificate issued after the backup", None
        unknown = UnknownCertificate(
            hub,
            device_id,
            issuing[anchor],
            sha256(proof.chain[0]).hexdigest(),
            format(leaf.serial_number, "x"),
        )
        return "certificate not in the inventory", unknown

    def _check_token(
        self, tx: Transaction, hub: Hub, identity: Identity, proof: Proof | None, now: datetime
    ) -> datetime:
        if not isinstance(proof, TokenProof):
            raise Unauthorized("no token, and the identity is pinned to keys")
        token = proof.token
        resource = f"{hub.host_name}/{identity.resource}"
        if token.key_name is not None:
            policy = shared_access.find(tx, self._sealer, hub.id, token.key_name)
            shared_access.authorize(
                policy, token, resource=resource, right=Right.DEVICE_CONNECT, now=now
            )
            return token.expires_at
        self._check_device_token(identity, token, resource, now)
        return token.expires_at

    def _check_device_token(
        self, identity: Identity, token: SasToken, resource: str, now: datetime
    ) -> None:
        keys = identities.open_keys(self._sealer, identity)
        if keys is None:
            raise Unauthorized("the identity has no keys")
        if canonical(token.resource) != canonical(resource):
            raise TokenInvalid("token is for another resource")
        token.check_not_expired(now)
        primary, secondary = keys
        if not (token.is_signed_by(primary) | token.is_signed_by(secondary)):
            raise TokenInvalid("token signed with another key")
