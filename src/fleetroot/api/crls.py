"""Revocation lists over the operator API: how ours stand, and those of third-party CAs."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, needs
from fleetroot.api.answers import Answer, Hex, Time
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.registry.revocation_lists import ListHead
from fleetroot.registry.third_party_lists import ThirdPartyList

router = APIRouter(prefix="/fleetroot/crls", route_class=OperatorRoute)

_Base64 = Annotated[str, Field(max_length=12 * 1024 * 1024)]


class UploadBody(BaseModel):
    """A list and, where no list of the CA was brought before, its certificate: base64 of DER or of
    PEM text.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    crl: _Base64
    ca_certificate: _Base64 | None = Field(default=None, alias="caCertificate")


class OwnListAnswer(Answer):
    """A shard of a CA's own list. `number` is decimal."""

    authority: str
    shard: int
    number: str
    this_update: Time
    next_update: Time
    revoked: int


class ThirdPartyListAnswer(Answer):
    """A list that was brought here. `number` is decimal."""

    id: str
    issuer: str
    distribution_point: str | None
    number: str | None
    this_update: Time
    next_update: Time | None
    entries: int
    sha256: Hex
    uploaded_at: Time


class ListsAnswer(Answer):
    """Every revocation list."""

    own: list[OwnListAnswer]
    third_party: list[ThirdPartyListAnswer]


@router.get("")
@needs(Permission.READ)
async def list_(request: Request) -> ListsAnswer:
    """Every list: `own`, by CA and shard, and `thirdParty`, by the CA's name."""
    services = services_of(request)
    namespace = services.namespace
    ours = {authority.id for authority in await services.registry.authorities(namespace)}
    heads = await services.publisher.heads()
    return ListsAnswer(
        own=[_own(head) for head in heads if head.authority_id in ours],
        third_party=[_shown(one) for one in await services.third_party_lists.all(namespace)],
    )


@router.post("/third-party")
@needs(Permission.WRITE_CREDENTIALS)
async def upload(request: Request, body: UploadBody) -> ThirdPartyListAnswer:
    """Takes a third-party CA's list in place of the one before."""
    services = services_of(request)
    certificate = body.ca_certificate
    return _shown(
        await services.third_party_lists.upload(
            services.namespace,
            _decode("crl", body.crl),
            None if certificate is None else _decode("caCertificate", certificate),
            by=actor_of(request),
        )
    )


@router.delete("/third-party/{list_id}", status_code=204)
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request, list_id: str) -> Response:
    """Forgets a third-party CA's list: what is on it counts as revoked no more."""
    services = services_of(request)
    await services.third_party_lists.delete(services.namespace, list_id, by=actor_of(request))
    return Response(status_code=204)


def _decode(field: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # also for what is not ASCII
        raise InvalidArgument(f"{field}: not base64") from None


def _own(head: ListHead) -> OwnListAnswer:
    return OwnListAnswer(
        authority=head.authority_id,
        shard=head.shard,
        number=str(head.number),  # JSON's numbers lose digits in some readers
        this_update=head.this_update,
        next_update=head.next_update,
        revoked=head.covers,
    )


def _shown(one: ThirdPartyList) -> ThirdPartyListAnswer:
    return ThirdPartyListAnswer(
        id=one.id,
        issuer=one.subject,
        distribution_point=one.scope,
        number=None if one.number is None else str(int(one.number, 16)),
        this_update=one.this_update,
        next_update=one.next_update,
        entries=one.entries,
        sha256=one.sha256,
        uploaded_at=one.uploaded_at,
    )
