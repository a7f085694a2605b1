"""Where a webhook may be."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.webhook_addresses import WebhookRules, is_public, parse_url

PUBLIC = WebhookRules()
LAB = WebhookRules(plain_http=True, networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/64")))


@pytest.mark.parametrize(
    "text",
    [
        "93.184.216.34",
        "8.8.8.8",
        "223.255.255.255",
        "2606:2800:220:1::1",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_address_that_anybody_reaches_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",  # IPv4-compatible
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",  # IPv4-translated
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",  # for local use
        "100::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:c0a8:101::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_address_that_only_some_reach_is_not(text: str) -> None:
    assert not is_public(ip_address(text))
    assert not PUBLIC.allow(ip_address(text))


@pytest.mark.parametrize("text", ["10.1.2.3", "fd00::9", "::ffff:10.1.2.3", "8.8.8.8"])
def test_network_that_the_operator_allows_may_be_called(text: str) -> None:
    assert LAB.allow(ip_address(text))


@pytest.mark.parametrize("text", ["10.2.0.1", "fd00:0:0:1::9", "127.0.0.1", "::ffff:10.2.0.1"])
def test_other_networks_stay_closed(text: str) -> None:
    assert not LAB.allow(ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/allocate",
        "https://hooks.example:8443",
        "https://HOOKS.example/a?b=c&d=%20",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1::1]:444/x",
    ],
)
def test_url_of_a_webhook_is_taken(url: str) -> None:
    parse_url(url, PUBLIC)


def test_url_is_taken_apart() -> None:
    parsed = parse_url("https://HOOKS.example:8443/a/b?c=d", PUBLIC)
    assert (parsed.scheme, parsed.host, parsed.port) == ("https", "hooks.example", 8443)
    assert (parsed.authority, parsed.target) == ("hooks.example:8443", "/a/b?c=d")
    assert parse_url("https://[2606:2800::1]", PUBLIC).authority == "[2606:2800::1]"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/", "must be an https URL"),
        ("ftp://hooks.example/", "must be an https URL"),
        ("hooks.example", "must be an https URL"),
        ("", "must be an https URL"),
        ("https://", "no host name"),
        ("https:///path", "no host name"),
        ("https://ho oks.example/", "no host name"),
        ("https://hooks..example/", "no host name"),
        ("https://höoks.example/", "no host name"),
        ("https://user:secret@hooks.example/", "no user name"),
        ("https://hooks.example/#here", "no fragment"),
        ("https://hooks.example:0/", "no port 0"),
        ("https://hooks.example:99999/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        ("https://hooks.example/a b", "percent-encoded"),
        ("https://hooks.example/ñ", "percent-encoded"),
        ("https://127.0.0.1/", "not public"),
        ("https://169.254.169.254/metadata", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[::ffff:10.0.0.1]/", "not public"),
        ("https://hooks.example/" + "a" * 2048, "over 2048"),
    ],
)
def test_url_that_is_never_called_is_refused(url: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse_url(url, PUBLIC)


def test_no_secret_of_a_url_is_in_its_refusal() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_url("https://user:hunter2@hooks.example/?code=hunter2", PUBLIC)
    assert "hunter2" not in refused.value.message


def test_plain_http_is_taken_where_the_operator_says_so() -> None:
    assert parse_url("http://10.1.0.1:8000/x", LAB).port == 8000
