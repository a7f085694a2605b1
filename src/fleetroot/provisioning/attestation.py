"""Attestation: what a device proves, held against an enrollment.

Source: Azure DPS, "Symmetric key attestation".
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from fleetroot import sas
from fleetroot.errors import TokenInvalid
from fleetroot.ids import canonical
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Service, Slot, TpmKeys
from fleetroot.registry.assignment import Pin, SymmetricKeys
from fleetroot.sas import SasToken


class TpmProof(NamedTuple):
    """The keys of a TPM that a device proved to have, and what comes of it.

    Attributes:
        hub_key: the HMAC key for its hub.
        enrollment: its enrollment with the storage root key and new secrets, to be written with
            whatever the device is told; None if it had that storage root key already.
    """

    keys: TpmKeys
    hub_key: bytes
    enrollment: Enrollment | None


class Evidence(NamedTuple):
    """What proved who a device is.

    Attributes:
        pin: what the device authenticates with at its hub, where no policy issues to it.
        slot: which of the enrollment's two keys or certificates it was; None: there is one only.
        certificate_info: JSON text of `{certificateInfo, signingCertificateInfo}`, of an X.509
            attestation.
        tpm: what a TPM proved.
    """

    pin: Pin
    slot: Slot | None = None
    certificate_info: str | None = None
    tpm: TpmProof | None = None


class NoKeyFits(TokenInvalid):
    """A token was signed with none of the keys that it was held against.

    Attributes:
        tried: how many enrollments it was held against.
    """

    def __init__(self, tried: int) -> None:
        super().__init__("token signed with another key")
        self.tried = tried


_KEY_NAME: Final = "registration"


def device_keys(kind: EnrollmentKind, keys: SymmetricKeys, registration_id: str) -> SymmetricKeys:
    """The keys of one device: an individual enrollment's own, or derived from a group's.

    `registration_id` is in its stored spelling: a group's keys are computed over it.
    """
    if kind is EnrollmentKind.INDIVIDUAL:
        return keys
    return SymmetricKeys(
        sas.derive_device_key(keys.primary, registration_id),
        sas.derive_device_key(keys.secondary, registration_id),
    )


def check_token(token: SasToken, service: Service, registration_id: str, now: datetime) -> None:
    """Checks everything of a token but its signature.

    Raises:
        TokenInvalid: it is expired, or for another resource, or says that another key signed it.
    """
    if token.key_name not in (None, _KEY_NAME):
        raise TokenInvalid("token names another key")
    resource = f"{service.id_scope}/registrations/{registration_id}"
    if canonical(token.resource) != canonical(resource):
        raise TokenInvalid("token is for another resource")
    token.check_not_expired(now)


def signed_by(token: SasToken, keys: SymmetricKeys) -> Slot | None:
    """Which of the two keys signed the token; takes the same time whichever did."""
    by_primary, by_secondary = (
        token.is_signed_by(keys.primary),
        token.is_signed_by(keys.secondary),
    )
    if by_primary:
        return Slot.PRIMARY
    return Slot.SECONDARY if by_secondary else None
