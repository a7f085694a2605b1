"""A CA of somebody else, and the revocation lists that it signs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
SIGN_ALL = x509.KeyUsage(True, False, False, False, False, True, True, False, False)


class Corporation:
    """A CA of somebody else."""

    def __init__(
        self,
        now: datetime,
        name: str = "Corporate CA",
        *,
        usage: x509.KeyUsage = SIGN_ALL,
        ca: bool = True,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.now = now
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            x509.CertificateBuilder(
                self.name, self.name, self.key.public_key(), 1, now - DAY, now + 900 * DAY
            )
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def crl(
        self,
        *serials: int,
        number: int | None = 1,
        key: ec.EllipticCurvePrivateKey | None = None,
        this: datetime | None = None,
        next_: datetime | None = None,
        more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
        entry: tuple[x509.ExtensionType, bool] | None = None,
        algorithm: Any = hashes.SHA256(),  # noqa: B008
        encoding: Encoding = Encoding.DER,
    ) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(this or self.now)
            .next_update(next_ or self.now + 7 * DAY)
        )
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        for value, critical in more:
            builder = builder.add_extension(value, critical)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial)
            revoked = revoked.revocation_date(self.now - DAY)
            if entry is not None:
                revoked = revoked.add_extension(*entry)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(key or self.key, algorithm).public_bytes(encoding)
