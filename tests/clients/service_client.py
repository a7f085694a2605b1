"""Runs calls of the unmodified `azure-iothub-provisioningserviceclient`, in its own environment.

An order comes as JSON on stdin: `connectionString` and `calls`, each `[method, argument…]`. An
argument that is an object is one of the SDK's models: `individual`, `group` or `state` with its
fields, or `bulk` with mode and models. `update` reads an enrollment, sets fields and writes it
back; `pages` goes through a query. What each call gave is printed as JSON, errors as
`{"error": status}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from provisioningserviceclient import (
    BulkEnrollmentOperation,
    ProvisioningServiceClient,
    ProvisioningServiceError,
    QuerySpecification,
)
from provisioningserviceclient.models import (
    AttestationMechanism,
    DeviceCapabilities,
    DeviceRegistrationState,
    EnrollmentGroup,
    IndividualEnrollment,
    InitialTwin,
    ReprovisionPolicy,
    SymmetricKeyAttestation,
)

ATTESTATION = {
    "symmetric_key": lambda *keys: AttestationMechanism(
        type="symmetricKey",
        symmetric_key=SymmetricKeyAttestation(primary_key=keys[0], secondary_key=keys[1])
        if keys
        else None,
    ),
    "tpm": AttestationMechanism.create_with_tpm,
    "client_certificates": AttestationMechanism.create_with_x509_client_certs,
    "signing_certificates": AttestationMechanism.create_with_x509_signing_certs,
    "ca_references": AttestationMechanism.create_with_x509_ca_refs,
}
FIELDS = {
    "attestation": lambda given: ATTESTATION[given[0]](*given[1:]),
    "initial_twin": lambda given: InitialTwin.create(**given),
    "reprovision_policy": lambda given: ReprovisionPolicy(**given),
    "capabilities": lambda given: DeviceCapabilities(**given),
}


def fields(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a model, as the SDK has them."""
    return {name: FIELDS.get(name, lambda same: same)(value) for name, value in given.items()}


def state(given: dict[str, Any]) -> DeviceRegistrationState:
    made = DeviceRegistrationState()
    for name, value in given.items():
        setattr(made, name, value)
    return made


MODELS = {
    "individual": lambda given: IndividualEnrollment(**fields(given)),
    "group": lambda given: EnrollmentGroup(**fields(given)),
    "state": state,
    "bulk": lambda given: BulkEnrollmentOperation(given[0], [model(each) for each in given[1]]),
}


def model(argument: Any) -> Any:
    """An argument as the SDK has it."""
    if not isinstance(argument, dict):
        return argument
    [(name, given)] = argument.items()
    return MODELS[name](given)


def update(client: ProvisioningServiceClient, get: str, id_: str, changes: dict[str, Any]) -> Any:
    """Reads an enrollment, sets fields, and writes it back with its etag."""
    found = getattr(client, get)(id_)
    for name, value in fields(changes).items():
        setattr(found, name, value)
    return client.create_or_update(found)


def pages(client: ProvisioningServiceClient, create: str, query: str, size: int) -> Any:
    """Every page of a query."""
    return list(getattr(client, create)(QuerySpecification(query), size))


def run(client: ProvisioningServiceClient, method: str, *arguments: Any) -> Any:
    """One call."""
    own = {"update": update, "pages": pages}.get(method)
    try:
        if own is not None:
            return shown(own(client, *arguments))
        return shown(getattr(client, method)(*map(model, arguments)))
    except ProvisioningServiceError as error:
        return {"error": error.cause.response.status_code}


def shown(found: Any) -> Any:
    """A model as JSON."""
    if isinstance(found, list):
        return [shown(each) for each in found]
    if found is None or isinstance(found, str | int):
        return found
    twin = getattr(found, "initial_twin", None)
    if twin is not None:
        found.initial_twin = None
    as_json = found.as_dict()
    if twin is not None:
        as_json["initial_twin"] = {"tags": twin.tags, "desired": twin.desired_properties}
    return as_json


def main() -> None:
    """Runs an order."""
    order = json.load(sys.stdin)
    client = ProvisioningServiceClient.create_from_connection_string(order["connectionString"])
    json.dump([run(client, *call) for call in order["calls"]], sys.stdout, default=str)


if __name__ == "__main__":
    main()
