"""Namespaces and their credentials over the operator API."""

from __future__ import annotations

from typing import Annotated, Literal

from cryptography import x509
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import EVERYWHERE, Grant, Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import (
    EverywhereRoute,
    ListRoute,
    NamespaceRoute,
    actor_of,
    caller_of,
    needs,
)
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.authorities import AuthorityAnswer, authority_body
from fleetroot.api.description import answers
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.pki import KeyType
from fleetroot.registry.model import Credential, Namespace

_PREFIX = "/fleetroot/namespaces"
lists = APIRouter(prefix=_PREFIX, route_class=ListRoute)
everywhere = APIRouter(prefix=_PREFIX, route_class=EverywhereRoute)
router = APIRouter(prefix=_PREFIX + "/{namespace}", route_class=NamespaceRoute)

_Tag = Annotated[str, Field(max_length=512)]
_Tags = Annotated[dict[_Tag, _Tag], Field(max_length=50)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NamespaceBody(_Body):
    """A namespace to make: empty, or with a credential."""

    tags: _Tags = {}
    credential: bool = True


class TagsBody(_Body):
    """What may be changed of a namespace or credential."""

    tags: _Tags


class CredentialBody(_Body):
    """A credential to make; `offlineRoot` is the certificate (PEM) of a root whose key is kept
    elsewhere.
    """

    key_type: KeyType = Field(default=KeyType.EC_P384, alias="keyType", strict=False)
    offline_root: str | None = Field(default=None, alias="offlineRoot", max_length=16 * 1024)
    tags: _Tags = {}


class NamespaceAnswer(Answer):
    """A namespace."""

    name: str
    id: str
    subscription_id: str
    resource_group: str
    location: str
    tags: dict[str, str]
    etag: str
    provisioning_state: Literal["Succeeded"] = "Succeeded"
    created_at: Time
    updated_at: Time


class CredentialAnswer(Answer):
    """A namespace's root CA."""

    name: Literal["default"] = "default"
    root: AuthorityAnswer
    tags: dict[str, str]
    etag: str
    provisioning_state: Literal["Succeeded"] = "Succeeded"
    created_at: Time
    updated_at: Time


class SynchronizedAnswer(Answer):
    """How many CAs were new to hubs."""

    synchronized: int


@lists.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[NamespaceAnswer]:
    """Every namespace that the caller may read, by name."""
    caller, every = caller_of(request), await services_of(request).namespaces.list_all()
    return Listed(value=[_namespace(n) for n in every if caller.may(Permission.READ, n.id)])


@everywhere.put("/{namespace}", status_code=201, responses=answers(409))
@needs(Permission.WRITE_SERVICES)
async def create(
    request: Request, namespace: str, body: NamespaceBody | None = None
) -> NamespaceAnswer:
    """Makes a namespace."""
    services, body = services_of(request), body or NamespaceBody()
    made = await services.namespaces.create(
        namespace,
        subscription_id=services.namespace.subscription_id,
        resource_group=services.namespace.resource_group,
        pki_url=services.pki_url if body.credential else None,
        tags=body.tags,
        by=actor_of(request),
    )
    return _namespace(made)


@router.get("")
@needs(Permission.READ)
async def get(request: Request, namespace: str) -> NamespaceAnswer:
    """One namespace."""
    return _namespace(await services_of(request).namespaces.get(namespace))


@router.patch("", responses=answers(412))
@needs(Permission.WRITE_SERVICES)
async def patch(
    request: Request, namespace: str, body: TagsBody, if_match: IfMatch = None
) -> NamespaceAnswer:
    """Replaces a namespace's tags."""
    changed = await services_of(request).namespaces.patch(
        namespace, body.tags, if_match=if_match, by=actor_of(request)
    )
    return _namespace(changed)


@router.delete("", status_code=204, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, namespace: str, if_match: IfMatch = None) -> Response:
    """Deletes an empty namespace."""
    await services_of(request).namespaces.delete(namespace, if_match=if_match, by=actor_of(request))
    return Response(status_code=204)


@router.post("/synchronize")
@needs(Permission.WRITE_CREDENTIALS)
async def synchronize(request: Request, namespace: str) -> SynchronizedAnswer:
    """Pushes the issuing CAs of the namespace's policies to its hubs; how many were new."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    new = await services.hubs.synchronize(of, by=actor_of(request))
    return SynchronizedAnswer(synchronized=new)


# --- credential


@router.get("/credential")
@needs(Permission.READ)
async def get_credential(request: Request, namespace: str) -> CredentialAnswer:
    """The namespace's root CA."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return _credential(await services.namespaces.credential(of))


@router.put("/credential", status_code=201, responses=answers(409))
@needs(Permission.WRITE_CREDENTIALS)
async def create_credential(
    request: Request, namespace: str, body: CredentialBody | None = None
) -> CredentialAnswer:
    """Makes the namespace's root CA, or takes one whose key is kept elsewhere."""
    services, body = services_of(request), body or CredentialBody()
    of = await services.namespaces.get(namespace)
    made = await services.namespaces.create_credential(
        of,
        key_type=body.key_type,
        pki_url=services.pki_url,
        offline_root=_certificate(body.offline_root) if body.offline_root else None,
        tags=body.tags,
        by=actor_of(request),
    )
    return _credential(made)


@router.patch("/credential", responses=answers(412))
@needs(Permission.WRITE_CREDENTIALS)
async def patch_credential(
    request: Request, namespace: str, body: TagsBody, if_match: IfMatch = None
) -> CredentialAnswer:
    """Replaces the credential's tags."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    changed = await services.namespaces.patch_credential(
        of, body.tags, if_match=if_match, by=actor_of(request)
    )
    return _credential(changed)


@router.delete("/credential", status_code=204, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def delete_credential(request: Request, namespace: str, if_match: IfMatch = None) -> Response:
    """Takes the root CA away from the namespace, for good."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    subject = f"credential/{of.name}/default"
    await services.access.claim(Guarded.DELETE_AUTHORITY, subject, by=actor_of(request))
    await services.namespaces.delete_credential(of, if_match=if_match, by=actor_of(request))
    return Response(status_code=204)


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise InvalidArgument("offlineRoot: not a certificate in PEM") from error


async def namespace_names(request: Request) -> dict[str, str]:
    """The names of all namespaces, by their ids."""
    return {each.id: each.name for each in await services_of(request).namespaces.list_all()}


def scope_name(grant: Grant, names: dict[str, str]) -> str | None:
    """The name of the namespace that a role is on; the id of one that is gone; None: everything."""
    scope = grant.namespace_id
    return None if scope is EVERYWHERE else names.get(scope, scope)


def _namespace(namespace: Namespace) -> NamespaceAnswer:
    return NamespaceAnswer(
        name=namespace.name,
        id=namespace.id,
        subscription_id=namespace.subscription_id,
        resource_group=namespace.resource_group,
        location=namespace.location,
        tags=dict(namespace.tags),
        etag=namespace.etag,
        created_at=namespace.created_at,
        updated_at=namespace.updated_at,
    )


def _credential(credential: Credential) -> CredentialAnswer:
    return CredentialAnswer(
        root=authority_body(credential.root),
        tags=dict(credential.tags),
        etag=credential.etag,
        created_at=credential.created_at,
        updated_at=credential.updated_at,
    )
