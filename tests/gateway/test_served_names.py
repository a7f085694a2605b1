"""Which host names a new hub or provisioning service can have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from test_server_certificate import Installation

from fleetroot.errors import InvalidArgument
from fleetroot.gateway.served_names import ServedNames
from fleetroot.gateway.server_certificate import ServerCertificate, domain_of
from fleetroot.gateway.tls import ServerIdentity

NOW = datetime.now(UTC)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.store.close()


def names(shown: ServerCertificate, domain: str | None = "a.example") -> ServedNames:
    async def show() -> None:
        raise AssertionError("nothing is to be shown")

    return ServedNames(domain, lambda: shown, show)


def operators(*hosts: str) -> ServerCertificate:
    """A certificate of the operator's own, for these hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, hosts))), critical=True)
        .sign(key, hashes.SHA256())
    )
    return ServerCertificate(ServerIdentity((certificate,), key), "", None, None, None)


@pytest.mark.parametrize(
    ("hostname", "domain"),
    [
        ("a.example", "a.example"),
        ("localhost", "localhost"),
        ("127.3.4.5", "localhost"),
        ("::1", "localhost"),
        ("192.0.2.1", None),
    ],
)
def test_services_are_beneath_the_servers_name_if_it_is_one(
    hostname: str, domain: str | None
) -> None:
    assert domain_of(hostname) == domain


async def test_server_that_is_an_address_asks_for_a_domain(installation: Installation) -> None:
    made = names(await installation.start("192.0.2.1", "127.0.0.1"), None)
    with pytest.raises(InvalidArgument, match="set services_domain"):
        made.of("plant")


async def test_ca_of_ours_permits_what_is_beneath_its_names(installation: Installation) -> None:
    made = names(await installation.start("a.example", "127.0.0.1"))
    assert made.of("Plant") == "plant.a.example"
    for taken in ("plant.a.example", "b.c.a.example", "plant.localhost"):
        made.check(taken)
    for refused in ("example", "b.example", "xa.example", "203.0.113.1"):
        with pytest.raises(InvalidArgument, match="clients that trust this server's CA"):
            made.check(refused)


@pytest.mark.parametrize("text", ["", "two words", "*.a.example", "a" * 64 + ".a.example", "ü.de"])
async def test_what_is_no_host_name_is_none(installation: Installation, text: str) -> None:
    made = names(await installation.start("a.example", "127.0.0.1"))
    with pytest.raises(InvalidArgument, match="hostName"):
        made.check(text)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("hub.example", True),
        ("plant.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("other.example", False),
    ],
)
async def test_certificate_of_the_operators_has_what_it_has(name: str, taken: bool) -> None:
    made = names(operators("hub.example", "*.wild.example"))
    if taken:
        made.check(name)
        await made.show()
    else:
        with pytest.raises(InvalidArgument, match="certificate that was given"):
            made.check(name)


async def test_certificate_lacks_only_names_that_its_ca_permits(
    installation: Installation,
) -> None:
    shown = await installation.start("a.example", "127.0.0.1")
    assert not shown.lacks(["a.example", "localhost", "127.0.0.1"])
    assert shown.lacks(["plant.a.example"])
    assert not shown.lacks(["foreign.example"])  # another CA waits until the certificate is due
    assert not operators("a.example").lacks(["b.example"])
