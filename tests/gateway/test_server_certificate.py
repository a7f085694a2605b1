"""The server's CAs over the restarts of a server whose names change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from structlog.testing import capture_logs

import database
from fleetroot.custody import KeyStore, MasterKeyConfig, Sealer, load_master_key
from fleetroot.gateway.server_certificate import ServerCertificate, host_names, issue

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Installation:
    """A database in which a server keeps its CAs, over its starts."""

    def __init__(self, data: Path) -> None:
        self.store = database.store_of(data)
        self._custody = KeyStore(Sealer(load_master_key(MasterKeyConfig(), data)))
        self.warnings: list[Any] = []

    async def start(
        self, hostname: str, bind: str, *hubs: str, now: datetime = NOW
    ) -> ServerCertificate:
        with capture_logs() as lines:
            made = await issue(self.store, self._custody, host_names(hostname, bind, *hubs), now)
        self.warnings += [line for line in lines if line["log_level"] == "warning"]
        return made


@pytest.fixture
def installation(tmp_path: Path) -> Any:
    made = Installation(tmp_path)
    yield made
    made.store.close()


def cas(certificate: ServerCertificate) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(certificate.trust.encode())


def accepts(trust: ServerCertificate, shown: ServerCertificate, name: str) -> bool:
    """Whether a client that trusts what one start published accepts what another shows."""
    verifier = PolicyBuilder().store(Store(cas(trust))).time(NOW + timedelta(hours=1))
    try:
        verifier.build_server_verifier(x509.DNSName(name)).verify(
            shown.identity.certificate_chain[0], []
        )
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("hostname", "bind", "hubs"),
    [
        ("a.example", "127.0.0.1", ()),
        ("a.example", "127.8.9.10", ()),
        ("a.example", "::1", ()),
        ("a.example", "0.0.0.0", ()),
        ("a.example", "::", ()),
        ("a.example", "localhost", ()),
        ("a.example", "127.0.0.1", ("hub-2.a.example",)),
        ("localhost", "127.0.0.1", ()),
    ],
)
async def test_ca_of_the_first_start_serves_every_address_of_the_machines_own_and_names_beneath(
    installation: Installation, hostname: str, bind: str, hubs: tuple[str, ...]
) -> None:
    first = await installation.start("a.example", "127.0.0.1")
    second = await installation.start(hostname, bind, *hubs)
    assert second.trust == first.trust
    assert accepts(first, second, hostname)
    assert not installation.warnings


async def test_new_name_that_no_ca_permits_has_a_ca_of_its_own_and_a_warning(
    installation: Installation,
) -> None:
    await installation.start("a.example", "127.0.0.1")
    await installation.start("a.example", "127.0.0.1", "hub.b.example")
    [warning] = installation.warnings
    assert warning["new_hosts"] == ["hub.b.example"]


async def test_every_ca_is_published_the_newest_first(installation: Installation) -> None:
    first = await installation.start("a.example", "127.0.0.1")
    second = await installation.start("b.example", "127.0.0.1")
    third = await installation.start("a.example", "10.0.0.7")
    assert cas(second) == [cas(second)[0], *cas(first)]
    assert cas(third) == [cas(third)[0], *cas(second)]
    assert len(set(cas(third))) == 3


async def test_client_that_fetched_the_file_again_accepts_every_start(
    installation: Installation,
) -> None:
    first = await installation.start("a.example", "127.0.0.1")
    second = await installation.start("b.example", "127.0.0.1")
    assert accepts(second, first, "a.example")
    assert accepts(second, second, "b.example")
    assert not accepts(first, second, "b.example")


async def test_going_back_to_the_old_names_goes_back_to_the_ca_that_devices_trust(
    installation: Installation,
) -> None:
    first = await installation.start("a.example", "127.0.0.1")
    both = await installation.start("a.example", "127.0.0.1", "hub.b.example")
    back = await installation.start("a.example", "127.0.0.1")
    assert accepts(first, back, "a.example")
    assert back.trust == both.trust


async def test_ca_near_its_end_is_followed_by_another(installation: Installation) -> None:
    first = await installation.start("a.example", "127.0.0.1")
    late = cas(first)[0].not_valid_after_utc - timedelta(days=30)
    second = await installation.start("a.example", "127.0.0.1", now=late)
    assert (
        second.identity.certificate_chain[0].issuer
        == cas(second)[0].subject
        != cas(first)[0].subject
    )
    assert second.identity.certificate_chain[0].not_valid_after_utc == late + timedelta(days=90)
