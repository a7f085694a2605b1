"""A namespace's credential: its root CA, which this generation calls `default`.

`keyType` and `offlineRoot` are extensions of ours, taken when it is made; what is shown beside
`provisioningState` is, too. Where it is said to be does not matter: it is where its namespace is.
"""

from __future__ import annotations

from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.key_types import WireKeyType, wire_name
from fleetroot.api.arm.operations import accepted
from fleetroot.api.arm.resources import (
    SUCCEEDED,
    Location,
    Page,
    Resource,
    Sent,
    Shown,
    SystemData,
    Tags,
)
from fleetroot.api.arm.routing import (
    CHANGES,
    NAMESPACE,
    PUTS,
    ArmRoute,
    check_absent,
    check_present,
    if_match,
    namespace_of,
    namespace_path,
    property_change,
)
from fleetroot.api.description import answers, replaced
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument
from fleetroot.pki import KeyType
from fleetroot.registry import etags
from fleetroot.registry.model import DEFAULT_LOCATION, Authority, Credential, Namespace

TYPE: Final = "Microsoft.DeviceRegistry/namespaces/credentials"
_ALL: Final = NAMESPACE + "/credentials"
ONE: Final = _ALL + "/default"
router = APIRouter(route_class=ArmRoute)


class CredentialProperties(Sent):
    """What a credential may be told when it is made.

    Attributes:
        offline_root: the certificate (PEM) of a root whose key is kept elsewhere.
    """

    key_type: WireKeyType | None = None
    offline_root: str | None = Field(default=None, max_length=16 * 1024)


class CredentialBody(Sent):
    """A credential, as it is sent."""

    location: Location = DEFAULT_LOCATION
    tags: Tags | None = None
    properties: CredentialProperties = Field(default_factory=CredentialProperties)


class CredentialUpdate(Sent):
    """What changes of a credential."""

    tags: Tags | None = None


class ShownProperties(Shown):
    """A credential's properties."""

    provisioning_state: str = SUCCEEDED
    key_type: str
    key_kept: Literal["here", "elsewhere"]
    subject: str
    thumbprint: str
    validity_not_before: str
    validity_not_after: str


class CredentialResource(Resource):
    """A credential."""

    properties: ShownProperties


@router.get(_ALL, response_model_exclude_none=True)
@needs(Permission.READ)
async def list_(request: Request) -> Page[CredentialResource]:
    """The namespace's credential, if it has one."""
    found = await services_of(request).namespaces.credentials(namespace_of(request))
    return Page(value=[await _shown(request, each) for each in found])


@router.get(ONE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request) -> CredentialResource:
    """The namespace's credential."""
    found = await services_of(request).namespaces.credential(namespace_of(request))
    return await _shown(request, found)


@router.put(
    ONE,
    status_code=201,
    response_model_exclude_none=True,
    dependencies=PUTS,
    responses=replaced(CredentialResource) | answers(409, 412),
)
@needs(Permission.WRITE_CREDENTIALS)
async def put(request: Request, body: CredentialBody, response: Response) -> CredentialResource:
    """Makes the namespace's root CA (201), or replaces the tags of the one that is there (200)."""
    services, of = services_of(request), namespace_of(request)
    there = await services.namespaces.credentials(of)
    if there:
        check_present(request)
        _check_same(there[0].root, body.properties)
        put = await services.namespaces.patch_credential(
            of, body.tags or {}, if_match=if_match(request), by=actor_of(request)
        )
        response.status_code = 200
    else:
        check_absent(request)
        put = await services.namespaces.create_credential(
            of,
            key_type=body.properties.key_type or KeyType.EC_P384,
            pki_url=services.pki_url,
            offline_root=_certificate(body.properties.offline_root),
            tags=body.tags,
            by=actor_of(request),
        )
    return await _shown(request, put)


@router.patch(
    ONE, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(409, 412)
)
@needs(Permission.WRITE_CREDENTIALS)
async def patch(request: Request, body: CredentialUpdate) -> CredentialResource:
    """Replaces the credential's tags, where any are given."""
    services, of = services_of(request), namespace_of(request)
    if body.tags is None:
        found = await services.namespaces.credential(of)
        etags.check(if_match(request), found.etag)
    else:
        found = await services.namespaces.patch_credential(
            of, body.tags, if_match=if_match(request), by=actor_of(request)
        )
    return await _shown(request, found)


@router.delete(ONE, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request) -> Response:
    """Takes the root CA from a namespace without policies, for good. It can be set to need a second
    person.
    """
    await delete_root(request)
    return Response(status_code=204)


@router.post(
    ONE + "/synchronize",
    status_code=202,
    responses=answers(409),
    response_class=Response,
)
@needs(Permission.WRITE_CREDENTIALS)
async def synchronize(request: Request) -> Response:
    """Lets the namespace's hubs trust the issuing CAs of its policies."""
    services, of = services_of(request), namespace_of(request)
    await services.namespaces.credential(of)  # or there is nothing to synchronize
    await services.hubs.synchronize(of, by=actor_of(request))
    return await accepted(request, f"namespace/{of.name}")


async def delete_root(request: Request) -> None:
    """Deletes the credential of the request's namespace, where there is one and, if that is
    asked, a second person agrees.
    """
    services, of = services_of(request), namespace_of(request)
    if not await services.namespaces.credentials(of):
        return
    subject = f"credential/{of.name}/default"
    await services.access.claim(Guarded.DELETE_AUTHORITY, subject, by=actor_of(request))
    await services.namespaces.delete_credential(
        of, if_match=if_match(request), by=actor_of(request)
    )


def credential_path(namespace: Namespace) -> str:
    """The resource id of a namespace's credential."""
    return f"{namespace_path(namespace)}/credentials/default"


def _check_same(root: Authority, wanted: CredentialProperties) -> None:
    """Raises:
    Conflict: what is for good is to be another.
    """
    if wanted.key_type not in (None, root.key_type):
        raise property_change("keyType")
    offline = _certificate(wanted.offline_root)
    if offline is not None and offline.public_bytes(Encoding.DER) != root.certificate:
        raise property_change("offlineRoot")


def _certificate(pem: str | None) -> x509.Certificate | None:
    if pem is None:
        return None
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise InvalidArgument("offlineRoot: not a certificate in PEM") from error


async def _shown(request: Request, credential: Credential) -> CredentialResource:
    of, root = namespace_of(request), credential.root
    certificate = x509.load_der_x509_certificate(root.certificate)
    return CredentialResource(
        id=credential_path(of),
        name="default",
        type=TYPE,
        system_data=SystemData.of(credential.created_at, credential.updated_at),
        etag=credential.etag,
        location=of.location,
        tags=dict(credential.tags),
        properties=ShownProperties(
            key_type=wire_name(root.key_type),
            key_kept="elsewhere" if root.is_offline else "here",
            subject=certificate.subject.rfc4514_string(),
            thumbprint=root.sha256.hex(),
            validity_not_before=iso8601(root.not_before),
            validity_not_after=iso8601(root.not_after),
        ),
    )
