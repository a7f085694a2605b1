"""Backups over the operator API."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from fleetroot.access import Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.description import answers
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.upkeep.archive import ArchiveKey

router = APIRouter(prefix="/fleetroot/backup", route_class=EverywhereRoute)

_Secret = Annotated[SecretStr | None, Field(max_length=1024)]


class BackupBody(BaseModel):
    """What the backup is sealed with: base64 of 32 bytes, or a passphrase."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    key: _Secret = None
    passphrase: _Secret = None


class ArchiveResponse(StreamingResponse):
    """A sealed archive."""

    media_type = "application/octet-stream"


@router.post("", response_class=ArchiveResponse, responses=answers(409))
@needs(Permission.BACK_UP)
async def take(request: Request, body: BackupBody) -> ArchiveResponse:
    """A sealed backup, as a stream."""
    services, actor = services_of(request), actor_of(request)
    key = _key_of(body)
    await services.access.claim(Guarded.BACK_UP, "installation", by=actor)
    stream = await services.backups.take(key, by=actor)
    return ArchiveResponse(stream)


def _key_of(body: BackupBody) -> ArchiveKey:
    passphrase = None if body.passphrase is None else body.passphrase.get_secret_value()
    if body.key is None:
        return ArchiveKey(passphrase=passphrase)
    try:
        key = base64.b64decode(body.key.get_secret_value(), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidArgument("the key is not base64") from None
    return ArchiveKey(key=key, passphrase=passphrase)
