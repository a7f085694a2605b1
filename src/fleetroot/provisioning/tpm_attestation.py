"""TPM attestation: what the endorsement key of an enrollment answers for.

A device tells the public keys of its TPM and is given an HMAC key that this TPM alone can open; it
signs its token with it (`tpm_protection` says why that proves the TPM). Nothing is kept of a
challenge. Its key is derived from secrets of the enrollment, and so it is the same for whoever asks
again, and bound to the endorsement key, the storage root key and the time: a key that was given out
signs for what is left of its period and one more. Who records a challenge has nothing to open it
with, and who records a token has it until then, whatever expiry is in it.

The endorsement key identifies the device. Its storage root key is taken from the device, because
the challenge proves that it is of the same TPM, and it changes when the TPM is cleared. Each change
changes the secret as well, so that no challenge to the former storage root key counts any more: the
owner before might have kept a token. The secret before is good for the new storage root key alone,
whose challenge was made with it, so that the device can go on and poll.

The key for the hub is derived without the time, so that a device that asks again is told what the
hub knows already. It differs from the keys of all challenges.

Source: Azure DPS, "TPM attestation", and the Azure SDKs for TPM devices.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Final

from fleetroot import audit, sas
from fleetroot.audit import Action, Actor, Entry
from fleetroot.custody import Sealer
from fleetroot.errors import InvalidArgument, TokenInvalid, TpmChallenge, Unauthorized
from fleetroot.provisioning import attestation, enrollments
from fleetroot.provisioning.attestation import Evidence, TpmProof
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentKind,
    OnboardingCredential,
    Service,
    TpmKeys,
)
from fleetroot.provisioning.tpm_protection import send_key
from fleetroot.provisioning.tpm_public import read_storage_key
from fleetroot.registry.assignment import KeysPin, SymmetricKeys
from fleetroot.registry.devices import new_etag
from fleetroot.storage import Transaction

PERIOD_SECONDS: Final = 24 * 60 * 60
_REGISTRATION: Final = b"fleetroot/tpm/1/registration"
_HUB: Final = b"fleetroot/tpm/1/hub"


class ChallengeDue(Exception):  # a step, as everywhere here
    """A device told the keys of a TPM that is enrolled, and has not proved yet that it has it."""

    def __init__(self, keys: TpmKeys, key: bytes) -> None:
        super().__init__("a challenge is due")
        self._keys = keys
        self._key = key

    def challenge(self) -> TpmChallenge:
        """What to answer. Not for inside a transaction: it takes two public-key operations."""
        return TpmChallenge(_send(self._keys, self._key))


def hub_key_for(proof: TpmProof) -> bytes:
    """The key for the hub as the device is told it; at the same cost."""
    return _send(proof.keys, proof.hub_key)


class TpmAttestation:
    """Challenges TPMs, and takes their answers."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def due(self, found: Candidate, keys: TpmKeys, now: datetime) -> ChallengeDue:
        """The challenge to a device that told the keys of its TPM and sent no token.

        Whoever does not know the endorsement key of an enrollment is told the same, whether there
        is another one for this registration id, one that attests in another way, or none.

        Raises:
            InvalidArgument: the storage root key is not one.
            Unauthorized: no enrollment waits for that TPM.
        """
        if keys.storage_root is None:
            raise InvalidArgument("tpm.storageRootKey: required")
        read_storage_key("tpm.storageRootKey", keys.storage_root)
        enrollment = found.individual
        if enrollment is None:
            raise Unauthorized("no enrollment")
        if enrollment.settings.attestation is not Attestation.TPM:
            raise Unauthorized("TPM where another attestation is due")
        if keys.endorsement != _known(enrollment).endorsement:
            raise Unauthorized("another TPM")
        secret = self._secrets(enrollment).primary
        return ChallengeDue(keys, _challenge_key(secret, keys, _period(now)))

    def prove(
        self,
        service: Service,
        enrollment: Enrollment,
        registration_id: str,
        credential: OnboardingCredential,
        now: datetime,
    ) -> Evidence:
        """What a device of the enrollment proves by its token. Where it does not tell the keys of
        its TPM again, the storage root key is the one that is known.

        Raises:
            Unauthorized: there is no token, or not one by this TPM; or not over this wire.
        """
        token, known = credential.token, _known(enrollment)
        if token is None:
            raise Unauthorized("TPM not challenged")
        attestation.check_token(token, service, registration_id, now)
        told = credential.tpm or known
        if told.endorsement != known.endorsement:
            raise TokenInvalid("another TPM")
        secrets, period = self._secrets(enrollment), _period(now)
        is_known = told.storage_root == known.storage_root
        good = (secrets.primary, secrets.secondary) if is_known else (secrets.primary,)
        signed = [
            token.is_signed_by(_challenge_key(secret, told, of))
            for secret in good
            for of in (period, period - 1)
        ]
        if not any(signed):
            # Who proved nothing is not told that there is an enrollment for a TPM.
            raise TokenInvalid(_no_proof(credential, told))
        if not credential.may_be_challenged:
            message = "TPM attestation is over HTTPS only"
            raise Unauthorized("TPM over another wire than HTTPS", message=message)
        after = None
        if not is_known:
            secrets = SymmetricKeys(sas.new_key(), secrets.primary)
            after = self._changed(enrollment, told, secrets, now)
        hub_key = _hub_key(secrets.primary, told)
        proof = TpmProof(told, hub_key, after)
        return Evidence(KeysPin(SymmetricKeys(hub_key, hub_key)), tpm=proof)

    def _secrets(self, enrollment: Enrollment) -> SymmetricKeys:
        secrets = enrollments.open_tpm_secrets(self._sealer, enrollment)
        assert secrets is not None  # noqa: S101 - every enrollment of a TPM has them
        return secrets

    def _changed(
        self, enrollment: Enrollment, keys: TpmKeys, secrets: SymmetricKeys, now: datetime
    ) -> Enrollment:
        of = (enrollment.service_id, enrollment.kind, enrollment.id)
        sealed_primary, sealed_secondary = enrollments.seal_keys(self._sealer, *of, secrets)
        return replace(
            enrollment,
            settings=replace(enrollment.settings, tpm=keys),
            sealed_primary=sealed_primary,
            sealed_secondary=sealed_secondary,
            etag=new_etag(),
            updated_at=now,
        )


def keep(
    tx: Transaction, proof: TpmProof | None, namespace_id: str, now: datetime, by: Actor
) -> None:
    """Writes what a TPM proved about itself into its enrollment, which the caller has found to be
    current; nothing where all of it was known.
    """
    after = proof.enrollment if proof is not None else None
    if after is None or after.settings.tpm is None:
        return
    enrollments.keep_storage_root(tx, after)
    root = after.settings.tpm.storage_root or b""
    details = {"sha256": sha256(root).hexdigest()}
    subject = f"enrollment/{after.id}"
    audit.append(
        tx, Entry(now, by, Action.KEEP_STORAGE_ROOT, subject, namespace_id, details=details)
    )


def check_keys(kind: EnrollmentKind, keys: TpmKeys) -> None:
    """Lets keys of a TPM pass that an enrollment may have.

    Raises:
        InvalidArgument: it is of a group, or a key is not one.
    """
    if kind is EnrollmentKind.GROUP:
        raise InvalidArgument("attestation.tpm: is for individual enrollments")
    read_storage_key("attestation.tpm.endorsementKey", keys.endorsement)
    if keys.storage_root is not None:
        read_storage_key("attestation.tpm.storageRootKey", keys.storage_root)


def settle(
    sealer: Sealer, keys: TpmKeys, before: Enrollment | None
) -> tuple[TpmKeys, SymmetricKeys]:
    """The keys and the secrets of an enrollment that is written. Secrets are new, unless the one
    `before` it was of the same keys; a storage root key that is left out is kept then.
    """
    secrets = enrollments.open_tpm_secrets(sealer, before) if before is not None else None
    known = before.settings.tpm if before is not None else None
    if secrets is not None and known is not None and known.endorsement == keys.endorsement:
        if keys.storage_root is None:
            return known, secrets
        if known.storage_root in (None, keys.storage_root):
            return keys, secrets
    return keys, SymmetricKeys(sas.new_key(), sas.new_key())


def _no_proof(credential: OnboardingCredential, told: TpmKeys) -> str:
    if not credential.may_be_challenged:
        return "TPM over another wire than HTTPS"
    return "TPM not challenged" if told.storage_root is None else "token signed with another key"


def _known(enrollment: Enrollment) -> TpmKeys:
    assert enrollment.settings.tpm is not None  # noqa: S101 - it attests by a TPM
    return enrollment.settings.tpm


def _period(now: datetime) -> int:
    return int(now.timestamp()) // PERIOD_SECONDS


def _challenge_key(secret: bytes, keys: TpmKeys, period: int) -> bytes:
    return _derive(secret, _REGISTRATION, keys, period.to_bytes(8, "big"))


def _hub_key(secret: bytes, keys: TpmKeys) -> bytes:
    return _derive(secret, _HUB, keys, b"")


def _derive(secret: bytes, label: bytes, keys: TpmKeys, more: bytes) -> bytes:
    told = (label, keys.endorsement, keys.storage_root or b"", more)
    return hmac.digest(secret, b"".join(sha256(each).digest() for each in told), "sha256")


def _send(keys: TpmKeys, key: bytes) -> bytes:
    return send_key(
        read_storage_key("endorsementKey", keys.endorsement),
        read_storage_key("storageRootKey", keys.storage_root or b""),
        key,
    )
