"""Revocation as the outside world sees it: openssl and curl, over the HTTP port."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

import pkilint_opinion
from fleet import Certified, Fleet
from fleetroot.clock import ManualClock

SOON = 30.0  # seconds; the lists are signed within fractions of one
BATCH = 0.05


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with Fleet.running(tmp_path / "data", crl_batch_seconds=BATCH) as running:
        yield running


@dataclass(frozen=True)
class Client:
    """Somebody who has a device's chain, and curl and openssl."""

    folder: Path
    certified: Certified

    @classmethod
    def of(cls, folder: Path, certified: Certified) -> Self:
        made = cls(folder, certified)
        for name, der in zip(("leaf", "issuing", "root"), certified.chain, strict=True):
            pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
            (folder / f"{name}.pem").write_bytes(pem)
        return made

    def certificate(self, position: int) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.certified.chain[position])

    def list_url(self, position: int = 0) -> str:
        """Where a certificate of the chain says that its list is."""
        points = self.certificate(position).extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        )
        [point] = points.value
        [url] = point.full_name or ()
        return str(url.value)

    @property
    def ocsp_url(self) -> str:
        access = self.certificate(0).extensions.get_extension_for_class(
            x509.AuthorityInformationAccess
        )
        [url] = [
            one.access_location.value
            for one in access.value
            if one.access_method == AuthorityInformationAccessOID.OCSP
        ]
        return str(url)

    def request(self, position: int = 0, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        builder = ocsp.OCSPRequestBuilder().add_certificate(
            self.certificate(position),
            self.certificate(position + 1),
            algorithm or hashes.SHA1(),
        )
        return builder.build().public_bytes(Encoding.DER)

    def get_url(self, position: int = 0) -> str:
        text = base64.b64encode(self.request(position)).decode()
        return f"{self.ocsp_url}/{quote(text, safe='')}"

    async def run(self, *command: str) -> tuple[int, str]:
        """The exit code, and what was printed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace")

    async def curl(self, *arguments: str) -> str:
        code, out = await self.run(
            "curl", "--silent", "--show-error", "--max-time", "30", *arguments
        )
        assert code == 0, out
        return out

    async def download_lists(self) -> None:
        """Puts the lists that the chain names into `lists.pem`."""
        text = ""
        for position in (0, 1):
            await self.curl("--fail", "--output", "list.der", self.list_url(position))
            code, pem = await self.run("openssl", "crl", "-inform", "DER", "-in", "list.der")
            assert code == 0, pem
            text += pem
        (self.folder / "lists.pem").write_text(text)

    async def verify(self) -> tuple[int, str]:
        return await self.run(
            *("openssl", "verify", "-crl_check_all", "-CAfile", "root.pem"),
            *("-untrusted", "issuing.pem", "-CRLfile", "lists.pem", "leaf.pem"),
        )

    async def openssl_ocsp(self, *arguments: str) -> str:
        _, out = await self.run(
            *("openssl", "ocsp", "-issuer", "issuing.pem", "-CAfile", "root.pem"),
            *("-verify_other", "issuing.pem", *arguments),
        )
        return out


async def client_of(fleet: Fleet, tmp_path: Path, device_id: str = "dev-1") -> Client:
    return Client.of(tmp_path, await fleet.provision(device_id))


async def revoke(fleet: Fleet, device_id: str = "dev-1") -> None:
    answer = await fleet.http.post(f"/fleetroot/devices/{device_id}/revoke")
    assert answer.status_code == 200


async def wait_listed(url: str, serial: int) -> x509.CertificateRevocationList:
    """The list, once it has the serial number."""
    async with httpx.AsyncClient() as http, asyncio.timeout(SOON):
        while True:
            crl = x509.load_der_x509_crl((await http.get(url)).content)
            if crl.get_revoked_certificate_by_serial_number(serial) is not None:
                return crl
            await asyncio.sleep(0.02)


# --- revocation lists


async def test_openssl_verifies_a_chain_with_the_lists_that_it_names(
    fleet: Fleet, tmp_path: Path
) -> None:
    client = await client_of(fleet, tmp_path)
    await client.download_lists()
    assert await client.verify() == (0, "leaf.pem: OK\n")


async def test_openssl_refuses_a_chain_that_was_revoked(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    await revoke(fleet)
    await wait_listed(client.list_url(), client.certificate(0).serial_number)
    await client.download_lists()
    code, out = await client.verify()
    assert code != 0
    assert "certificate revoked" in out


async def test_openssl_takes_no_other_shard_for_the_one_that_the_certificate_names(
    fleet: Fleet, tmp_path: Path
) -> None:
    client = await client_of(fleet, tmp_path)
    await client.download_lists()
    base, _, _ = client.list_url().rpartition("/")
    other = (client.certificate(0).serial_number + 1) % 16
    await client.curl("--fail", "--output", "list.der", f"{base}/{other}.crl")
    code, pem = await client.run("openssl", "crl", "-inform", "DER", "-in", "list.der")
    assert code == 0
    (client.folder / "lists.pem").write_text(pem)
    code, out = await client.verify()
    assert code != 0
    assert "different CRL scope" in out or "unable to get certificate CRL" in out


async def test_curl_is_told_that_it_has_the_list_already(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    url, told = client.list_url(), ("--write-out", "%{http_code} %{content_type}")
    assert (
        await client.curl(
            *told, "--etag-save", "etag", "--remote-time", "--output", "list.der", url
        )
        == "200 application/pkix-crl"
    )
    again = await client.curl(*told, "--etag-compare", "etag", "--output", "none", url)
    assert again.startswith("304")
    since = await client.curl(*told, "--time-cond", "list.der", "--output", "none", url)
    assert since.startswith("304")
    serial = client.certificate(0).serial_number
    await revoke(fleet)
    await wait_listed(url, serial)
    changed = await client.curl(*told, "--etag-compare", "etag", "--output", "list.der", url)
    assert changed.startswith("200")


async def test_list_is_not_kept_by_caches_for_longer_than_minutes(
    fleet: Fleet, tmp_path: Path
) -> None:
    client = await client_of(fleet, tmp_path)
    async with httpx.AsyncClient() as http:
        answer = await http.get(client.list_url())
        head = await http.head(client.list_url())
    assert "max-age=300" in answer.headers["cache-control"]
    assert {name: head.headers[name] for name in ("etag", "last-modified", "expires")} == {
        name: answer.headers[name] for name in ("etag", "last-modified", "expires")
    }
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))


@pytest.mark.parametrize(
    "path",
    [
        "nobody/crl/0.crl",
        "{}/crl/16.crl",
        "{}/crl/x.crl",
        "{}/crl/-1.crl",
        "{}/crl/99999999999999999999.crl",
    ],
)
async def test_list_that_nobody_names_is_not_there(fleet: Fleet, tmp_path: Path, path: str) -> None:
    client = await client_of(fleet, tmp_path)
    base, _, _ = client.list_url().rpartition("/crl/")
    root, _, authority = base.rpartition("/")
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{root}/{path.format(authority)}")
    assert answer.status_code in (400, 404)


# --- OCSP


async def test_openssl_asks_by_post(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    ask = ("-cert", "leaf.pem", "-url", client.ocsp_url)
    for more in ((), ("-sha256",), ("-no_nonce",)):
        out = await client.openssl_ocsp(*more, *ask)
        assert "Response verify OK" in out
        assert "leaf.pem: good" in out
        assert "WARNING" not in out, out  # as it says where a nonce did not come back
    await revoke(fleet)
    out = await client.openssl_ocsp(*ask)
    assert "Response verify OK" in out
    assert "leaf.pem: revoked" in out


async def test_openssl_is_told_that_a_serial_number_was_never_issued(
    fleet: Fleet, tmp_path: Path
) -> None:
    client = await client_of(fleet, tmp_path)
    out = await client.openssl_ocsp("-serial", "0x1234", "-url", client.ocsp_url)
    assert "Response verify OK" in out
    assert "0x1234: unknown" in out


async def test_openssl_asks_the_root_about_its_issuing_ca(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    _, out = await client.run(
        *("openssl", "ocsp", "-issuer", "root.pem", "-CAfile", "root.pem"),
        *("-cert", "issuing.pem", "-url", client.ocsp_url),
    )
    assert "Response verify OK" in out
    assert "issuing.pem: good" in out


async def test_curl_asks_by_get_and_openssl_reads_the_answer(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    told = await client.curl(
        "--fail", "--output", "answer.der", "--write-out", "%{content_type}", client.get_url()
    )
    assert told == "application/ocsp-response"
    out = await client.openssl_ocsp("-respin", "answer.der", "-cert", "leaf.pem", "-no_nonce")
    assert "Response verify OK" in out
    assert "leaf.pem: good" in out


@pytest.mark.parametrize("safe", ["", "/+="], ids=["encoded", "raw"])
async def test_get_takes_base64_with_and_without_encoding(
    fleet: Fleet, tmp_path: Path, safe: str
) -> None:
    client = await client_of(fleet, tmp_path)
    seen = ""
    async with httpx.AsyncClient() as http:
        for algorithm in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384()):
            text = base64.b64encode(client.request(algorithm=algorithm)).decode()
            seen += text
            answer = await http.get(f"{client.ocsp_url}/{quote(text, safe=safe)}")
            response = ocsp.load_der_ocsp_response(answer.content)
            assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert "=" in seen or "+" in seen or "/" in seen


async def test_answer_to_get_is_for_caches_and_to_post_is_not(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    async with httpx.AsyncClient() as http:
        got = await http.get(client.get_url())
        again = await http.get(client.get_url(), headers={"if-none-match": got.headers["etag"]})
        posted = await http.post(
            client.ocsp_url,
            content=client.request(),
            headers={"content-type": "application/ocsp-request"},
        )
    assert "public" in got.headers["cache-control"]
    assert got.headers["last-modified"]
    assert again.status_code == 304
    assert posted.content == got.content
    assert posted.headers["cache-control"] == "no-store"


async def test_errors_of_ocsp_are_answers(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    status = ocsp.OCSPResponseStatus
    async with httpx.AsyncClient() as http:
        for path in ("AAAA", "not base64", "%C3%A9", "A" * 8000):
            answer = await http.get(f"{client.ocsp_url}/{path}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/ocsp-response"
            found = ocsp.load_der_ocsp_response(answer.content).response_status
            assert found is status.MALFORMED_REQUEST


# --- what HTTP refuses


async def test_methods_and_bodies_that_are_not_taken(fleet: Fleet, tmp_path: Path) -> None:
    client = await client_of(fleet, tmp_path)
    right = {"content-type": "application/ocsp-request"}
    async with httpx.AsyncClient() as http:
        for method, url, allowed in (
            ("POST", client.list_url(), "GET"),
            ("DELETE", client.get_url(), "GET"),
            ("GET", client.ocsp_url, "POST"),
        ):
            answer = await http.request(method, url)
            assert answer.status_code == 405
            assert allowed in answer.headers["allow"]
        wrong = await http.post(client.ocsp_url, content=client.request())
        assert wrong.status_code == 415
        long = await http.post(client.ocsp_url, content=bytes(4097), headers=right)
        assert long.status_code == 413


@pytest.mark.parametrize("path", ["/ocsp", "/ocsp/AAAA", "/pki/x/crl/0.crl"])
async def test_https_port_distributes_nothing(fleet: Fleet, path: str) -> None:
    assert (await fleet.http.get(path)).status_code == 404


# --- the server's life


async def test_numbers_go_on_after_a_restart_with_the_clock_set_back(
    tmp_path: Path, clock: ManualClock
) -> None:
    numbers: list[int] = []
    client: Client | None = None
    for moved in (timedelta(days=20), -timedelta(days=15), -timedelta(days=2)):
        async with Fleet.running(tmp_path / "data", clock=clock) as fleet:
            client = client or await client_of(fleet, tmp_path)
            url = httpx.URL(client.list_url()).copy_with(port=fleet.bootstrap["httpPort"])
            async with asyncio.timeout(SOON):
                while not (found := await number_at(url)) or found in numbers:
                    await asyncio.sleep(0.02)
            numbers.append(found)
        if moved > timedelta(0):
            clock.advance(moved)
        else:
            clock.set_back(-moved)
    assert numbers == sorted(set(numbers))
    assert numbers[2] == numbers[1] + 1


async def number_at(url: httpx.URL) -> int:
    async with httpx.AsyncClient() as http:
        answer = await http.get(url)
    if answer.status_code != 200:
        return 0
    crl = x509.load_der_x509_crl(answer.content)
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def test_pkilint_finds_no_error_in_anything_that_a_server_signs(
    fleet: Fleet, tmp_path: Path
) -> None:
    client = await client_of(fleet, tmp_path)
    await revoke(fleet)
    await wait_listed(client.list_url(), client.certificate(0).serial_number)
    certificates = [*client.certified.chain]
    pem = Path(fleet.bootstrap["serverCaFile"]).read_bytes()
    certificates += [c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem)]
    lists, answers = [], []
    async with httpx.AsyncClient() as http:
        for position in (0, 1):
            lists.append((await http.get(client.list_url(position))).content)
            answers.append((await http.get(client.get_url(position))).content)
    for der in answers:
        [responder] = ocsp.load_der_ocsp_response(der).certificates
        certificates.append(responder.public_bytes(Encoding.DER))
    assert [pkilint_opinion.of_certificate(der) for der in certificates] == [[]] * len(certificates)
    assert [pkilint_opinion.of_list(der) for der in lists] == [[], []]
    assert [pkilint_opinion.of_answer(der) for der in answers] == [[], []]
