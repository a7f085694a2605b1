"""What the OpenAPI document says of all calls alike: how they can be refused, who may ask, and how
they are called.

A kind of route says what it asks of its callers, here in the words of the document; a route adds
only what is its own.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

Responses = dict[int | str, dict[str, Any]]

BEARER: Final = "bearer"
SHARED_ACCESS: Final = "sharedAccessSignature"
SERVER: Final = "server"
OPERATOR_API: Final = "operator"
MANAGEMENT_API: Final = "management"
PROVISIONING_API: Final = "provisioning service"
HUB_API: Final = "hub service"
_TAGS: Final = {
    SERVER: "What the server tells of itself.",
    OPERATOR_API: "What the CLI and the console ask.",
    MANAGEMENT_API: "In the shape of Azure Resource Manager.",
    HUB_API: "Device identities, twins, methods and queries of a hub.",
    PROVISIONING_API: "Enrollments, enrollment groups and registrations.",
}
_SECURITY_SCHEMES: Final = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of this server, or of an OIDC issuer that it trusts.",
    },
    SHARED_ACCESS: {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "A shared access signature of a policy of the hub or provisioning service.",
    },
}
_DESCRIPTION: Final = """\
Names in JSON are camel case, times ISO 8601 in UTC, fingerprints and serial numbers lower-case
hexadecimal. Paths match in any case, with or without a slash behind. Every answer has the header
`x-ms-request-id`, by which the audit log knows the request.

Devices speak to this server by the protocols of hub and provisioning service, and relying parties
fetch certificates, revocation lists and OCSP answers at the plain port: neither is described here.
"""
_REFUSALS: Final = {
    400: "A parameter or the body is not as it must be.",
    401: "No credential, or one that is not good any more.",
    403: "The caller's roles do not reach this, or a second person must approve it first.",
    404: "What the request names does not exist.",
    409: "Something of that name exists, or what is named is in a state that does not allow this.",
    412: "The resource changed since its etag was read, or is not there.",
    413: "The body is over its limit.",
    429: "More is asked at a time than may be.",
    502: "The device answered with something that is no answer.",
    503: "A part that the answer needs is away for now.",
    504: "The device did not answer in time.",
}
_SCHEMAS: Final = "#/components/schemas/"
_ERROR_BODIES: Final[set[type[BaseModel]]] = set()
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds after which a retry makes sense.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


class ErrorBody(BaseModel):
    """What an error of the operator and provisioning service APIs is answered with."""

    model_config = ConfigDict(extra="forbid")

    error_code: int = Field(
        serialization_alias="errorCode",
        ge=400000,
        le=599999,
        description="Its first three digits are the HTTP status.",
    )
    tracking_id: str = Field(serialization_alias="trackingId")
    message: str
    info: dict[str, str] = Field(default={}, description="More for the caller; mostly left out.")
    timestamp_utc: str = Field(
        serialization_alias="timestampUtc", json_schema_extra={"format": "date-time"}
    )


def answers(*statuses: int) -> Responses:
    """For a route's `responses`: which refusals it can answer with beside those of its kind."""
    return {status: {} for status in statuses}


def replaced(model: type[BaseModel]) -> Responses:
    """For a route's `responses` that answers 201: 200 for what was there."""
    return {200: {"model": model, "description": "It was there, and is as it was sent now."}}


def with_refusals(described: Responses, error_body: type[BaseModel] = ErrorBody) -> Responses:
    """What `described` says, and of those answers that are refusals, what they have in common."""
    # By name, for `document` to explain: a model here would be built anew for each answer of each
    # route, which takes longer than all else of a start.
    schema = {"$ref": _SCHEMAS + error_body.__name__}
    _ERROR_BODIES.add(error_body)
    return {
        status: {
            "description": _REFUSALS[status],
            "headers": _HEADERS.get(status, {}),
            "content": {"application/json": {"schema": schema}},
            **answer,
        }
        if isinstance(status, int) and status in _REFUSALS
        else answer
        for status, answer in described.items()
    }


def operation_id(route: APIRoute, *, area: str | None = None, router: str | None = None) -> str:
    """`area_call`: the module of the endpoint and its name, with `router` between them where a
    module has the same calls in more than one. Clients are generated from it: calls of a module
    that was split keep the `area` that they had.
    """
    places = (area or route.endpoint.__module__.partition("fleetroot.api.")[2]).split(".")
    if router is not None:
        places.append(router)
    return "_".join((*places, route.name.strip("_")))


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of all that `app` serves."""
    described = get_openapi(
        title="Fleetroot",
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    components = described["components"]
    components["securitySchemes"] = _SECURITY_SCHEMES
    mode: JsonSchemaMode = "serialization"
    wanted = [(model, mode) for model in _ERROR_BODIES]
    _, errors = models_json_schema(wanted, ref_template=_SCHEMAS + "{model}")
    components["schemas"] |= errors["$defs"]
    # FastAPI describes its own answer to a bad parameter or body; `errors` answers 400 instead.
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for path in described["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return described
