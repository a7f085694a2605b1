"""Which certificates an enrollment may have."""

from __future__ import annotations

from cryptography import x509

from fleetroot.errors import InvalidArgument
from fleetroot.pki import UploadRefused, check_enrolled_ca, check_enrolled_device
from fleetroot.provisioning.model import EnrollmentKind, OnboardingCertificates, Service
from fleetroot.registry import authorities, uploaded_certificates
from fleetroot.storage import Transaction


def check_form(kind: EnrollmentKind, certificates: OnboardingCertificates) -> None:
    """Lets certificates pass that can be a device's, or of a group a CA's. Their time is looked at
    when a device comes.

    Raises:
        InvalidArgument: one cannot.
    """
    of_group = kind is EnrollmentKind.GROUP
    for name, der in _given(kind, certificates):
        certificate = x509.load_der_x509_certificate(der)
        try:
            (check_enrolled_ca if of_group else check_enrolled_device)(certificate)
        except UploadRefused as refused:
            raise InvalidArgument(f"{name}: {refused.message}", reason=refused.rule) from refused


def check_known(
    tx: Transaction, service: Service, kind: EnrollmentKind, certificates: OnboardingCertificates
) -> None:
    """Lets certificates pass whose names are those of uploaded ones, and that are no CA of ours:
    what that signed counts by the inventory alone. Part of a unit of work.

    Raises:
        InvalidArgument: one is not there, or is ours.
    """
    for which, name in (
        ("primary", certificates.primary_ca),
        ("secondary", certificates.secondary_ca),
    ):
        if name is not None and uploaded_certificates.find(tx, service.id, name) is None:
            raise InvalidArgument(
                f"attestation.x509.caReferences.{which}: no certificate {name[:64]} was uploaded to"
                " this provisioning service"
            )
    if kind is not EnrollmentKind.GROUP or certificates.by_name:
        return
    ours = [x509.load_der_x509_certificate(each.certificate) for each in authorities.every(tx)]
    for where, der in _given(kind, certificates):
        if x509.load_der_x509_certificate(der).public_key() in [one.public_key() for one in ours]:
            raise InvalidArgument(f"{where}: the CA is one of this installation", reason="own CA")


def _given(kind: EnrollmentKind, certificates: OnboardingCertificates) -> list[tuple[str, bytes]]:
    of = "signingCertificates" if kind is EnrollmentKind.GROUP else "clientCertificates"
    return [
        (f"attestation.x509.{of}.{which}", der)
        for which, der in (("primary", certificates.primary), ("secondary", certificates.secondary))
        if der is not None
    ]
