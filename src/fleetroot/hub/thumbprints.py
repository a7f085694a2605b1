"""Certificates that a hub knows by their thumbprints.

Who signed such a certificate, and for what, does not count. It is known byte for byte, and still
has to be valid and strong.

Source: Azure IoT Hub, "Authenticate identities with X.509 certificates".
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha1, sha256

from fleetroot.errors import Unauthorized
from fleetroot.hub.model import CertificateProof
from fleetroot.pki import ChainRefused, check_known, load_chain


def of(proof: CertificateProof) -> tuple[str, str]:
    """The two thumbprints of what was shown, SHA-256 and SHA-1: upper-case hexadecimal.

    A second certificate of the same SHA-1 is out of reach, two of one maker are not: whoever names
    a certificate by SHA-1 trusts its maker that there is no other.
    """
    leaf = proof.chain[0]
    return sha256(leaf).hexdigest().upper(), sha1(leaf).hexdigest().upper()  # noqa: S324


def check(proof: CertificateProof, now: datetime) -> datetime:
    """Lets a certificate pass that is one of the identity's; when it ends.

    Raises:
        Unauthorized: it is not valid now, or its key or signature is weak.
    """
    try:
        [leaf] = load_chain(proof.chain[:1])
        check_known(leaf, now)
    except ChainRefused as refused:
        raise Unauthorized(f"certificate of a thumbprint refused ({refused.reason})") from refused
    return leaf.not_valid_after_utc
