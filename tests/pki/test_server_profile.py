"""The certificates of the server itself, and what its CA may and may not vouch for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from pki_workshop import DAY, NOW, SERVER_AUTH, YEAR, OpenSSL, certificate, key, name, root

from fleetroot.pki import (
    BACKDATE,
    KeyType,
    ServerCaProfile,
    ServerProfile,
    generate_key,
    server_ca_permits,
    server_names,
)

HOSTS = ["fleet.example", "127.0.0.1"]


def server_ca(hosts=HOSTS, now: datetime = NOW) -> x509.Certificate:
    return ServerCaProfile(name("Server CA"), 2 * YEAR, hosts).self_sign(key("server-ca"), now)


def server(hosts=HOSTS, ca: x509.Certificate | None = None, now: datetime = NOW):
    profile = ServerProfile(ca or server_ca(now=now), 90 * DAY, hosts)
    return profile.issue(key("server-ca"), key("server").public_key(), now)


def by_stealth(ca: x509.Certificate, *names: x509.GeneralName) -> x509.Certificate:
    """A server certificate as a thief of the CA's key would make it."""
    return certificate(
        "stealth",
        "Server CA",
        public_key=key("server").public_key(),
        issuer_key=key("server-ca"),
        purposes=SERVER_AUTH,
        extra=[(x509.SubjectAlternativeName(names), False)],
        not_before=ca.not_valid_before_utc,
        not_after=ca.not_valid_after_utc,
    )


class TestNames:
    def test_a_host_becomes_the_name_of_its_kind_once_and_in_order(self) -> None:
        hosts = ["Fleet.example", "127.0.0.1", "fleet.example", "::1", "[::1]", "edge_1"]
        assert [str(each.value) for each in server_names(hosts)] == [
            "fleet.example",
            "127.0.0.1",
            "::1",
            "edge_1",
        ]

    @pytest.mark.parametrize("address", ["0.0.0.0", "::"])
    def test_an_any_address_is_no_name(self, address: str) -> None:
        assert [str(each.value) for each in server_names([address, "a.example"])] == ["a.example"]

    @pytest.mark.parametrize(
        "host", ["*", "*.example", "", "a b", "a..b", ".a", "ä.example", "a" * 64, "http://a", "-a"]
    )
    def test_what_is_no_host_is_refused(self, host: str) -> None:
        with pytest.raises(ValueError, match="host"):
            server_names([host])

    def test_a_server_that_nobody_can_dial_is_refused(self) -> None:
        with pytest.raises(ValueError, match="dialled"):
            server_names(["0.0.0.0"])


class TestServerCa:
    def test_it_is_a_ca_with_none_beneath_it(self) -> None:
        constraints = server_ca().extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
        assert constraints.critical

    def test_it_is_for_servers_only(self) -> None:
        purposes = server_ca().extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]

    def test_its_name_constraints_are_critical(self) -> None:
        assert server_ca().extensions.get_extension_for_class(x509.NameConstraints).critical

    @pytest.mark.parametrize(
        ("hosts", "permitted"),
        [
            (["fleet.example"], True),
            (["hub.fleet.example"], True),
            (["127.0.0.1", "FLEET.example"], True),
            (["127.0.0.2"], False),
            (["notfleet.example"], False),
            (["fleet.example", "other.example"], False),
        ],
    )
    def test_it_permits_its_hosts_and_what_is_beneath_them(self, hosts, permitted: bool) -> None:
        assert server_ca_permits(server_ca(), hosts) is permitted

    @pytest.mark.parametrize(
        ("host", "permitted"),
        [("127.3.2.1", True), ("fleet.example", True), ("128.0.0.1", False), ("::1", False)],
    )
    def test_it_permits_every_address_of_its_networks(self, host: str, permitted: bool) -> None:
        loopback = [IPv4Network("127.0.0.0/8")]
        profile = ServerCaProfile(name("Server CA"), YEAR, HOSTS, loopback)
        ca = profile.self_sign(key("server-ca"), NOW)
        assert server_ca_permits(ca, [host]) is permitted

    def test_a_ca_without_constraints_is_not_one_of_ours(self) -> None:
        assert not server_ca_permits(root(), ["fleet.example"])


class TestServer:
    def test_it_names_every_host(self) -> None:
        names = server().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["fleet.example"]
        assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]

    def test_it_is_for_servers_only(self) -> None:
        purposes = server().extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]

    def test_an_ec_key_signs_only(self) -> None:
        usage = server().extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert not usage.key_encipherment

    def test_an_rsa_key_may_encipher_keys_too(self) -> None:
        profile = ServerProfile(server_ca(), DAY, HOSTS)
        rsa = generate_key(KeyType.RSA_2048)
        issued = profile.issue(key("server-ca"), rsa.public_key(), NOW)
        assert issued.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment

    def test_it_is_back_dated(self) -> None:
        assert server().not_valid_before_utc == NOW - BACKDATE

    def test_it_does_not_outlive_its_ca(self) -> None:
        profile = ServerProfile(server_ca(), 5 * YEAR, HOSTS)
        issued = profile.issue(key("server-ca"), key("server").public_key(), NOW)
        assert issued.not_valid_after_utc == server_ca().not_valid_after_utc

    def test_a_host_that_the_ca_does_not_permit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="permit"):
            ServerProfile(server_ca(), DAY, ["other.example"])


class TestByOpenSSL:
    @pytest.mark.parametrize(
        "hosts", [HOSTS, ["fleet.example"], ["127.0.0.1"], ["::1", "localhost"]]
    )
    def test_a_client_accepts_the_server(self, openssl: OpenSSL, hosts: list[str]) -> None:
        now = datetime.now(UTC)
        ca = server_ca(hosts, now)
        openssl.write("ca.pem", ca)
        openssl.write("server.pem", server(hosts, ca, now))
        for host in hosts:
            flag = "-verify_ip" if host[0] in "1:" else "-verify_hostname"
            openssl.run(
                f"verify -x509_strict -purpose sslserver -CAfile ca.pem {flag} {host} server.pem"
            )

    @pytest.mark.parametrize(
        ("hosts", "stolen"),
        [
            (["fleet.example"], x509.DNSName("bank.example")),
            (["fleet.example"], x509.IPAddress(ip_address("10.0.0.1"))),
            (["fleet.example"], x509.IPAddress(ip_address("fe80::1"))),
            (["127.0.0.1"], x509.DNSName("bank.example")),
            (["127.0.0.1"], x509.IPAddress(ip_address("127.0.0.2"))),
            (["127.0.0.1"], x509.IPAddress(ip_address("fe80::1"))),
        ],
    )
    def test_a_client_refuses_what_a_thief_of_the_ca_would_make(
        self, openssl: OpenSSL, hosts: list[str], stolen: x509.GeneralName
    ) -> None:
        ca = server_ca(hosts, datetime.now(UTC))
        openssl.write("ca.pem", ca)
        openssl.write("server.pem", by_stealth(ca, stolen))
        with pytest.raises(AssertionError, match="subtree violation"):
            openssl.run("verify -purpose sslserver -CAfile ca.pem server.pem")


def test_another_verifier_accepts_the_server_by_its_name_only() -> None:
    builder = PolicyBuilder().time(NOW + timedelta(hours=1)).store(Store([server_ca()]))
    builder.build_server_verifier(x509.DNSName("fleet.example")).verify(server(), [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(server(), [])
