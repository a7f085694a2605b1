"""A server certificate of the operator's own: what is taken, what refused, how it changes."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from fleet import Fleet
from fleetroot.app import Server, serve
from fleetroot.errors import InvalidArgument
from fleetroot.settings import Settings

NOW = datetime.now(UTC)
TOPIC = "devices/dev-1/messages/events/"


@dataclass(frozen=True)
class Issued:
    certificate: x509.Certificate
    key: Any


def issue(name: str, issuer: Issued | None = None, *, key: Any = None, days: int = 30) -> Issued:
    """A CA, or under an intermediate a leaf for `localhost`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    is_ca = name != "localhost"
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=60))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .add_extension(
            x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False), True
        )
    )
    if not is_ca:
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        names.append(x509.IPAddress(ip_address("127.0.0.1")))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, algorithm), key)


ROOT = issue("operator's root")
INTERMEDIATE = issue("operator's intermediate", ROOT)


@dataclass(frozen=True)
class Files:
    """The operator's two files."""

    folder: Path

    @property
    def settings(self) -> dict[str, Path]:
        return {
            "server_certificate": self.folder / "tls.crt",
            "server_key": self.folder / "tls.key",
        }

    def write(self, leaf: Issued, *above: Issued, key: Any = None) -> None:
        self.write_chain(leaf, *above)
        self.write_key(key or leaf.key)

    def write_chain(self, *chain: Issued) -> None:
        pem = b"".join(each.certificate.public_bytes(Encoding.PEM) for each in chain)
        self._replace("tls.crt", pem)

    def write_key(self, key: Any) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._replace("tls.key", pem)

    def _replace(self, name: str, content: bytes) -> None:
        new = self.folder / "new"
        new.write_bytes(content)
        new.replace(self.folder / name)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ROOT.certificate.public_bytes(Encoding.PEM).decode())


async def shown(fleet: Fleet, port: str) -> x509.Certificate:
    """What a port shows to a client that trusts the operator's root alone.

    Raises:
        ssl.SSLCertVerificationError: the client does not trust it.
    """
    _, writer = await asyncio.open_connection(
        fleet.bootstrap["bind"], fleet.bootstrap[port], ssl=trust(), server_hostname="localhost"
    )
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        rsa.generate_private_key(65537, 3072),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["RSA-2048", "RSA-3072", "P-384"],
)
async def test_every_tls_port_shows_it_with_its_chain(
    tmp_path: Path, files: Files, key: Any
) -> None:
    leaf = issue("localhost", INTERMEDIATE, key=key)
    files.write(leaf, INTERMEDIATE)
    async with Fleet.running(tmp_path / "data", **files.settings) as fleet:
        for port in ("mqttPort", "httpsPort", "consolePort"):
            assert await shown(fleet, port) == leaf.certificate


async def test_root_at_the_end_is_published_and_not_sent(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", INTERMEDIATE), INTERMEDIATE, ROOT)
    async with Fleet.running(tmp_path / "data", **files.settings) as fleet:
        published = Path(fleet.bootstrap["serverCaFile"]).read_bytes()
        assert x509.load_pem_x509_certificates(published) == [ROOT.certificate]
        assert fleet.server._certificate.identity.certificate_chain[1:] == (
            INTERMEDIATE.certificate,
        )
        assert (await fleet.http.get("/healthz")).status_code == 200


async def test_operator_is_warned_when_the_root_is_not_there(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", INTERMEDIATE), INTERMEDIATE)
    with capture_logs() as lines:
        async with Fleet.running(tmp_path / "data", **files.settings):
            pass
    (line,) = [line for line in lines if "without its root" in line["event"]]
    assert line["signed_by"] == "CN=operator's root"


async def refusal(tmp_path: Path, files: Files) -> str:
    """What the start of a server with these files says; it must fail."""
    server = Server(Settings(data=tmp_path / "data", mqtt_port=0, http_port=0, **files.settings))
    try:
        with pytest.raises(InvalidArgument) as refused:
            await server.start()
    finally:
        await server.stop()
    assert str(files.settings["server_certificate"]) in refused.value.message
    return refused.value.message


async def test_key_of_another_certificate_is_refused(tmp_path: Path, files: Files) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    files.write(issue("localhost", ROOT), key=other)
    assert "not the one of the server's certificate" in await refusal(tmp_path, files)


async def test_expired_certificate_is_refused(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", ROOT, days=-1))
    assert "CN=localhost is valid from" in await refusal(tmp_path, files)


async def test_expired_intermediate_is_refused(tmp_path: Path, files: Files) -> None:
    expired = issue("intermediate", ROOT, days=-1)
    files.write(issue("localhost", expired), expired)
    assert "CN=intermediate is valid from" in await refusal(tmp_path, files)


async def test_chain_out_of_order_is_refused(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", INTERMEDIATE), ROOT, INTERMEDIATE)
    assert "CN=localhost is not signed by what stands behind it" in await refusal(tmp_path, files)


async def test_key_that_tls_cannot_use_is_refused(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", ROOT), key=dsa.generate_private_key(2048))
    assert "must be EC, RSA or Ed25519" in await refusal(tmp_path, files)


async def test_weak_key_is_refused(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", ROOT, key=rsa.generate_private_key(65537, 1024)))
    assert "key too small" in await refusal(tmp_path, files)


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
async def test_missing_file_is_refused(tmp_path: Path, files: Files, missing: str) -> None:
    files.write(issue("localhost", ROOT))
    (tmp_path / missing).unlink()
    assert missing in await refusal(tmp_path, files)


async def test_file_that_is_no_pem_is_refused(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", ROOT))
    (tmp_path / "tls.crt").write_bytes(b"\x30\x82")
    await refusal(tmp_path, files)


# --- renewal


async def test_replaced_files_are_shown_from_the_next_handshake_on_and_nobody_is_dropped(
    tmp_path: Path, files: Files
) -> None:
    files.write(issue("localhost", INTERMEDIATE), INTERMEDIATE, ROOT)
    async with Fleet.running(tmp_path / "data", **files.settings) as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified) as mqtt:
            new = issue("localhost", INTERMEDIATE, key=rsa.generate_private_key(65537, 2048))
            files.write(new, INTERMEDIATE, ROOT)
            await fleet.server._renew_server_certificate()  # the duty, a minute early
            for port in ("mqttPort", "httpsPort", "consolePort"):
                assert await shown(fleet, port) == new.certificate
            await mqtt.publish(TOPIC, b"still here")


async def test_replacement_that_is_half_done_waits_for_its_other_half(
    tmp_path: Path, files: Files
) -> None:
    old, new = issue("localhost", ROOT), issue("localhost", ROOT)
    files.write(old)
    async with Fleet.running(tmp_path / "data", **files.settings) as fleet:
        files.write_chain(new)
        with pytest.raises(InvalidArgument):
            await fleet.server._renew_server_certificate()
        assert await shown(fleet, "mqttPort") == old.certificate
        await fleet.server._renew_server_certificate()  # the same files: said once
        files.write_key(new.key)
        await fleet.server._renew_server_certificate()
        assert await shown(fleet, "mqttPort") == new.certificate


async def test_file_that_vanishes_is_reported_once_and_taken_when_it_is_back(
    tmp_path: Path, files: Files
) -> None:
    old, new = issue("localhost", ROOT), issue("localhost", ROOT)
    files.write(old)
    async with Fleet.running(tmp_path / "data", **files.settings) as fleet:
        (tmp_path / "tls.crt").unlink()
        with capture_logs() as lines:
            await fleet.server.reload()
            await fleet.server.reload()
        assert len(lines) == 1
        assert "tls.crt" in lines[0]["error"]
        assert await shown(fleet, "mqttPort") == old.certificate
        files.write(new)
        await fleet.server.reload()
        assert await shown(fleet, "mqttPort") == new.certificate


async def test_sighup_reads_the_files_again_at_once(tmp_path: Path, files: Files) -> None:
    files.write(issue("localhost", ROOT))
    ports = dict.fromkeys(("mqtt_port", "https_port", "console_port", "http_port"), 0)
    settings = Settings(data=tmp_path / "data", **ports, **files.settings)
    running: asyncio.Queue[Server] = asyncio.Queue()
    serving = asyncio.create_task(serve(settings, running.put_nowait))
    async with asyncio.timeout(30):
        server = await running.get()
        fleet = Fleet(server, {"bind": "127.0.0.1", **server.ports})
        new = issue("localhost", ROOT)
        files.write(new)
        os.kill(os.getpid(), signal.SIGHUP)
        while await shown(fleet, "mqttPort") != new.certificate:
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
