"""Attestation by certificate: what the TLS handshake proved, held against enrollments.

An individual enrollment knows its device's certificate byte for byte. A group knows a CA; of the
groups to which a chain leads, the one whose CA is nearest to the leaf decides, also when it is
disabled: so one CA of many beneath a root can be shut out. Either way the leaf's common name is
the registration id. A certificate on a list that was brought of its CA does not count; nor does one
that was issued here and revoked, itself or with its CA, wherever else it is enrolled.

Source: Azure DPS, "X.509 certificate attestation".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

import orjson
from cryptography import x509

from fleetroot.clock import iso8601
from fleetroot.errors import Unauthorized
from fleetroot.ids import canonical
from fleetroot.pki import (
    CertificateInfo,
    ChainRefused,
    certificate_info,
    check_known,
    common_name_of,
    load_chain,
    verify_chain,
)
from fleetroot.provisioning.attestation import Evidence
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.model import (
    Enrollment,
    OnboardingCertificates,
    Service,
    Slot,
)
from fleetroot.provisioning.signing_certificates import KeptSigningCertificates, Signer
from fleetroot.registry import authorities, inventory, third_party_lists
from fleetroot.registry.assignment import ThumbprintPin
from fleetroot.storage import Transaction

_NO_CERTIFICATE: Final = "no client certificate, and the enrollment wants one"


class CertificateAttestation:
    """Finds out whose certificate a device showed."""

    def __init__(self) -> None:
        self._signing_certificates = KeptSigningCertificates()

    def of_individual(
        self,
        tx: Transaction,
        service: Service,
        enrollment: Enrollment,
        chain: Sequence[bytes],
        now: datetime,
    ) -> Evidence:
        """Holds the leaf of a chain (DER, leaf first) against an individual enrollment's
        certificates; what else the peer sent does not count.

        Raises:
            Unauthorized: it is none of them, or does not count now.
        """
        certificates = enrollment.settings.certificates
        if not chain or certificates is None:
            raise Unauthorized(_NO_CERTIFICATE)
        slot = _slot(certificates, chain[0])
        if slot is None:
            raise Unauthorized("certificate is not the enrollment's")
        try:
            [leaf] = load_chain(chain[:1])
            check_known(leaf, now)
        except ChainRefused as refused:
            raise _refused(refused) from refused
        _check_name(leaf, enrollment.id)
        _check_not_listed(tx, service, [leaf])
        _check_not_revoked(tx, chain[0])
        pin = ThumbprintPin(_thumbprint(certificates.primary), _thumbprint(certificates.secondary))
        return Evidence(pin, slot, _json(leaf, None))

    def of_group(
        self,
        tx: Transaction,
        found: Candidate,
        registration_id: str,
        chain: Sequence[bytes],
        now: datetime,
    ) -> tuple[Enrollment, Evidence]:
        """The group to whose CA a chain (DER, leaf first) leads.

        Raises:
            Unauthorized: it leads to none, or does not count now.
        """
        configuration = found.configuration
        signing_certificates = self._signing_certificates.of(configuration)
        try:
            presented = load_chain(chain)
            _check_name(presented[0], registration_id)
            verified = verify_chain(presented, signing_certificates.anchors, now)
        except ChainRefused as refused:
            raise _refused(refused) from refused
        _check_not_listed(tx, configuration.service, verified.path)
        _check_not_revoked(tx, chain[0])
        signer = _likeliest(signing_certificates.of(verified.anchor), found)
        shown = _json(verified.leaf, verified.anchor)
        return signer.group, Evidence(ThumbprintPin(_thumbprint(chain[0])), signer.slot, shown)


def _slot(certificates: OnboardingCertificates, leaf: bytes) -> Slot | None:
    if leaf == certificates.primary:
        return Slot.PRIMARY
    return Slot.SECONDARY if leaf == certificates.secondary else None


def _likeliest(signers: list[Signer], found: Candidate) -> Signer:
    """Of the groups of one CA, the one under which the device registered, else the first that is
    enabled.
    """
    registration = found.registration
    own = [each for each in signers if registration and each.group.id == registration.enrollment_id]
    enabled = [each for each in signers if each.group.settings.enabled]
    return (own or enabled or signers)[0]


def _check_name(leaf: x509.Certificate, registration_id: str) -> None:
    name = common_name_of(leaf)
    if name is None or canonical(name) != canonical(registration_id):
        raise Unauthorized("certificate of another registration id")


def _check_not_listed(
    tx: Transaction, service: Service, certificates: Sequence[x509.Certificate]
) -> None:
    if third_party_lists.are_listed(tx, service.namespace_id, certificates):
        raise Unauthorized("onboarding certificate on a revocation list")


def _check_not_revoked(tx: Transaction, leaf: bytes) -> None:
    issued = inventory.find(tx, sha256(leaf).digest())
    if issued is None:
        return
    if issued.revoked_at is not None or authorities.is_revoked(tx, issued.authority_id):
        raise Unauthorized("onboarding certificate was issued here and revoked")


def _refused(refused: ChainRefused) -> Unauthorized:
    return Unauthorized(f"onboarding certificate refused ({refused.reason})")


def _thumbprint(der: bytes | None) -> str | None:
    return sha256(der).hexdigest().upper() if der else None


def _json(leaf: x509.Certificate, signing: x509.Certificate | None) -> str:
    """JSON text of `certificateInfo` and, of a group, `signingCertificateInfo`."""
    shown = {"certificateInfo": _shown(certificate_info(leaf))}
    if signing is not None:
        shown["signingCertificateInfo"] = _shown(certificate_info(signing))
    return orjson.dumps(shown).decode()


def _shown(info: CertificateInfo) -> dict[str, str | int]:
    return {
        "subjectName": info.subject,
        "sha1Thumbprint": info.sha1,
        "sha256Thumbprint": info.sha256,
        "issuerName": info.issuer,
        "notBeforeUtc": iso8601(info.not_before),
        "notAfterUtc": iso8601(info.not_after),
        "serialNumber": info.serial,
        "version": info.version,
    }
