"""Calling a webhook, against a real one that does not mean well."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from fleetroot.provisioning.webhook_addresses import Address, WebhookRules, parse_url
from fleetroot.provisioning.webhook_client import (
    MAX_ANSWER_BYTES,
    MAX_RETRY_SECONDS,
    WebhookClient,
    WebhookFailed,
    WebhookLimits,
    WebhookOutcome,
    retry_after_of,
)
from webhook_server import Asked, WebhookServer, answer

HOST = "hooks.example"
LOOPBACK = WebhookRules(networks=(ip_network("127.0.0.1/32"),))


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    async with WebhookServer.running(tmp_path, HOST) as running:
        yield running


class Names:
    """A resolver whose answers a test gives; the last stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not found:
            raise OSError("no such name")
        return [ip_address(text) for text in found]


async def post(
    webhook: WebhookServer,
    *,
    names: Names | None = None,
    rules: WebhookRules = LOOPBACK,
    host: str = HOST,
    body: bytes = b"{}",
    **limits: Any,
) -> bytes:
    tls = ssl.create_default_context(cafile=webhook.ca)
    how = WebhookLimits(**({"tries": 1, "backoff": 0.0, "rules": rules, "tls": tls} | limits))
    client = WebhookClient(how, names or Names(["127.0.0.1"]))
    url = parse_url(webhook.url(host), rules)
    return (await client.post(url, body, lambda: {"x-own": "1"})).body


async def failure(webhook: WebhookServer, **how: Any) -> WebhookFailed:
    with pytest.raises(WebhookFailed) as failed:
        await post(webhook, **how)
    return failed.value


async def test_answer_of_a_webhook_is_given(webhook: WebhookServer) -> None:
    webhook.answers = [answer({"a": 1})]
    assert await post(webhook, body=b'{"q":1}') == b'{"a":1}'
    [asked] = webhook.asked
    assert asked.line == "POST /allocate HTTP/1.1"
    assert (asked.body, asked.server_name) == (b'{"q":1}', HOST)
    assert asked.headers["host"] == f"{HOST}:{webhook.port}"
    assert asked.headers["content-type"] == "application/json; charset=utf-8"
    assert asked.headers["x-own"] == "1"


# --- where it is


@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["10.0.0.1", "::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]]
)
async def test_name_of_a_private_address_is_not_called(
    webhook: WebhookServer, found: list[str]
) -> None:
    names = Names(found)
    failed = await failure(webhook, names=names, rules=WebhookRules(), tries=3)
    assert "not public" in failed.reason
    assert not failed.is_transient
    assert (names.asked, webhook.asked) == ([HOST], [])


async def test_connection_goes_to_the_address_that_was_checked(webhook: WebhookServer) -> None:
    """A name that leads elsewhere when it is asked a second time (DNS rebinding)."""
    webhook.answers = [answer({})]
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    await post(webhook, names=names)
    assert names.asked == [HOST]


async def test_name_is_checked_again_in_each_try(webhook: WebhookServer) -> None:
    webhook.answers = [answer({}, 503)]
    failed = await failure(webhook, names=Names(["127.0.0.1"], ["10.0.0.1"]), tries=3)
    assert "not public" in failed.reason
    assert len(webhook.asked) == 1


async def test_private_address_beside_one_that_may_be_called_is_left_out(
    webhook: WebhookServer,
) -> None:
    webhook.answers = [answer({})]
    assert await post(webhook, names=Names(["10.0.0.1", "127.0.0.1"])) == b"{}"


async def test_next_address_of_a_name_is_tried_where_the_first_does_not_answer(
    webhook: WebhookServer,
) -> None:
    webhook.answers = [answer({})]
    rules = WebhookRules(networks=(ip_network("127.0.0.0/8"),))
    assert await post(webhook, names=Names(["127.9.9.9", "127.0.0.1"]), rules=rules) == b"{}"


async def test_name_without_an_address_may_have_one_later(webhook: WebhookServer) -> None:
    webhook.answers = [answer({})]
    assert await post(webhook, names=Names([], ["127.0.0.1"]), tries=2) == b"{}"
    assert (await failure(webhook, names=Names([]))).is_transient


# --- who it is


async def test_webhook_with_a_certificate_for_another_name_is_not_spoken_to(
    webhook: WebhookServer,
) -> None:
    failed = await failure(webhook, host="other.example")
    assert "certificate" in failed.reason.lower()
    assert webhook.asked == []


async def test_webhook_of_an_unknown_ca_is_not_spoken_to(webhook: WebhookServer) -> None:
    await failure(webhook, tls=ssl.create_default_context())
    assert webhook.asked == []


async def test_webhook_without_tls_is_called_where_the_operator_allows_it(tmp_path: Path) -> None:
    rules = WebhookRules(plain_http=True, networks=LOOPBACK.networks)
    async with WebhookServer.running(tmp_path, tls=False) as plain:
        plain.answers = [answer({})]
        client = WebhookClient(WebhookLimits(rules=rules), Names(["127.0.0.1"]))
        url = parse_url(f"http://{HOST}:{plain.port}/", rules)
        assert (await client.post(url, b"{}", dict)).body == b"{}"


# --- when it fails


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_failure_that_may_pass_is_tried_again(webhook: WebhookServer, status: int) -> None:
    webhook.answers = [answer({}, status), answer({}, status), answer({"a": 1})]
    assert await post(webhook, tries=3) == b'{"a":1}'


async def test_tries_come_to_an_end(webhook: WebhookServer) -> None:
    webhook.answers = [answer({}, 503)]
    failed = await failure(webhook, tries=3)
    assert (failed.status, failed.is_transient, len(webhook.asked)) == (503, True, 3)


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_refusal_is_final(webhook: WebhookServer, status: int) -> None:
    webhook.answers = [answer({}, status)]
    failed = await failure(webhook, tries=3)
    assert (failed.status, failed.is_transient, len(webhook.asked)) == (status, False, 1)


async def test_webhook_that_is_down_is_tried_again(webhook: WebhookServer) -> None:
    failed = await failure(
        webhook,
        names=Names(["127.9.9.9"]),
        rules=WebhookRules(networks=(ip_network("127.0.0.0/8"),)),
    )
    assert failed.is_transient
    assert failed.status is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(webhook: WebhookServer, status: int) -> None:
    webhook.answers = [answer({}, status, location=webhook.url(path="/inward"))]
    failed = await failure(webhook, tries=3)
    assert "redirects" in failed.reason
    assert (failed.is_transient, len(webhook.asked)) == (False, 1)


async def test_slow_webhook_is_given_up(webhook: WebhookServer) -> None:
    async def never(_: Asked) -> bytes:
        await asyncio.Event().wait()
        return b""

    webhook.answers = [never]
    failed = await failure(webhook, seconds=0.5)
    assert "took too long" in failed.reason
    assert (failed.is_transient, failed.outcome) == (True, WebhookOutcome.TIMED_OUT)


async def test_webhook_is_not_called_before_it_said(webhook: WebhookServer) -> None:
    began = time.monotonic()
    webhook.answers = [answer({}, 503, retry_after="1"), answer({"a": 1})]
    assert await post(webhook, tries=2) == b'{"a":1}'
    assert time.monotonic() - began >= 1.0


async def test_webhook_that_wants_more_time_than_a_call_has_is_not_called_again(
    webhook: WebhookServer,
) -> None:
    webhook.answers = [answer({}, 429, retry_after=str(int(MAX_RETRY_SECONDS) + 1))]
    failed = await failure(webhook, tries=3)
    assert (failed.status, len(webhook.asked)) == (429, 1)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("", 0.0),
        ("-1", 0.0),
        ("1.5", 0.0),
        ("soon", 0.0),
        ("٣", 0.0),
        ("9" * 5000, 999_999_999.0),
        ("Thu, 01 Jan 99999 00:00:30 GMT", 0.0),
        ("Thu, 01 Jan 2026 00:00:30 +999999999999", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_of(header, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


async def test_webhook_that_leaves_in_the_middle_may_come_back(webhook: WebhookServer) -> None:
    webhook.answers = [answer({"a": 1})[:-3], b"", answer({"a": 1})]
    assert await post(webhook, tries=3) == b'{"a":1}'


# --- what is counted


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (answer({}, 404), WebhookOutcome.REFUSED),
        (answer({}, 307, location="/"), WebhookOutcome.REFUSED),
        (answer(b"<html>", content_type="text/html"), WebhookOutcome.BAD_ANSWER),
        (b"220 mail.example ESMTP\r\n\r\n", WebhookOutcome.BAD_ANSWER),
        (answer(b"x" * (MAX_ANSWER_BYTES + 1)), WebhookOutcome.BAD_ANSWER),
    ],
)
async def test_answer_that_cannot_be_used_has_an_outcome(
    webhook: WebhookServer, answered: bytes, outcome: WebhookOutcome
) -> None:
    webhook.answers = [answered]
    assert (await failure(webhook)).outcome is outcome


async def test_webhook_that_cannot_be_called_has_an_outcome(webhook: WebhookServer) -> None:
    anywhere = WebhookRules(networks=(ip_network("127.0.0.0/8"),))
    for how, outcome in (
        ({"names": Names(["127.9.9.9"]), "rules": anywhere}, WebhookOutcome.CONNECT_ERROR),
        ({"names": Names([])}, WebhookOutcome.CONNECT_ERROR),
        ({"tls": ssl.create_default_context()}, WebhookOutcome.CONNECT_ERROR),
        ({"names": Names(["10.0.0.1"])}, WebhookOutcome.BLOCKED_ADDRESS),
    ):
        assert (await failure(webhook, **how)).outcome is outcome


async def test_each_try_that_failed_is_told_with_its_time(webhook: WebhookServer) -> None:
    webhook.answers = [answer({}, 503), answer({})]
    told: list[tuple[str, float]] = []
    limits = WebhookLimits(
        backoff=0.0, rules=LOOPBACK, tls=ssl.create_default_context(cafile=webhook.ca)
    )
    client = WebhookClient(
        limits, Names(["127.0.0.1"]), watch=lambda outcome, took: told.append((outcome, took))
    )
    found = await client.post(parse_url(webhook.url(HOST), LOOPBACK), b"{}", dict)
    [(outcome, seconds)] = told
    assert outcome == "refused"
    assert min(seconds, found.seconds) > 0.0


# --- when it lies


@pytest.mark.parametrize(
    "lie",
    [
        answer(b"x" * (MAX_ANSWER_BYTES + 1)),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b"x" * MAX_ANSWER_BYTES * 2,
    ],
    ids=["said so", "without a length"],
)
async def test_huge_answer_is_not_read_to_its_end(webhook: WebhookServer, lie: bytes) -> None:
    webhook.answers = [lie]
    assert "too much" in (await failure(webhook, tries=3)).reason
    assert len(webhook.asked) == 1


async def test_compressed_answer_is_not_opened(webhook: WebhookServer) -> None:
    webhook.answers = [answer(gzip.compress(b" " * 10_000_000), content_encoding="gzip")]
    assert "compresses" in (await failure(webhook)).reason


async def test_answer_that_says_it_is_no_json_is_not_read(webhook: WebhookServer) -> None:
    webhook.answers = [answer(b"<html>", content_type="text/html")]
    assert "no JSON" in (await failure(webhook)).reason


async def test_what_is_no_http_is_a_failure(webhook: WebhookServer) -> None:
    webhook.answers = [b"220 mail.example ESMTP\r\n\r\n"]
    assert (await failure(webhook)).status is None


async def test_headers_without_an_end_are_a_failure(webhook: WebhookServer) -> None:
    webhook.answers = [b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000]
    await failure(webhook)


async def test_failure_holds_nothing_of_the_urls_query(webhook: WebhookServer) -> None:
    """Functions have a key there; and a webhook may send it back."""
    rules = WebhookRules(networks=(ip_network("127.0.0.0/8"),))
    url = parse_url(webhook.url(HOST, "/allocate?code=hunter2"), rules)
    tls = ssl.create_default_context(cafile=webhook.ca)
    client = WebhookClient(WebhookLimits(tries=1, rules=rules, tls=tls), Names(["127.0.0.1"]))
    for lie in (
        b"GET /allocate?code=hunter2 HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nhunter2\r\n\r\n",
        answer({}, 404, location="/allocate?code=hunter2"),
    ):
        webhook.answers = [lie]
        with pytest.raises(WebhookFailed) as failed:
            await client.post(url, b"{}", dict)
        assert "hunter2" not in f"{failed.value} {failed.value.reason}"
