"""The unmodified provisioning service SDKs for Python and Node as the operator of enrollments."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE

from fleet import Fleet
from model_tpm import ModelTpm
from openssl_ca import OpensslCa

HERE = Path(__file__).parent
PACKAGE = "provisioningserviceclient"
HAS_PYTHON = bool(list(PYTHON.parents[1].glob(f"lib/*/site-packages/{PACKAGE}")))
HAS_NODE = NODE is not None and (MODULES / "azure-iot-provisioning-service").exists()

python_sdk = pytest.mark.skipif(
    not HAS_PYTHON, reason="the SDKs' environment is missing: `make test` makes it"
)
node_sdk = pytest.mark.skipif(
    not HAS_NODE,
    reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`",
)

KEYS = [base64.b64encode(bytes([n]) * 64).decode() for n in (1, 2)]
_MODEL = ModelTpm()
TPM = [
    base64.b64encode(each).decode() for each in (_MODEL.endorsement_key, _MODEL.storage_root_key)
]
EVERYTHING = "SELECT * FROM enrollments"


async def run(*command: object, order: dict[str, Any], **environment: str) -> list[Any]:
    """What each call of an order gave."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    out, err = await process.communicate(json.dumps(order).encode())
    assert process.returncode == 0, err.decode()
    return list(json.loads(out))


async def python(fleet: Fleet, *calls: list[Any]) -> list[Any]:
    return await run(
        *(PYTHON, HERE / "service_client.py"),
        order={
            "connectionString": fleet.bootstrap["provisioning"]["connectionString"],
            "calls": calls,
        },
        REQUESTS_CA_BUNDLE=fleet.bootstrap["serverCaFile"],
    )


async def node(fleet: Fleet, *calls: list[Any], token: str | None = None) -> list[Any]:
    provisioning = fleet.bootstrap["provisioning"]
    return await run(
        *(NODE, HERE / "node" / "service.js"),
        order={
            "connectionString": provisioning["connectionString"],
            "host": fleet.bootstrap["hostname"],
            "token": token,
            "calls": calls,
        },
        NODE_PATH=str(MODULES),
        NODE_EXTRA_CA_CERTS=fleet.bootstrap["serverCaFile"],
    )


def certificates(folder: Path) -> list[str]:
    """Two certificates, PEM text."""
    return [OpensslCa.root(folder, name=f"ca-{n}").pem for n in range(2)]


def der(text: str) -> str:
    """What a PEM text is answered as."""
    found = x509.load_pem_x509_certificate(text.encode())
    return base64.b64encode(found.public_bytes(Encoding.DER)).decode()


# --- Python


def individual(id_: str, *attestation: str, **more: Any) -> dict[str, Any]:
    given = {"registration_id": id_, "attestation": attestation or ["symmetric_key"]}
    return {"individual": given | more}


@python_sdk
async def test_python_creates_reads_updates_and_deletes_an_individual_enrollment(
    public_fleet: Fleet,
) -> None:
    made, read, updated, old, deleted, gone = await python(
        public_fleet,
        [
            "create_or_update",
            individual(
                "dev-1",
                "symmetric_key",
                *KEYS,
                device_id="pump-7",
                provisioning_status="disabled",
                initial_twin={"tags": {"a": 1}, "desired_properties": {"b": {"c": 2}}},
                reprovision_policy={"update_hub_assignment": False, "migrate_device_data": True},
                capabilities={"iot_edge": True},
                iot_hubs=[public_fleet.hub_host],
                allocation_policy="static",
            ),
        ],
        ["get_individual_enrollment", "dev-1"],
        ["update", "get_individual_enrollment", "dev-1", {"provisioning_status": "enabled"}],
        ["delete", individual("dev-1", etag="old")],
        ["delete_individual_enrollment_by_param", "dev-1"],
        ["get_individual_enrollment", "dev-1"],
    )
    assert made["attestation"]["symmetric_key"] == {
        "primary_key": KEYS[0],
        "secondary_key": KEYS[1],
    }
    assert read.pop("attestation") == {"type": "symmetricKey", "symmetric_key": {}}
    made.pop("attestation")
    assert read == made
    assert made["device_id"] == "pump-7"
    assert made["initial_twin"] == {"tags": {"a": 1}, "desired": {"b": {"c": 2}}}
    assert made["capabilities"] == {"iot_edge": True}
    assert made["reprovision_policy"]["update_hub_assignment"] is False
    assert made["iot_hubs"] == [public_fleet.hub_host]
    assert updated["provisioning_status"] == "enabled"
    assert updated["etag"] != made["etag"]
    assert updated["initial_twin"] == made["initial_twin"]
    assert updated["attestation"]["symmetric_key"]["primary_key"] == KEYS[0]
    assert (old, deleted, gone) == ({"error": 412}, None, {"error": 404})


@python_sdk
async def test_python_is_told_that_an_enrollment_is_there(public_fleet: Fleet) -> None:
    calls = [["create_or_update", individual("dev-1")]] * 2
    _, again = await python(public_fleet, *calls)
    assert again == {"error": 409}


@python_sdk
async def test_python_writes_every_attestation(public_fleet: Fleet, tmp_path: Path) -> None:
    first, second = certificates(tmp_path)
    endorsement, storage = TPM
    uploaded = await public_fleet.http.put(
        "/fleetroot/provisioning-services/default/certificates/corp", json={"certificate": first}
    )
    assert uploaded.is_success, uploaded.text
    group = {"enrollment_group_id": "line-4", "attestation": ["signing_certificates", first]}
    by_name = {"enrollment_group_id": "line-5", "attestation": ["ca_references", "corp"]}
    tpm, client, signing, reference, *mechanisms = await python(
        public_fleet,
        ["create_or_update", individual("tpm-1", "tpm", endorsement, storage)],
        ["create_or_update", individual("x509-1", "client_certificates", first, second)],
        ["create_or_update", {"group": group}],
        ["create_or_update", {"group": by_name}],
        ["get_individual_enrollment_attestation_mechanism", "tpm-1"],
        ["get_individual_enrollment_attestation_mechanism", "x509-1"],
        ["get_enrollment_group_attestation_mechanism", "line-4"],
        ["get_enrollment_group_attestation_mechanism", "line-5"],
    )
    assert mechanisms == [each["attestation"] for each in (tpm, client, signing, reference)]
    assert tpm["attestation"]["tpm"] == {
        "endorsement_key": endorsement,
        "storage_root_key": storage,
    }
    pair = client["attestation"]["x509"]["client_certificates"]
    assert pair["primary"]["certificate"] == der(first)
    assert pair["secondary"]["certificate"] == der(second)
    [primary] = signing["attestation"]["x509"]["signing_certificates"].values()
    assert primary["certificate"] == der(first)
    assert reference["attestation"]["x509"]["ca_references"] == {"primary": "corp"}


@python_sdk
async def test_python_works_with_a_group(public_fleet: Fleet) -> None:
    group = {"group": {"enrollment_group_id": "line-4", "attestation": ["symmetric_key", *KEYS]}}
    made, updated, keys, deleted, gone = await python(
        public_fleet,
        ["create_or_update", group],
        ["update", "get_enrollment_group", "line-4", {"provisioning_status": "disabled"}],
        ["get_enrollment_group_attestation_mechanism", "line-4"],
        ["delete_enrollment_group_by_param", "line-4"],
        ["get_enrollment_group", "line-4"],
    )
    assert made["enrollment_group_id"] == "line-4"
    assert updated["provisioning_status"] == "disabled"
    assert keys["symmetric_key"] == {"primary_key": KEYS[0], "secondary_key": KEYS[1]}
    assert (deleted, gone) == (None, {"error": 404})


@python_sdk
async def test_python_changes_in_bulk(public_fleet: Fleet) -> None:
    three = [individual(f"dev-{n}") for n in range(3)]
    created, again, updated, by_etag, deleted = await python(
        public_fleet,
        ["run_bulk_operation", {"bulk": ["create", three]}],
        ["run_bulk_operation", {"bulk": ["create", [*three[:1], individual("dev-9")]]}],
        ["run_bulk_operation", {"bulk": ["update", [individual("dev-0", device_id="x")]]}],
        ["run_bulk_operation", {"bulk": ["updateIfMatchETag", [individual("dev-1", etag="o")]]}],
        ["run_bulk_operation", {"bulk": ["delete", three]}],
    )
    assert created == updated == deleted == {"is_successful": True, "errors": []}
    for answer, id_, code in ((again, "dev-0", 409001), (by_etag, "dev-1", 412001)):
        [error] = answer["errors"]
        assert (answer["is_successful"], error["registration_id"]) == (False, id_)
        assert error["error_code"] == code


@python_sdk
async def test_python_goes_through_pages(public_fleet: Fleet) -> None:
    for n in range(5):
        await public_fleet.enroll(f"dev-{n}", initialTwin={"tags": {"n": n}})
    await public_fleet.enroll("line-4", group=True)
    enrollments, groups = await python(
        public_fleet,
        ["pages", "create_individual_enrollment_query", EVERYTHING, 2],
        ["pages", "create_enrollment_group_query", "*", 1],
    )
    assert [[each["registration_id"] for each in page] for page in enrollments] == [
        ["dev-0", "dev-1"],
        ["dev-2", "dev-3"],
        ["dev-4"],
    ]
    assert enrollments[2][0]["initial_twin"]["tags"] == {"n": 4}
    assert [[each["enrollment_group_id"] for each in page] for page in groups] == [
        ["default"],
        ["line-4"],
    ]


@python_sdk
async def test_python_reads_and_forgets_a_registration(public_fleet: Fleet) -> None:
    key, _ = await public_fleet.enroll("dev-1")
    token = public_fleet.provisioning_token("dev-1", key)
    await public_fleet.register("dev-1", token=token)
    state, enrollment, other, deleted, gone = await python(
        public_fleet,
        ["get_registration_state", "dev-1"],
        ["get_individual_enrollment", "dev-1"],
        ["delete", {"state": {"registration_id": "dev-1", "etag": "other"}}],
        ["delete_registration_state_by_param", "dev-1"],
        ["get_registration_state", "dev-1"],
    )
    assert state["status"] == "assigned"
    assert state["assigned_hub"] == public_fleet.hub_host
    assert state["substatus"] == "initialAssignment"
    assert enrollment["registration_state"] == state
    assert (other, deleted, gone) == ({"error": 412}, None, {"error": 404})


# --- Node


def symmetric(id_: str, **more: Any) -> dict[str, Any]:
    return {"registrationId": id_, "attestation": {"type": "symmetricKey"}} | more


@node_sdk
async def test_node_creates_reads_updates_and_deletes_an_individual_enrollment(
    public_fleet: Fleet,
) -> None:
    given = symmetric(
        "dev-1",
        deviceId="pump-7",
        initialTwin={"tags": {"a": 1}, "properties": {"desired": {"b": {"c": 2}}}},
        capabilities={"iotEdge": True},
        optionalDeviceInformation={"colour": "red"},
    )
    made, updated, keys, old, deleted, gone = await node(
        public_fleet,
        ["createOrUpdateIndividualEnrollment", given],
        ["update", "IndividualEnrollment", "dev-1", {"provisioningStatus": "disabled"}],
        ["getIndividualEnrollmentAttestationMechanism", "dev-1"],
        ["deleteIndividualEnrollment", "dev-1", "old"],
        ["deleteIndividualEnrollment", "dev-1"],
        ["getIndividualEnrollment", "dev-1"],
    )
    assert made.items() >= {name: given[name] for name in given if name != "attestation"}.items()
    assert updated["provisioningStatus"] == "disabled"
    assert updated["initialTwin"] == made["initialTwin"]
    assert keys == made["attestation"] == updated["attestation"]
    assert (old["error"], old["name"]) == (412, "InvalidEtagError")
    assert (deleted, gone["error"]) == (None, 404)


@node_sdk
async def test_node_writes_every_attestation(public_fleet: Fleet, tmp_path: Path) -> None:
    first, second = certificates(tmp_path)
    key, _ = TPM
    pair = {"primary": {"certificate": first}, "secondary": {"certificate": second}}
    tpm = {"type": "tpm", "tpm": {"endorsementKey": key}}
    client = {"type": "x509", "x509": {"clientCertificates": pair}}
    signing = {"type": "x509", "x509": {"signingCertificates": pair}}
    made_tpm, made_client, made_signing, *mechanisms = await node(
        public_fleet,
        ["createOrUpdateIndividualEnrollment", symmetric("tpm-1", attestation=tpm)],
        ["createOrUpdateIndividualEnrollment", symmetric("x509-1", attestation=client)],
        [
            "createOrUpdateEnrollmentGroup",
            {"enrollmentGroupId": "line-4", "attestation": signing},
        ],
        ["getIndividualEnrollmentAttestationMechanism", "tpm-1"],
        ["getIndividualEnrollmentAttestationMechanism", "x509-1"],
        ["getEnrollmentGroupAttestationMechanism", "line-4"],
    )
    assert mechanisms == [each["attestation"] for each in (made_tpm, made_client, made_signing)]
    assert made_tpm["attestation"] == tpm
    for made, kind in ((made_client, "clientCertificates"), (made_signing, "signingCertificates")):
        for which, pem in (("primary", first), ("secondary", second)):
            shown = made["attestation"]["x509"][kind][which]
            leaf = x509.load_pem_x509_certificate(pem.encode())
            assert shown["certificate"] == der(pem)
            thumbprint = leaf.fingerprint(hashes.SHA256()).hex()
            assert shown["info"]["sha256Thumbprint"].lower() == thumbprint


@node_sdk
async def test_node_works_with_a_group(public_fleet: Fleet) -> None:
    given = symmetric("", enrollmentGroupId="line-4")
    del given["registrationId"]
    made, updated, deleted, gone = await node(
        public_fleet,
        ["createOrUpdateEnrollmentGroup", given],
        ["update", "EnrollmentGroup", "line-4", {"provisioningStatus": "disabled"}],
        ["deleteEnrollmentGroup", "line-4"],
        ["getEnrollmentGroup", "line-4"],
    )
    assert made["enrollmentGroupId"] == "line-4"
    assert updated["provisioningStatus"] == "disabled"
    assert (deleted, gone["error"]) == (None, 404)


@node_sdk
async def test_node_changes_in_bulk(public_fleet: Fleet) -> None:
    three = [symmetric(f"dev-{n}") for n in range(3)]
    created, again, by_etag, deleted = await node(
        public_fleet,
        ["bulk", {"mode": "create", "enrollments": three}],
        ["bulk", {"mode": "create", "enrollments": [*three[:1], symmetric("dev-9")]}],
        ["bulk", {"mode": "updateIfMatchEtag", "enrollments": [symmetric("dev-1", etag="o")]}],
        ["bulk", {"mode": "delete", "enrollments": three}],
    )
    assert created == deleted == {"isSuccessful": True, "errors": []}
    assert [(e["registrationId"], e["errorCode"]) for e in again["errors"]] == [("dev-0", 409001)]
    assert [(e["registrationId"], e["errorCode"]) for e in by_etag["errors"]] == [("dev-1", 412001)]


@node_sdk
async def test_node_goes_through_pages(public_fleet: Fleet) -> None:
    for n in range(3):
        await public_fleet.enroll(f"dev-{n}")
        await public_fleet.register(f"pump-{n}")
    enrollments, groups, states, none = await node(
        public_fleet,
        ["pages", "createIndividualEnrollmentQuery", {"query": EVERYTHING}, 2],
        ["pages", "createEnrollmentGroupQuery", {"query": "*"}, 2],
        [
            *("pages", "createEnrollmentGroupDeviceRegistrationStateQuery"),
            *({"query": "*"}, "default", 2),
        ],
        ["pages", "createIndividualEnrollmentQuery", {"query": "SELECT * FROM devices"}],
    )
    assert [[each["registrationId"] for each in page] for page in enrollments] == [
        ["dev-0", "dev-1"],
        ["dev-2"],
    ]
    assert [[each["enrollmentGroupId"] for each in page] for page in groups] == [["default"]]
    assert [[each["registrationId"] for each in page] for page in states] == [
        ["pump-0", "pump-1"],
        ["pump-2"],
    ]
    assert (none["error"], none["name"]) == (400, "ArgumentError")


@node_sdk
async def test_node_reads_and_forgets_a_registration(public_fleet: Fleet) -> None:
    await public_fleet.register("dev-1")
    state, other, deleted, gone = await node(
        public_fleet,
        ["getDeviceRegistrationState", "dev-1"],
        ["deleteDeviceRegistrationState", {"registrationId": "dev-1", "etag": "other"}],
        ["deleteDeviceRegistrationState", "dev-1"],
        ["getDeviceRegistrationState", "dev-1"],
    )
    assert (state["status"], state["assignedHub"]) == ("assigned", public_fleet.hub_host)
    assert (other["error"], deleted, gone["error"]) == (412, None, 404)


@node_sdk
async def test_node_with_a_bearer_token_asks_as_its_role(public_fleet: Fleet) -> None:
    calls: list[list[Any]] = [
        ["getEnrollmentGroup", "default"],
        ["getEnrollmentGroupAttestationMechanism", "default"],
    ]
    group, keys = await node(public_fleet, *calls, token=public_fleet.bootstrap["adminToken"])
    assert group["enrollmentGroupId"] == "default"
    assert (
        keys["symmetricKey"]["primaryKey"]
        == public_fleet.bootstrap["enrollmentGroup"]["primaryKey"]
    )
