"""Which enrollment groups stand behind which CA: all signing certificates of a service, so that a
device costs one look-up by its chain's issuers, however many groups there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cryptography import x509

from fleetroot.ids import canonical
from fleetroot.pki import Anchors
from fleetroot.provisioning.configuration import Configuration
from fleetroot.provisioning.model import Enrollment, OnboardingCertificates, Slot


class Signer(NamedTuple):
    """A group for whose devices a CA signs, and which of the group's two it is."""

    group: Enrollment
    slot: Slot


class SigningCertificates:
    """Those of a service as they were at `version`; a CA may be several groups'."""

    def __init__(
        self, configuration: Configuration, before: SigningCertificates | None = None
    ) -> None:
        self.version = configuration.version
        read = before.read if before else {}
        self.read: dict[bytes, x509.Certificate] = {}
        self._signers: dict[x509.Certificate, list[Signer]] = {}
        for group in configuration.groups:
            certificates = group.settings.certificates
            if certificates is None:
                continue
            for slot, der in _by_slot(certificates, configuration.authorities):
                certificate = read.get(der) or x509.load_der_x509_certificate(der)
                self.read[der] = certificate
                self._signers.setdefault(certificate, []).append(Signer(group, slot))
        self.anchors: Anchors = Anchors(self._signers, before.anchors if before else None)

    def of(self, anchor: x509.Certificate) -> list[Signer]:
        """Whose it is, by the groups' ids; the primary first."""
        return self._signers[anchor]


class KeptSigningCertificates:
    """The signing certificates of every service, read anew when its configuration has changed."""

    def __init__(self) -> None:
        self._by_service: dict[str, SigningCertificates] = {}

    def of(self, configuration: Configuration) -> SigningCertificates:
        """Those of a configuration."""
        kept = self._by_service.get(configuration.service.id)
        if kept is None or kept.version != configuration.version:
            kept = SigningCertificates(configuration, kept)
            self._by_service[configuration.service.id] = kept
        return kept


def _by_slot(
    certificates: OnboardingCertificates, authorities: Mapping[str, bytes]
) -> Iterator[tuple[Slot, bytes]]:
    for slot, der, name in (
        (Slot.PRIMARY, certificates.primary, certificates.primary_ca),
        (Slot.SECONDARY, certificates.secondary, certificates.secondary_ca),
    ):
        found = der or authorities.get(canonical(name or ""))
        if found is not None:
            yield slot, found
