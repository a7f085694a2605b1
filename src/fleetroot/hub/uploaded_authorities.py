"""Certificates of CAs that were uploaded to a hub: what one counts by, and until when.

Any certificate counts that leads to such a CA, for the device of its common name, unless it or a CA
between stands on a list that was brought of its issuer. The signatures are checked once, when a
device connects; what may change afterwards is read again wherever it decides.

A CA of ours is never one of them: what it signed counts by the inventory alone, even beneath
a root of somebody else that was uploaded here.

Source: Azure IoT Hub, "Authenticate identities with X.509 certificates".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from sqlalchemy import bindparam, select, true

from fleetroot.errors import Unauthorized
from fleetroot.hub.model import CertificateProof, Ending, Hub, Identity, UploadedPath
from fleetroot.ids import canonical
from fleetroot.pki import Anchors, ChainRefused, common_name_of, load_chain, to_der, verify_chain
from fleetroot.registry import authorities, third_party_lists, uploaded_certificates
from fleetroot.storage import Query, Transaction, configuration
from fleetroot.storage.schema import uploaded_certificates as uploaded

_IS_ANCHOR: Final = Query(
    select(uploaded.c.name_key)
    .where(uploaded.c.owner_id == bindparam("hub"))
    .where(uploaded.c.certificate == bindparam("certificate"))
    .where(uploaded.c.verified == true()),
    str,
)
_ENDINGS: Final = {
    Ending.CA_DISTRUSTED: "uploaded CA not on this hub",
    Ending.REVOKED: "certificate on a revocation list",
}


class IssuedByUs(Unauthorized):
    """The way to the uploaded CA goes through a CA of ours."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The CAs of a hub, as they are in one version of the configuration."""

    version: bytes
    anchors: Anchors


class UploadedAuthorities:
    """Holds certificates against the CAs of their hub."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}  # by the hub's id

    def check(
        self, tx: Transaction, hub: Hub, identity: Identity, proof: CertificateProof, now: datetime
    ) -> tuple[UploadedPath, datetime]:
        """Lets a certificate pass: by which path, and when the first of that path ends.

        Raises:
            Unauthorized: it does not count for the device, here, now.
        """
        try:
            chain = load_chain(proof.chain)
            name = common_name_of(chain[0])
            if name is None or canonical(name) != identity.device_key:
                raise Unauthorized("certificate of another device")
            verified = verify_chain(chain, self._anchors(tx, hub), now)
        except ChainRefused as refused:
            raise Unauthorized(f"certificate of an uploaded CA refused ({refused.reason})") from (
                refused
            )
        # The uploaded one was held against ours when it came.
        for between in verified.path[1:-1]:
            if authorities.have_key_of(tx, between):
                raise IssuedByUs("certificate of a CA of this installation")
        path = UploadedPath(
            to_der(verified.anchor),
            tuple(
                (third_party_lists.issuer_id(issuer), each.serial_number)
                for each, issuer in pairwise(verified.path)
            ),
        )
        check_stands(tx, hub, path)
        return path, min(each.not_valid_after_utc for each in verified.path)

    def _anchors(self, tx: Transaction, hub: Hub) -> Anchors:
        version = configuration.version(tx)
        kept = self._kept.get(hub.id)
        if kept is None or kept.version != version:
            found = uploaded_certificates.verified(tx, hub.id).values()
            kept = _Kept(version, Anchors(map(x509.load_der_x509_certificate, found)))
            self._kept[hub.id] = kept
        return kept.anchors


def check_stands(tx: Transaction, hub: Hub, path: UploadedPath) -> None:
    """Lets a path pass that counts still; its dates are the caller's to look at.

    Raises:
        Unauthorized: it does not any more.
    """
    lost = lost_ground(tx, hub, path)
    if lost is not None:
        raise Unauthorized(_ENDINGS[lost])


def lost_ground(tx: Transaction, hub: Hub, path: UploadedPath) -> Ending | None:
    """Why a path that was checked once does not count any more; None: it does."""
    if tx.first(_IS_ANCHOR, hub=hub.id, certificate=path.anchor) is None:
        return Ending.CA_DISTRUSTED
    if any(
        third_party_lists.has_serial(tx, hub.namespace_id, issuer, serial)
        for issuer, serial in path.signed
    ):
        return Ending.REVOKED
    return None
