"""The bodies of the provisioning device API, the same over every wire that carries them.

Source: Azure DPS device API, and `gateway.names.PROVISIONING_VERSIONS` for what a version carries.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NamedTuple

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetroot.clock import iso8601
from fleetroot.errors import (
    InvalidArgument,
    MalformedJson,
    TooLarge,
    TpmChallenge,
)
from fleetroot.gateway.names import PROVISIONING_VERSIONS, CsrField
from fleetroot.ids import canonical
from fleetroot.provisioning.model import EnrollmentKind, RegistrationResult, Status, TpmKeys
from fleetroot.registry.issuance import CsrText, InvalidCsrEncoding
from fleetroot.registry.model import IssuedChain

MAX_BODY_BYTES: Final = 96 * 1024
_MAX_CSR_CHARACTERS: Final = 16 * 1024  # the most that any policy reads
_MAX_TPM_KEY_CHARACTERS: Final = 4096


def csr_field(api_version: str | None) -> CsrField:
    """Where this version of the API carries a CSR.

    Raises:
        InvalidArgument: the version is not known; the message lists those that are.
    """
    field = PROVISIONING_VERSIONS.get(api_version or "")
    if field is None:
        raise InvalidArgument(
            f"api-version must be one of {', '.join(PROVISIONING_VERSIONS)}",
            reason="unknown api-version",
        )
    return field


class AskedRegistration(NamedTuple):
    """What a DeviceRegistration asks, and the keys of a TPM that it tells.

    Attributes:
        payload: JSON text for whoever allocates the device.
    """

    csr: CsrText | None = None
    payload: str | None = None
    tpm: TpmKeys | None = None


def read_registration(body: bytes, registration_id: str, field: CsrField) -> AskedRegistration:
    """Reads a DeviceRegistration.

    Raises:
        TooLarge: it is over its limit.
        MalformedJson: it is not JSON.
        InvalidCsrEncoding: its CSR is longer than any policy reads.
        InvalidArgument: it is of another registration, or a field is not of its type.
    """
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"a registration is at most {MAX_BODY_BYTES} bytes")
    if not body.strip():
        return AskedRegistration()
    try:
        registration = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedJson("the body is not JSON") from None
    if not isinstance(registration, dict):
        raise InvalidArgument("the body must be a JSON object")
    named = registration.get("registrationId")
    if named is not None and not (
        isinstance(named, str) and canonical(named) == canonical(registration_id)
    ):
        raise InvalidArgument("registrationId: is not the id that the device came with")
    return AskedRegistration(_csr(registration, field), _payload(registration), _tpm(registration))


def _csr(registration: dict[str, Any], field: CsrField) -> CsrText | None:
    csr = None if field is CsrField.NONE else registration.get(field.value)
    if csr is None:
        return None
    if not isinstance(csr, str) or not csr:
        raise InvalidArgument(f"{field.value}: must be a string")
    if len(csr) > _MAX_CSR_CHARACTERS:  # one that waits is kept before it is read
        raise InvalidCsrEncoding(f"{field.value}: at most {_MAX_CSR_CHARACTERS} characters")
    return CsrText(csr, pem_allowed=field is CsrField.CLIENT_CERTIFICATE_CSR)


def _payload(registration: dict[str, Any]) -> str | None:
    payload = registration.get("payload")
    if payload is None:
        return None
    try:
        return orjson.dumps(payload).decode()
    except orjson.JSONEncodeError:
        raise InvalidArgument("payload: is nested too deeply") from None


def _tpm(registration: dict[str, Any]) -> TpmKeys | None:
    told = registration.get("tpm")
    if told is None:
        return None
    if not isinstance(told, dict):
        raise InvalidArgument("tpm: must be an object")
    endorsement = _public_area("endorsementKey", told)
    if endorsement is None:
        raise InvalidArgument("tpm.endorsementKey: required")
    return TpmKeys(endorsement, _public_area("storageRootKey", told))


def _public_area(name: str, told: dict[str, Any]) -> bytes | None:
    text = told.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > _MAX_TPM_KEY_CHARACTERS:
        raise InvalidArgument(f"tpm.{name}: must be a string, and not longer than a TPM's keys are")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"tpm.{name}: is not base64") from None


def operation_status(result: RegistrationResult, field: CsrField, api_version: str) -> bytes:
    """The RegistrationOperationStatus of a result, in ASCII."""
    state = _state(result, api_version)
    if result.chain is not None:
        state |= _issued(result.chain, field)
    registration = result.registration
    return _ascii_json(
        {
            "operationId": registration.operation_id,
            "status": registration.status.value,
            "registrationState": state,
        }
    )


def registration_state(result: RegistrationResult, api_version: str) -> bytes:
    """The DeviceRegistrationResult of a device that looks itself up, in ASCII: no certificates."""
    return _ascii_json(_state(result, api_version))


def challenge(error: TpmChallenge) -> bytes:
    """The body that challenges a TPM, in ASCII."""
    return _ascii_json(
        {
            "message": error.message,
            "keyName": "registration",
            "authenticationKey": base64.b64encode(error.authentication_key).decode(),
        }
    )


def is_final(result: RegistrationResult) -> bool:
    """Whether the device need not ask again."""
    return result.registration.status not in (Status.ASSIGNING, Status.UNASSIGNED)


def _state(result: RegistrationResult, api_version: str) -> dict[str, Any]:
    registration = result.registration
    of_group = registration.enrollment_kind is EnrollmentKind.GROUP
    attested: dict[str, Any] = {}
    if registration.certificate_info is not None:
        attested = orjson.loads(registration.certificate_info)
    if of_group:
        attested["enrollmentGroupId"] = registration.enrollment_id
    state: dict[str, Any] = {
        registration.attestation.value: attested,
        "registrationId": registration.registration_id,
        "createdDateTimeUtc": iso8601(registration.created_at),
        "lastUpdatedDateTimeUtc": iso8601(registration.updated_at),
        "assignedHub": result.hub_host_name,
        "deviceId": registration.device_id if registration.status is Status.ASSIGNED else None,
        "status": registration.status.value,
        "etag": registration.etag,
    }
    if registration.payload is not None:
        state["payload"] = orjson.Fragment(registration.payload)
    if registration.substatus is not None:
        state["substatus"] = registration.substatus.value
    if registration.status is Status.FAILED:
        state["errorCode"] = registration.error_code
        state["errorMessage"] = registration.error_message
    if result.tpm_key is not None:
        state["tpm"] = {"authenticationKey": base64.b64encode(result.tpm_key).decode()}
    if api_version >= "2025":
        state["connectionProfile"] = "classic"
    return state


def _issued(chain: IssuedChain, field: CsrField) -> dict[str, Any]:
    match field:
        case CsrField.NONE:
            return {}
        case CsrField.CLIENT_CERTIFICATE_CSR:
            pem = b"".join(
                x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
                for der in chain.certificates
            )
            return {"issuedClientCertificate": pem.decode()}
        case CsrField.CSR:
            encoded = [base64.b64encode(der).decode() for der in chain.certificates]
            return {"issuedCertificateChain": encoded}


def _ascii_json(value: dict[str, Any]) -> bytes:
    """JSON with all else escaped: the SDKs decode answers over MQTT as ASCII."""
    body = orjson.dumps(value)
    return body if body.isascii() else json.dumps(orjson.loads(body)).encode("ascii")
