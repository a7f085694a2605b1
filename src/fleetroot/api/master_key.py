"""The master key over the operator API: how it stands, and changing it.

A key comes in and never goes out.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from fleetroot.access import Permission
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.answers import Answer, Hex
from fleetroot.api.description import answers
from fleetroot.api.services import Services, services_of
from fleetroot.custody import MasterKeyUnusable
from fleetroot.errors import InvalidArgument

router = APIRouter(prefix="/fleetroot/masterKey", route_class=EverywhereRoute)

_Secret = Annotated[SecretStr | None, Field(max_length=1024)]


class RotateBody(BaseModel):
    """The new master key: base64 of 32 bytes, or a passphrase; neither where the server keeps the
    key in its data folder and is to make one.
    """

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    key: _Secret = None
    passphrase: _Secret = None


class ChangeAnswer(Answer):
    """A change of the key, by the ids of both."""

    old: Hex = Field(serialization_alias="from")
    new: Hex = Field(serialization_alias="to")
    resealed: int
    all_resealed: bool
    in_place: bool


class MasterKeyAnswer(Answer):
    """Where the key is, and the change that is under way."""

    where: str
    id: Hex
    change: ChangeAnswer | None


@router.get("")
@needs(Permission.READ)
async def show(request: Request) -> MasterKeyAnswer:
    """Where the key is, and the change that is under way."""
    return await _state(services_of(request))


@router.post("/rotate", responses=answers(409))
@needs(Permission.WRITE_ACCESS)
async def rotate(request: Request, body: RotateBody) -> MasterKeyAnswer:
    """Begins to change the key."""
    services = services_of(request)
    if body.key is not None and body.passphrase is not None:
        raise InvalidArgument("give a key or a passphrase, not both")
    key = body.key.get_secret_value() if body.key is not None else None
    passphrase = None
    if body.passphrase is not None:
        passphrase = body.passphrase.get_secret_value()
    try:
        new = await asyncio.to_thread(services.new_master_key, key, passphrase)
    except MasterKeyUnusable as error:
        raise InvalidArgument(str(error)) from error
    await services.rotation.begin(new, by=actor_of(request))
    return await _state(services)


async def _state(services: Services) -> MasterKeyAnswer:
    change = services.rotation.change
    return MasterKeyAnswer(
        where=services.master_key_where,
        id=services.rotation.key_id,
        change=None
        if change is None
        else ChangeAnswer(
            old=change.old_id,
            new=change.new_id,
            resealed=change.resealed,
            all_resealed=change.all_resealed,
            in_place=change.kept_here or await services.rotation.is_in_place(),
        ),
    )
