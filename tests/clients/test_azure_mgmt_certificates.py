"""CA certificates of hubs and provisioning services, by the unmodified management SDKs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from test_azure_mgmt_deviceregistry import PYTHON, call, sdk

from fleet import Fleet
from openssl_ca import OpensslCa, openssl

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDKs' environment is missing: `make test` makes it"
)


@dataclass
class Certificates:
    """Calls on the certificates of the first hub or of the first provisioning service."""

    fleet: Fleet
    of: str

    async def ask(self, *calls: list[Any]) -> list[Any]:
        return await sdk(self.fleet, *calls, client=self.of)

    def list(self) -> list[Any]:
        method = "certificates.list_by_iot_hub" if self._of_hub else "dps_certificate.list"
        return call(method, self._group, "default")

    def get(self, name: str = "corp") -> list[Any]:
        if self._of_hub:
            return call("certificates.get", self._group, "default", name)
        return call("dps_certificate.get", name, self._group, "default")

    def put(
        self,
        certificate: str,
        name: str = "corp",
        *,
        verified: bool | None = None,
        etag: str | None = None,
    ) -> list[Any]:
        body = {"properties": {"certificate": certificate, "isVerified": verified}}
        operations = "certificates" if self._of_hub else "dps_certificate"
        return call(
            f"{operations}.create_or_update",
            *(self._group, "default", name, body),
            **(self._matching(etag) if etag else {}),
        )

    def code(self, etag: str) -> list[Any]:
        return self._call("generate_verification_code", (), etag)

    def verify(self, proof: str, etag: str) -> list[Any]:
        method = "verify" if self._of_hub else "verify_certificate"
        return self._call(method, ({"certificate": proof},), etag)

    def delete(self, etag: str, name: str = "corp") -> list[Any]:
        operations = "certificates" if self._of_hub else "dps_certificate"
        return call(f"{operations}.delete", self._group, "default", name, **self._matching(etag))

    def _call(self, method: str, body: tuple[Any, ...], etag: str) -> list[Any]:
        if self._of_hub:
            names = (self._group, "default", "corp")
            return call(f"certificates.{method}", *names, etag, *body)
        names = ("corp", self._group, "default")
        return call(f"dps_certificate.{method}", *names, *body, **self._matching(etag))

    def _matching(self, etag: str) -> dict[str, str]:
        if self._of_hub:
            return {"if_match": etag}
        return {"etag": etag, "match_condition": "IfNotModified"}

    @property
    def _of_hub(self) -> bool:
        return self.of == "hubs"

    @property
    def _group(self) -> str:
        return str(self.fleet.bootstrap["resourceGroup"])


@pytest.fixture(params=["hubs", "provisioning services"])
def certificates(fleet: Fleet, request: pytest.FixtureRequest) -> Certificates:
    return Certificates(fleet, request.param)


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    return OpensslCa.root(tmp_path / "ca", name="Corp Root")


def base64_of(pem: str) -> str:
    """As the SDKs are given it: of the PEM text."""
    return base64.b64encode(pem.encode()).decode()


def signed(ca: OpensslCa, common_name: str, **how: Any) -> str:
    """A certificate of that common name, signed by the CA; PEM."""
    key = ca.folder / "signed.key"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    subject = f"/CN={common_name}"
    request = openssl("req", "-new", "-key", key, "-subj", subject, "-config", "/dev/null")
    return ca.sign(request, **how)


def proof_of(ca: OpensslCa, code: str, **how: Any) -> str:
    """A certificate over the code, signed by the CA; base64 of DER."""
    pem = signed(ca, code, basicConstraints="CA:FALSE", keyUsage="digitalSignature", **how)
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    return base64.b64encode(der).decode()


async def test_certificate_is_uploaded_read_listed_and_deleted(
    certificates: Certificates, ca: OpensslCa
) -> None:
    certificate = x509.load_pem_x509_certificate(ca.pem.encode())
    uploaded, read, listed = await certificates.ask(
        certificates.put(base64_of(ca.pem)), certificates.get("CORP"), certificates.list()
    )
    properties = uploaded["properties"]
    names = {name.lower().replace("_", ""): value for name, value in properties.items()}
    assert names["subject"] == "CN=Corp Root"
    assert names["thumbprint"] == certificate.fingerprint(hashes.SHA1()).hex().upper()
    assert names["isverified"] is False
    assert names["expiry"].startswith(certificate.not_valid_after_utc.strftime("%a, %d %b %Y"))
    der = base64.b64decode(names["certificate"])
    assert der == certificate.public_bytes(Encoding.DER)
    assert uploaded["name"] == "corp"
    assert uploaded["id"].endswith("/default/certificates/corp")
    assert read == uploaded
    items = listed["value"] if isinstance(listed, dict) else listed
    assert items == [uploaded]
    late, deleted, gone = await certificates.ask(
        certificates.delete("another"), certificates.delete(uploaded["etag"]), certificates.get()
    )
    assert late["error"]["status"] == 412
    assert deleted is None
    assert gone["error"]["status"] == 404


async def test_possession_is_proved(certificates: Certificates, ca: OpensslCa) -> None:
    [uploaded] = await certificates.ask(certificates.put(base64_of(ca.pem)))
    [asked] = await certificates.ask(certificates.code(uploaded["etag"]))
    code = code_of(asked)
    [verified] = await certificates.ask(certificates.verify(proof_of(ca, code), asked["etag"]))
    assert is_verified(verified)
    read, again = await certificates.ask(
        certificates.get(), certificates.verify(proof_of(ca, code), verified["etag"])
    )
    assert is_verified(read)
    assert "no verification code" in again["error"]["message"]  # a code is good once


async def test_only_the_key_of_the_ca_proves_possession(
    certificates: Certificates, ca: OpensslCa, tmp_path: Path
) -> None:
    namesake = OpensslCa.root(tmp_path / "other", name="Corp Root")
    [uploaded] = await certificates.ask(certificates.put(base64_of(ca.pem)))
    [first] = await certificates.ask(certificates.code(uploaded["etag"]))
    [second] = await certificates.ask(certificates.code(first["etag"]))
    code, etag = code_of(second), second["etag"]
    assert code != code_of(first)
    refused = await certificates.ask(
        certificates.verify(proof_of(namesake, code), etag),
        certificates.verify(proof_of(ca, code_of(first)), etag),
        certificates.verify(proof_of(ca, "0" * 48), etag),
        certificates.verify(proof_of(ca, code, days=-1), etag),
        certificates.verify(base64_of(ca.pem), etag),
        certificates.verify("not a certificate", etag),
        certificates.verify(proof_of(ca, code), first["etag"]),
        certificates.get(),
    )
    read = refused.pop()
    stale = refused.pop()
    assert [each["error"]["status"] for each in refused] == [400] * 6, refused
    assert "not signed by the key" in refused[0]["error"]["message"]
    assert "not the verification code" in refused[1]["error"]["message"]
    assert "not valid now" in refused[3]["error"]["message"]
    assert stale["error"]["status"] == 412
    assert not is_verified(read)
    [verified] = await certificates.ask(certificates.verify(proof_of(ca, code), etag))
    assert is_verified(verified)


async def test_certificate_that_is_trusted_as_it_comes_is_verified(
    certificates: Certificates, ca: OpensslCa
) -> None:
    [uploaded] = await certificates.ask(certificates.put(base64_of(ca.pem), verified=True))
    assert is_verified(uploaded)


async def test_another_certificate_in_its_place_must_be_verified_anew(
    certificates: Certificates, ca: OpensslCa, tmp_path: Path
) -> None:
    other = OpensslCa.root(tmp_path / "other", name="Other Root")
    first, blind, replaced = await certificates.ask(
        certificates.put(base64_of(ca.pem), verified=True),
        certificates.put(base64_of(other.pem)),
        certificates.put(base64_of(other.pem), etag="*"),
    )
    assert is_verified(first)
    assert blind["error"]["status"] == 412
    assert replaced["properties"]["subject"] == "CN=Other Root"
    assert not is_verified(replaced)


async def test_what_cannot_be_a_ca_is_refused_by_the_name_of_the_rule(
    certificates: Certificates, ca: OpensslCa, tmp_path: Path
) -> None:
    weak = OpensslCa.root(
        tmp_path / "weak", name="Weak", key=("RSA", "-pkeyopt", "rsa_keygen_bits:1024")
    )
    cannot = {
        "not_a_ca": proof_of(ca, "leaf"),
        "weak_key": base64_of(weak.pem),
        "expired": base64_of(signed(ca, "past", days=-1)),
        "neither PEM nor base64": base64.b64encode(b"x" * 99).decode(),
        "more than one": base64_of(ca.pem + ca.pem),
    }
    refused = await certificates.ask(*map(certificates.put, cannot.values()), certificates.list())
    listed = refused.pop()
    for rule, answer in zip(cannot, refused, strict=True):
        assert (answer["error"]["status"], answer["error"]["code"]) == (400, "InvalidParameter")
        assert rule in answer["error"]["message"]
    assert not (listed["value"] if isinstance(listed, dict) else listed)


async def test_ca_of_this_server_cannot_be_uploaded(certificates: Certificates) -> None:
    answer = await certificates.fleet.http.get("/fleetroot/namespaces/default/authorities")
    path = f"/fleetroot/namespaces/default/authorities/{answer.json()['value'][0]['id']}"
    pem = (await certificates.fleet.http.get(path)).json()["pem"]
    [refused] = await certificates.ask(certificates.put(base64_of(pem), verified=True))
    assert "one of this installation" in refused["error"]["message"]


async def test_a_service_has_so_many_certificates_and_no_more(fleet: Fleet, ca: OpensslCa) -> None:
    of = fleet.bootstrap
    path = (
        f"/subscriptions/{of['subscriptionId']}/resourceGroups/{of['resourceGroup']}"
        "/providers/Microsoft.Devices/IotHubs/default/certificates"
    )
    statuses = []
    for number in range(26):
        answer = await fleet.http.put(
            f"{path}/ca-{number}?api-version=2023-06-30",
            json={"properties": {"certificate": ca.pem}},
        )
        statuses.append(answer.status_code)
    assert statuses == [201] * 25 + [409]


def code_of(answer: dict[str, Any]) -> str:
    names = {name.lower().replace("_", ""): v for name, v in answer["properties"].items()}
    return str(names["verificationcode"])


def is_verified(answer: dict[str, Any]) -> bool:
    names = {name.lower().replace("_", ""): v for name, v in answer["properties"].items()}
    assert isinstance(names["isverified"], bool), answer
    return names["isverified"]
