"""Signing leaf certificates.

`Issuance.sign` is given what a unit of work read, and signs outside of any transaction;
`Issuance.record` belongs into the unit of work that makes the certificate known. Between the two
nobody has the certificate. A policy that has no CA able to sign answers `Unavailable`: a device
retries, and is never given something weaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.custody import KeyCustody, sign_with, waits
from fleetroot.errors import FleetrootError, InvalidArgument, Unavailable
from fleetroot.pki import (
    CertificateRequest,
    CsrRefused,
    IssuedCertificate,
    IssuerExpired,
    OperationalProfile,
    PkiUrls,
    UnverifiedRequest,
    decode_csr,
    decode_csr_pem_or_base64,
    max_csr_characters,
    read_csr,
)
from fleetroot.pki.keys import PrivateKey
from fleetroot.registry import authorities, inventory, policies
from fleetroot.registry.model import Authority, Device, IssuedChain, Origin, Policy
from fleetroot.storage import Store, Transaction


class DeviceChanged(Exception):
    """The device was revoked, disabled or registered by somebody else since it was read."""


class IssuerRevoked(Exception):
    """The CA was revoked since it signed: another one signs now."""


@dataclass(frozen=True, slots=True)
class CsrText:
    """A certificate signing request as a wire carried it, not looked at yet.

    Attributes:
        text: base64 of DER; PEM text too, where the API generation has that.
        pem_allowed: whether it has.
    """

    text: str
    pem_allowed: bool = False


@dataclass(frozen=True, slots=True)
class Issuer:
    """A policy and the issuing CA that signs for it now, with what issuing needs at hand."""

    policy: Policy
    authority: Authority
    profile: OperationalProfile
    key: PrivateKey
    chain: tuple[bytes, ...]  # DER: issuing CA first, root last

    @property
    def waits(self) -> bool:
        """Whether its key is in a token, which takes its time: sign by `Issuance.sign_waiting`."""
        return waits(self.key)


class SignedLeaf(NamedTuple):
    """A certificate that was signed for a device and is not recorded yet: nobody may see it.

    Attributes:
        by: who asked for it.
    """

    device: Device
    certificate: IssuedCertificate
    issuer: Issuer
    by: Actor

    @property
    def chain(self) -> IssuedChain:
        """What the device is given once `record` has been committed."""
        return IssuedChain(
            (self.certificate.der, *self.issuer.chain),
            self.certificate.not_before,
            self.certificate.not_after,
        )


class _Key(NamedTuple):
    """What an `Issuer` depends on: an authority never changes, and a policy changes its etag."""

    policy_id: str
    policy_etag: str
    authority_id: str | None


class Issuance:
    """Issues operational certificates from the policies' issuing CAs."""

    def __init__(self, store: Store, custody: KeyCustody) -> None:
        self._store = store
        self._custody = custody
        self._issuers: dict[_Key, Issuer] = {}

    async def issuer(self, policy: Policy) -> Issuer:
        """Who signs for `policy` now.

        Raises:
            Unavailable: it has no CA that can sign, or issues nothing any more.
        """
        key = _Key(policy.id, policy.etag, policy.authority_id)
        issuer = self._issuers.get(key)
        if issuer is None:
            issuer = await self._store.read(lambda tx: self._load(tx, policy))
            # One per policy: what a policy used before is not needed again.
            self._issuers = {k: v for k, v in self._issuers.items() if k.policy_id != policy.id}
            self._issuers[key] = issuer
        return issuer

    async def issuer_of(self, policy_id: str) -> Issuer:
        """Like `issuer`, of the policy of that id.

        Raises:
            NotFound: the policy is gone.
            Unavailable: its CA cannot sign.
        """
        return await self.issuer(await self._store.read(lambda tx: policies.get(tx, policy_id)))

    def _load(self, tx: Transaction, policy: Policy) -> Issuer:
        if policy.deleted_at is not None:
            raise _cannot_issue("policy deleted")
        if policy.authority_id is None:
            raise _cannot_issue("policy waits for the activation of its CA")
        authority = authorities.get(tx, policy.authority_id)
        if authority.listed_at is not None:
            raise _cannot_issue("the policy's CA is on a revocation list")
        profile = OperationalProfile(
            issuer=x509.load_der_x509_certificate(authority.certificate),
            urls=PkiUrls(authority.pki_url, authority.id),
            crl_shards=authority.crl_shards,
            validity=policy.leaf_validity,
        )
        try:
            key = authorities.signing_key(self._custody, authority)
        except FleetrootError as error:
            raise Unavailable("the policy's CA cannot sign now", reason=error.reason) from error
        return Issuer(policy, authority, profile, key, tuple(_chain(tx, authority.id)))

    @staticmethod
    def chain_of(tx: Transaction, sha256: bytes) -> IssuedChain | None:
        """A certificate of the inventory with its chain, as it was first given out; None if it was
        revoked since.
        """
        certificate = inventory.find(tx, sha256)
        if certificate is None or certificate.revoked_at is not None:
            return None
        chain = (certificate.certificate, *_chain(tx, certificate.authority_id))
        return IssuedChain(chain, certificate.not_before, certificate.not_after)

    @staticmethod
    def read_request(policy: Policy, csr: CsrText, common_name: str) -> UnverifiedRequest:
        """Decodes and parses a CSR under the policy's rules; what it gives is yet to be verified.

        Raises:
            InvalidCsrEncoding: it is too long or not base64.
            CsrRefused: it does not parse, names somebody else, or its key is refused.
        """
        limit = max_csr_characters(policy.leaf_key_types)
        decode = decode_csr_pem_or_base64 if csr.pem_allowed else decode_csr
        try:
            der = decode(csr.text, max_characters=limit)
        except CsrRefused as error:
            raise InvalidCsrEncoding(f"csr: {error.message}", reason=error.reason) from error
        return read_csr(der, common_name=common_name, allowed=policy.leaf_key_types)

    @staticmethod
    def sign(
        issuer: Issuer, device: Device, request: CertificateRequest, now: datetime, *, by: Actor
    ) -> SignedLeaf:
        """Signs a leaf for `device` that carries its generation.

        Raises:
            Unavailable: the issuing CA is not valid now.
        """
        try:
            certificate = issuer.profile.issue(
                issuer.key,
                request,
                device_id=device.device_id,
                generation=device.generation,
                now=now,
            )
        except IssuerExpired as error:
            raise Unavailable("the policy's CA cannot sign now", reason=str(error)) from error
        return SignedLeaf(device, certificate, issuer, by)

    @classmethod
    async def sign_waiting(
        cls,
        issuer: Issuer,
        device: Device,
        request: CertificateRequest,
        now: datetime,
        *,
        by: Actor,
    ) -> SignedLeaf:
        """Like `sign`; a key in a token signs in a thread of its own, and the loop is free.

        Raises:
            Unavailable: the issuing CA is not valid now, or its token is away.
        """
        return await sign_with(issuer.key, lambda: cls.sign(issuer, device, request, now, by=by))

    @staticmethod
    def record(
        tx: Transaction, leaves: Iterable[SignedLeaf], origin: Origin, now: datetime
    ) -> None:
        """Puts the certificates into the inventory, and each into the audit log.

        Raises:
            DeviceChanged: a device is not what it was when its certificate was signed.
            IssuerRevoked: a CA that signed does not count any more.
        """
        leaves = list(leaves)
        if any(authorities.is_revoked(tx, id_) for id_ in {e.issuer.authority.id for e in leaves}):
            raise IssuerRevoked
        new = [
            inventory.NewCertificate(
                leaf.device,
                leaf.certificate,
                leaf.issuer.authority.id,
                leaf.issuer.policy.id,
                origin,
                now,
            )
            for leaf in leaves
        ]
        if not inventory.record(tx, new):
            raise DeviceChanged
        audit.append_many(tx, [_entry(leaf, origin, now) for leaf in leaves])


def _entry(leaf: SignedLeaf, origin: Origin, now: datetime) -> Entry:
    device, certificate = leaf.device, leaf.certificate
    return Entry(
        now,
        leaf.by,
        Action.ISSUE_CERTIFICATE,
        f"device/{device.device_id}",
        device.namespace_id,
        details={
            "serialNumber": format(certificate.serial, "x"),
            "sha256": certificate.sha256.hex(),
            "issuingAuthority": leaf.issuer.authority.id,
            "origin": origin.value,
            "enrollment": device.enrollment,
        },
    )


def _chain(tx: Transaction, authority_id: str) -> Iterator[bytes]:
    """The certificates (DER) from an issuing CA up."""
    above: str | None = authority_id
    while above is not None:
        authority = authorities.get(tx, above)
        yield authority.certificate
        yield from authority.external_chain
        above = authority.issuer_id


def _cannot_issue(reason: str) -> Unavailable:
    return Unavailable("the policy cannot issue now", retry_after=60, reason=reason)


class InvalidCsrEncoding(InvalidArgument):
    """The CSR's text is over its limit, or not base64."""
