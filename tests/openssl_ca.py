"""A CA of somebody else, run with the `openssl` command, for tests of bring your own root."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

ISSUING = {
    "basicConstraints": "critical,CA:TRUE,pathlen:0",
    "keyUsage": "critical,digitalSignature,keyCertSign,cRLSign",
    "extendedKeyUsage": "clientAuth",
    "subjectKeyIdentifier": "hash",
    "authorityKeyIdentifier": "keyid",
}
ABOVE = {
    "basicConstraints": "critical,CA:TRUE",
    "keyUsage": "critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier": "hash",
}


def openssl(*arguments: object, stdin: bytes = b"") -> bytes:
    """What the command prints."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass
class OpensslCa:
    """A CA in a folder: `NAME.key` and `NAME.pem`."""

    folder: Path
    name: str
    above: OpensslCa | None = None

    @classmethod
    def root(
        cls,
        folder: Path,
        *,
        name: str = "Corp Root",
        key: tuple[str, ...] = ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        digest: str = "sha384",
        days: int = 3650,
        **extensions: str,
    ) -> OpensslCa:
        """A new root. `key` are arguments of `openssl genpkey -algorithm`."""
        made = cls(folder, name)
        made._make_key(key)
        wanted = {**ABOVE, **extensions}
        flags = [flag for n, v in wanted.items() if v for flag in ("-addext", f"{n}={v}")]
        openssl(
            *("req", "-x509", "-new", "-key", made.key, f"-{digest}", "-days", days),
            *("-subj", f"/CN={name}", "-config", "/dev/null", "-out", made.certificate, *flags),
        )
        return made

    @property
    def key(self) -> Path:
        return self.folder / f"{self.name}.key"

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def pem(self) -> str:
        return self.certificate.read_text()

    def _make_key(self, key: tuple[str, ...]) -> None:
        self.folder.mkdir(exist_ok=True)
        openssl("genpkey", "-algorithm", *key, "-out", self.key)

    def below(self, name: str, **extensions: str) -> OpensslCa:
        """A CA that this one signed."""
        made = OpensslCa(self.folder, name, self)
        made._make_key(("EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
        request = openssl(
            *("req", "-new", "-key", made.key, "-subj", f"/CN={name}", "-config", "/dev/null")
        )
        made.certificate.write_text(self.sign(request, **{**ABOVE, **extensions}))
        return made

    def sign(
        self,
        request: bytes,
        *options: object,
        days: int = 1825,
        digest: str = "sha384",
        **extensions: str,
    ) -> str:
        """Signs a request (PEM or DER); the certificate, PEM. An extension that is empty is left
        out."""
        wanted = {**ISSUING, **extensions}
        file = self.folder / "extensions"
        file.write_text("".join(f"{n}={v}\n" for n, v in wanted.items() if v))
        form = "PEM" if request.startswith(b"-----") else "DER"
        return openssl(
            *("x509", "-req", "-inform", form, "-CA", self.certificate, "-CAkey", self.key),
            *("-days", days, f"-{digest}", "-extfile", file, *options),
            stdin=request,
        ).decode()

    def crl(self, *revoked: str) -> bytes:
        """A list by `openssl ca -gencrl` of what was revoked before and of these (PEM); DER. Its
        number is one more than the last.
        """
        config, number = self.folder / f"{self.name}.cnf", self.folder / f"{self.name}.crlnumber"
        if not config.exists():
            (self.folder / f"{self.name}.index").write_text("")
            number.write_text("01\n")
            config.write_text(
                f"[ca]\ndefault_ca = it\n[it]\ndatabase = {self.folder / self.name}.index\n"
                f"crlnumber = {number}\ncertificate = {self.certificate}\n"
                f"private_key = {self.key}\ndefault_md = sha384\ndefault_crl_days = 7\n"
                "crl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n"
            )
        for pem in revoked:
            file = self.folder / "revoked.pem"
            file.write_text(pem)
            openssl("ca", "-config", config, "-revoke", file)
        made = openssl("ca", "-config", config, "-gencrl")
        return openssl("crl", "-outform", "DER", stdin=made)

    def sign_without_extensions(self, request: bytes) -> str:
        """Like `sign`, an X.509 v1 certificate."""
        csr = x509.load_der_x509_csr(request)
        pem = csr.public_bytes(Encoding.PEM)
        return openssl(
            *("x509", "-req", "-CA", self.certificate, "-CAkey", self.key, "-days", 1825),
            "-sha384",
            stdin=pem,
        ).decode()
