"""What relying parties fetch in the clear: CA certificates, revocation lists, and OCSP.

Everything here is signed, so it needs no TLS; and a verifier fetches it to be able to trust TLS.
The answers are made for caches: a list or an OCSP answer is good until its nextUpdate, but a
revocation must show, so a cache asks again within minutes, which costs a 304 where nothing changed.

Source: RFC 5280 §4.2.1.13, §4.2.2.1; RFC 2585 §4 (media types); RFC 6960 appendix A; RFC 5019 §5
and §6.
"""

from __future__ import annotations

import base64
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import sha256
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Path, Request, Response

from fleetroot.api.services import services_of
from fleetroot.errors import TooLarge
from fleetroot.pki import MAX_REQUEST, OcspError, encode_error
from fleetroot.registry.ocsp_responders import OcspReply

router = APIRouter()

_READ: Final = ["GET", "HEAD"]
_CERTIFICATE_AGE: Final = 86400
_FRESH: Final = 300  # seconds for which a cache need not ask whether somebody was revoked
_OCSP_REQUEST: Final = "application/ocsp-request"
_OCSP_RESPONSE: Final = "application/ocsp-response"
_Shard = Annotated[int, Path(ge=0, le=2**31 - 1)]


@router.api_route("/pki/{authority_id}/ca.cer", methods=_READ)
async def ca_certificate(request: Request, authority_id: str) -> Response:
    """A CA certificate, DER."""
    authority = await services_of(request).registry.authority(authority_id)
    return Response(
        authority.certificate,
        media_type="application/pkix-cert",
        headers={"cache-control": f"public, max-age={_CERTIFICATE_AGE}"},
    )


@router.api_route("/pki/{authority_id}/crl/{shard}.crl", methods=_READ)
async def revocation_list(request: Request, authority_id: str, shard: _Shard) -> Response:
    """A shard of a CA's revocation list, DER."""
    services = services_of(request)
    found = await services.publisher.find(authority_id, shard)
    return _fresh(
        request,
        found.der,
        "application/pkix-crl",
        since=found.head.this_update,
        until=found.head.next_update,
        now=services.clock.now(),
    )


@router.post("/ocsp")
async def ocsp_post(request: Request) -> Response:
    """Answers the request in the body."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _OCSP_REQUEST:
        raise HTTPException(415, f"the body must be {_OCSP_REQUEST}")
    body = await request.body()
    if len(body) > MAX_REQUEST:
        raise TooLarge(f"an OCSP request has at most {MAX_REQUEST} bytes")
    reply = await services_of(request).ocsp.answer(body)
    return Response(reply.der, media_type=_OCSP_RESPONSE, headers={"cache-control": "no-store"})


@router.api_route("/ocsp/{text:path}", methods=_READ)
async def ocsp_get(request: Request, text: str) -> Response:
    """Answers the request that is the rest of the path, base64 and URL-encoded."""
    services = services_of(request)
    reply = await _answer_text(request, text)
    if reply.answer is None or not reply.is_shared:
        return Response(reply.der, media_type=_OCSP_RESPONSE, headers={"cache-control": "no-store"})
    return _fresh(
        request,
        reply.der,
        _OCSP_RESPONSE,
        since=reply.answer.this_update,
        until=reply.answer.next_update,
        now=services.clock.now(),
    )


async def _answer_text(request: Request, text: str) -> OcspReply:
    if len(text) > MAX_REQUEST * 4 // 3 + 4:
        return OcspReply(encode_error(OcspError.MALFORMED_REQUEST))
    try:
        der = base64.b64decode(text, validate=True)
    except ValueError:  # also for what is not ASCII
        return OcspReply(encode_error(OcspError.MALFORMED_REQUEST))
    return await services_of(request).ocsp.answer(der)


def _fresh(
    request: Request,
    body: bytes,
    media_type: str,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
) -> Response:
    """An answer for caches; 304 where the caller has it already (RFC 9110 §13.2.2)."""
    etag = f'"{sha256(body).hexdigest()}"'
    left = int((until - now).total_seconds())
    since = since.replace(microsecond=0)
    headers = {
        "etag": etag,
        "last-modified": format_datetime(since, usegmt=True),
        "expires": format_datetime(until, usegmt=True),
        "cache-control": f"public, no-transform, must-revalidate, max-age={_age(left)}",
    }
    if _has_it(request, etag, since):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _age(left: int) -> int:
    return max(0, min(_FRESH, left))


def _has_it(request: Request, etag: str, since: datetime) -> bool:
    if (wanted := request.headers.get("if-none-match")) is not None:
        return any(each.strip().removeprefix("W/") in (etag, "*") for each in wanted.split(","))
    if (date := request.headers.get("if-modified-since")) is not None:
        try:
            return since <= parsedate_to_datetime(date)
        except (ValueError, TypeError):  # no date, or one without a zone
            return False
    return False
