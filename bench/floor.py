"""The floor: the cryptography that the job cannot do without, and nothing else."""

from __future__ import annotations

import base64
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.measure import cpu_seconds

Curve: TypeAlias = ec.SECP256R1 | ec.SECP384R1
HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
}


def make_csr(common_name: str, key: ec.EllipticCurvePrivateKey) -> str:
    """A CSR, base64 of DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = builder.sign(key, HASHES[key.curve.name])
    return base64.b64encode(csr.public_bytes(Encoding.DER)).decode()


class CryptoFloor:
    """Verifying one CSR and signing once, with the library and curve of the server's own work.

    The CSR has the device's curve, the signature the issuing CA's.
    """

    def __init__(self, device: Curve, authority: Curve) -> None:
        self._request = base64.b64decode(make_csr("floor", ec.generate_private_key(device)))
        self._key = ec.generate_private_key(authority)
        self._algorithm = ec.ECDSA(HASHES[authority.name])
        self._to_be_signed = b"\0" * 700

    def once(self) -> None:
        """One certificate's worth."""
        assert x509.load_der_x509_csr(self._request).is_signature_valid
        self._key.sign(self._to_be_signed, self._algorithm)

    def seconds(self, times: int = 200) -> float:
        """Its CPU, in seconds for one certificate."""
        return cpu_seconds(self.once, times)
