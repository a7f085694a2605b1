"""Every field of an enrollment's body with what it cannot be: the refusal names it.

The reader and the rules are asked as the service API does before it writes anything. Whatever they
refuse is 400 over the wire, and `tests/wire/test_schemathesis.py` holds the wire to never a 5xx.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from fleetroot.api.enrollment_bodies import EnrollmentBody
from fleetroot.api.enrollment_translation import Translation
from fleetroot.clock import SystemClock
from fleetroot.custody import MasterKey, MasterKeyKind, MasterKeySource, Sealer
from fleetroot.errors import InvalidArgument
from fleetroot.hub.directory import Directory
from fleetroot.provisioning.enrollment_changes import EnrollmentChanges
from fleetroot.provisioning.model import EnrollmentKind
from fleetroot.provisioning.webhook_addresses import WebhookRules
from model_tpm import STORAGE_ROOT, public_area, rsa_key

SEALER = Sealer(MasterKey(bytes(32), MasterKeySource(MasterKeyKind.ENVIRONMENT)))
CHANGES = EnrollmentChanges(Directory(SEALER), SEALER, SystemClock(), WebhookRules())
OF_CERTIFICATES = "2021-11-01-preview"
ENDORSEMENT = public_area(rsa_key(1), attributes=STORAGE_ROOT)


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


NO_TEXT = [7, True, [], {}]
LONG, CONTROLS, LONE_SURROGATE = "x" * 40_000, ["a\x00b", "a\nb", "a\x7fb"], "\ud800"
NO_NAME = [*NO_TEXT, LONG, *CONTROLS, LONE_SURROGATE]
NO_OBJECT = [7, "text", True, []]
NO_BOOLEAN = ["true", 1, [], {}]
NO_CHOICE = ["", "other", LONG, *NO_TEXT]

FIELDS: dict[str, list[Any]] = {
    "registrationId": [*NO_NAME, "", "dev-2"],
    "enrollmentGroupId": [*NO_NAME, "", "other"],
    "deviceId": [*NO_NAME, "a b", "x" * 129],
    "attestation": [None, *NO_OBJECT, {}],
    "attestation.type": [None, *NO_CHOICE],
    "attestation.symmetricKey": NO_OBJECT,
    "attestation.symmetricKey.primaryKey": [*NO_NAME, "AAAA", "no base64!"],
    "attestation.symmetricKey.secondaryKey": [*NO_NAME, "AAAA", "no base64!"],
    "attestation.x509": [None, *NO_OBJECT, {}],
    "attestation.x509.clientCertificates": [None, *NO_OBJECT, {}],
    "attestation.x509.clientCertificates.primary": [*NO_OBJECT, {}],
    "attestation.x509.clientCertificates.primary.certificate": [*NO_NAME, ""],
    "attestation.x509.clientCertificates.secondary.certificate": [*NO_NAME, ""],
    "attestation.x509.signingCertificates": [None, *NO_OBJECT, {}],
    "attestation.x509.signingCertificates.primary.certificate": [*NO_NAME, ""],
    "attestation.x509.caReferences": [None, *NO_OBJECT, {}],
    "attestation.x509.caReferences.primary": [*NO_NAME, ""],
    "attestation.x509.caReferences.secondary": [*NO_NAME, ""],
    "attestation.tpm": [None, *NO_OBJECT, {}],
    "attestation.tpm.endorsementKey": [None, *NO_NAME, "", "AAAA", "no base64!"],
    "attestation.tpm.storageRootKey": [*NO_NAME, "AAAA", "no base64!"],
    "provisioningStatus": [None, *NO_CHOICE],
    "reprovisionPolicy": [None, *NO_OBJECT],
    "reprovisionPolicy.updateHubAssignment": [None, *NO_BOOLEAN],
    "reprovisionPolicy.migrateDeviceData": [None, *NO_BOOLEAN],
    "allocationPolicy": NO_CHOICE,
    "customAllocationDefinition": [*NO_OBJECT, {}],
    "customAllocationDefinition.webhookUrl": [
        *(None, *NO_NAME, "", "http://a.example/", "https://a@b.example/", "https://10.0.0.1/"),
        "https://a.example/" + "x" * 2048,
    ],
    "customAllocationDefinition.apiVersion": [None, *NO_NAME, ""],
    "iotHubHostName": [*NO_NAME, "unknown.example"],
    "iotHubs": [7, "hub.example", {}, [7], [LONG], [CONTROLS[0]], ["unknown.example"], ["a"] * 51],
    "capabilities": NO_OBJECT,
    "capabilities.iotEdge": [None, *NO_BOOLEAN],
    "optionalDeviceInformation": [*NO_OBJECT, {"a": LONG}, nested(300), {"a": LONE_SURROGATE}],
    "expiryDateTimeUtc": [*NO_NAME, "", "2026-01-01T00:00:00", "0001-01-01T00:00:00+23:59"],
    "quarantine": [None, *NO_BOOLEAN],
    "initialTwin": NO_OBJECT,
    "initialTwin.tags": [*NO_OBJECT, nested(11), {"a": LONG}, {"a.b": 1}, {"a\x00": 1}],
    "initialTwin.properties": NO_OBJECT,
    "initialTwin.properties.desired": [*NO_OBJECT, nested(300), {"a": LONG}, {"a": 2**60}],
    "credentialPolicyName": [*NO_NAME, "unknown"],
    "clientCertificateIssuancePolicy": NO_OBJECT,
    "clientCertificateIssuancePolicy.certificateAuthorityName": NO_NAME,
}


def body_with(field: str, value: Any) -> tuple[EnrollmentKind, dict[str, Any]]:
    """A body that is good but for that field."""
    is_group = any(word in field for word in ("signing", "caReferences", "Group"))
    attestation: dict[str, Any] = {"type": "symmetricKey"}
    if ".x509" in field:
        attestation = {"type": "x509"}
    elif ".tpm" in field:
        attestation = {"type": "tpm", "tpm": {"endorsementKey": _encoded(ENDORSEMENT)}}
    body: dict[str, Any] = {"attestation": attestation}
    if field.startswith("customAllocation"):
        body["allocationPolicy"] = "custom"
        definition = {"webhookUrl": "https://a.example/", "apiVersion": "1"}
        body["customAllocationDefinition"] = definition
    *above, last = field.split(".")
    at = body
    for name in above:
        at = at.setdefault(name, {})
    at[last] = value
    return EnrollmentKind.GROUP if is_group else EnrollmentKind.INDIVIDUAL, body


def _encoded(area: bytes) -> str:
    return base64.b64encode(area).decode()


def refusal(kind: EnrollmentKind, body: dict[str, Any], version: str) -> str:
    """The message of it; empty if the body is taken."""
    try:
        parsed = EnrollmentBody.model_validate(body)
        translation = Translation(kind, version, {"hub.example": "hub"}, {"policy": "default"})
        wanted = translation.read(parsed, "dev-1")
        CHANGES.check(kind, "dev-1", wanted.settings)
    except ValidationError as error:
        first = error.errors()[0]  # as `api.errors` says it
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except InvalidArgument as error:
        return error.message
    return ""


@pytest.mark.parametrize("field", FIELDS)
def test_field_that_cannot_be_is_named(field: str) -> None:
    version = OF_CERTIFICATES if "IssuancePolicy" in field else "2021-10-01"
    for value in FIELDS[field]:
        message = refusal(*body_with(field, value), version)
        named = message.partition(":")[0]
        # Itself, or what is in it, or what it is in.
        near = field.startswith(named) or named.startswith(field) or field.endswith(named)
        assert bool(named) is near is True, f"{field} = {value!a:.40}: {message}"
        assert message.encode()


def test_every_field_is_in_the_table() -> None:
    """Those of the body; what is below them is read by the same models."""
    known = {field.alias or name for name, field in EnrollmentBody.model_fields.items()}
    assert known == {field.partition(".")[0] for field in FIELDS}
