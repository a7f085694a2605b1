"""Where a certificate authority publishes what its certificates point to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography import x509

from fleetroot.pki.certificate import sha256_fingerprint

# Clear text on purpose: a verifier fetches these to be able to trust TLS (RFC 5280 §8).
_BASE: Final = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]+(?:/[A-Za-z0-9.\-_~/]*)?", re.ASCII)
_AUTHORITY_ID: Final = re.compile(r"[A-Za-z0-9\-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class PkiUrls:
    """The published URLs of one certificate authority; they are embedded, so they are forever.

    Attributes:
        base: the public PKI URL that was persisted with the authority, such as
            `http://pki.example:8080`; a trailing slash makes no difference.
        authority_id: the authority's opaque id, of letters, digits and `-`.

    Raises:
        ValueError: the base is no plain HTTP URL, or the id has other characters.
    """

    base: str
    authority_id: str

    def __post_init__(self) -> None:
        if not _BASE.fullmatch(self.base):
            raise ValueError(f"not a plain http or https URL: {self.base!r}")
        if not _AUTHORITY_ID.fullmatch(self.authority_id):
            raise ValueError(f"not an authority id: {self.authority_id!r}")
        object.__setattr__(self, "base", self.base.rstrip("/"))

    @property
    def ca_issuers(self) -> str:
        """The authority's certificate in DER (RFC 5280 §4.2.2.1)."""
        return f"{self.base}/pki/{self.authority_id}/ca.cer"

    @property
    def ocsp(self) -> str:
        """The OCSP responder, one for all authorities (RFC 6960)."""
        return f"{self.base}/ocsp"

    def crl(self, shard: int) -> str:
        """One shard of the authority's revocation list, in DER (RFC 5280 §4.2.1.13)."""
        return f"{self.base}/pki/{self.authority_id}/crl/{shard}.crl"


def offline_authority_id(root: x509.Certificate) -> str:
    """The id, in URLs, of a root whose key is kept elsewhere: of its certificate, so that whoever
    has the key can name it without being told.
    """
    return str(UUID(bytes=sha256_fingerprint(root)[:16]))
