"""One JSON document sent to a webhook, and one that it answers with.

The name is looked up once in each try, and the connection goes to an address that may be called;
TLS and `Host` have the name. A try has a time limit over all of it. What may pass by itself (no
connection, 429, 5xx) is tried again, a little later each time, and not before the webhook said
(`Retry-After`). No redirect is followed, nothing of the environment (proxies, `.netrc`) counts, and
a connection serves one call: another enrollment's webhook at the same address would have another
name.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, TypeAlias

import httpx

from fleetroot.clock import Clock, SystemClock
from fleetroot.provisioning.webhook_addresses import Address, WebhookRules, WebhookUrl

MAX_ANSWER_BYTES: Final = 128 * 1024
MAX_RETRY_SECONDS: Final = 20.0  # that a webhook may put one call off for, all its tries together
_MAX_ADDRESSES: Final = 4  # of a name, that are tried
_AT_ONCE: Final = 128
_QUEUE_SECONDS: Final = 30.0
_IDENTITY: Final = ("", "identity")
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]


class WebhookOutcome(StrEnum):
    """What one try of a call came to."""

    ASSIGNED = "assigned"
    REFUSED = "refused"  # another status than 2xx, or no hub for the device
    TIMED_OUT = "timeout"
    CONNECT_ERROR = "connect_error"  # no address, no connection, no TLS, or one that broke
    BAD_ANSWER = "bad_answer"
    BLOCKED_ADDRESS = "blocked_address"
    CROWDED = "crowded"  # it was not called: too many webhooks are


Watch: TypeAlias = Callable[[WebhookOutcome, float], None]
"""Is told what each try came to, and the seconds that it took."""


class WebhookFailed(Exception):
    """A webhook gave no answer that could be used.

    Attributes:
        reason: for the operator; no secret, and nothing of the URL but its host.
        outcome: the same, as it is counted.
        is_transient: whether another call may succeed.
        status: what it answered, where it did.
        retry_after: seconds that it wants not to be called for.
    """

    def __init__(
        self,
        reason: str,
        outcome: WebhookOutcome,
        *,
        is_transient: bool = False,
        status: int | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome
        self.is_transient = is_transient
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """What a webhook answered, not looked at yet.

    Attributes:
        seconds: that the try took.
    """

    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """How long and how often a webhook is called. Times are in seconds.

    Attributes:
        seconds: of one try, from the look-up of the name to the last byte.
        tries: in all.
        backoff: before the second try; twice as long before each further one.
        rules: where it may be.
        tls: what it is verified by.
    """

    seconds: float = 10.0
    tries: int = 3
    backoff: float = 0.5
    rules: WebhookRules = field(default_factory=WebhookRules)
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False)


async def look_up(host: str, port: int) -> Sequence[Address]:
    """The addresses of a name, or of an address itself, by the system's resolver.

    Raises:
        OSError: it has none, or nobody answered.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(each[4][0]) for each in found))


class WebhookClient:
    """Calls webhooks."""

    def __init__(
        self,
        limits: WebhookLimits,
        resolve: Resolve = look_up,
        *,
        clock: Clock | None = None,
        watch: Watch = lambda _outcome, _seconds: None,
    ) -> None:
        """`watch` is told of every try that failed; what an answer is worth, who reads it knows."""
        self._limits = limits
        self._resolve = resolve
        self._clock = clock or SystemClock()
        self._watch = watch
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    @property
    def rules(self) -> WebhookRules:
        """Which webhooks may be called."""
        return self._limits.rules

    async def post(
        self, url: WebhookUrl, body: bytes, headers: Callable[[], Mapping[str, str]]
    ) -> WebhookAnswer:
        """What the webhook answers a JSON body with, of at most `MAX_ANSWER_BYTES`.

        Args:
            url: of the webhook.
            body: JSON.
            headers: further ones, made for each try.

        Raises:
            WebhookFailed: there is no such answer.
        """
        time = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                await self._at_once.acquire()
        except TimeoutError:
            self._watch(WebhookOutcome.CROWDED, _QUEUE_SECONDS)
            raise WebhookFailed(
                "too many webhooks are called", WebhookOutcome.CROWDED, is_transient=True
            ) from None
        try:
            pause, patience = self._limits.backoff, MAX_RETRY_SECONDS
            for tries_left in reversed(range(self._limits.tries)):
                began = time()
                try:
                    answer = await self._try(url, body, headers())
                    return WebhookAnswer(answer, time() - began)
                except WebhookFailed as failed:
                    self._watch(failed.outcome, time() - began)
                    asked = failed.retry_after
                    if not failed.is_transient or not tries_left or asked > patience:
                        raise
                patience -= asked
                # Between a half and the whole of it, so that a herd does not come back as one.
                await asyncio.sleep(asked + pause * (1 + secrets.randbelow(1001) / 1000) / 2)
                pause *= 2
        finally:
            self._at_once.release()
        raise AssertionError("a webhook is tried once at least")

    async def _try(self, url: WebhookUrl, body: bytes, headers: Mapping[str, str]) -> bytes:
        unreachable = WebhookOutcome.CONNECT_ERROR
        try:
            async with asyncio.timeout(self._limits.seconds):
                failed = WebhookFailed(f"{url.host} has no address", unreachable, is_transient=True)
                for address in await self._addresses(url):
                    try:
                        return await self._call(url, address, body, headers)
                    except httpx.ConnectError as error:
                        failed = WebhookFailed(
                            f"{url.host}: {error}", unreachable, is_transient=True
                        )
                raise failed
        except (TimeoutError, httpx.TimeoutException):
            raise WebhookFailed(
                f"{url.host} took too long", WebhookOutcome.TIMED_OUT, is_transient=True
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its words may have some of what the webhook sent, and that may have some of the URL.
            is_broken = isinstance(error, httpx.NetworkError)
            raise WebhookFailed(
                f"{url.host} speaks no HTTP: {type(error).__name__}"
                if not is_broken
                else f"{url.host}: connection lost",
                unreachable if is_broken else WebhookOutcome.BAD_ANSWER,
                is_transient=True,
            ) from None

    async def _addresses(self, url: WebhookUrl) -> Sequence[Address]:
        """Where it may be called.

        Raises:
            WebhookFailed: nowhere.
        """
        try:
            found = await self._resolve(url.host, url.port)
        except (OSError, UnicodeError) as error:
            raise WebhookFailed(
                f"{url.host} has no address: {error}",
                WebhookOutcome.CONNECT_ERROR,
                is_transient=True,
            ) from None
        allowed = [address for address in found if self._limits.rules.allow(address)]
        if found and not allowed:
            raise WebhookFailed(
                f"{url.host} is at an address that is not public", WebhookOutcome.BLOCKED_ADDRESS
            )
        return allowed[:_MAX_ADDRESSES]

    async def _call(
        self, url: WebhookUrl, address: Address, body: bytes, headers: Mapping[str, str]
    ) -> bytes:
        at = f"[{address}]" if address.version == 6 else str(address)
        async with (
            httpx.AsyncClient(
                verify=self._limits.tls,
                timeout=self._limits.seconds,
                follow_redirects=False,
                trust_env=False,
            ) as client,
            client.stream(
                "POST",
                f"{url.scheme}://{at}:{url.port}{url.target}",
                content=body,
                headers={
                    "host": url.authority,
                    "content-type": "application/json; charset=utf-8",
                    "accept": "application/json",
                    "accept-encoding": "identity",
                    "user-agent": "fleetroot",
                    **headers,
                },
                extensions={"sni_hostname": url.host},
            ) as response,
        ):
            _check_head(url, response, self._clock.now())
            answer = bytearray()
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise WebhookFailed(f"{url.host} answers too much", WebhookOutcome.BAD_ANSWER)
            return bytes(answer)


def _check_head(url: WebhookUrl, response: httpx.Response, now: datetime) -> None:
    """Raises:
    WebhookFailed: what follows is not to be read.
    """
    status = response.status_code
    if not 200 <= status < 300:
        what = "redirects" if 300 <= status < 400 else f"answers {status}"
        raise WebhookFailed(
            f"{url.host} {what}",
            WebhookOutcome.REFUSED,
            is_transient=status == 429 or status >= 500,
            status=status,
            retry_after=retry_after_of(response.headers.get("retry-after", ""), now),
        )
    if response.headers.get("content-encoding", "").lower() not in _IDENTITY:
        raise WebhookFailed(
            f"{url.host} compresses its answer, which was not asked for", WebhookOutcome.BAD_ANSWER
        )
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise WebhookFailed(f"{url.host} answers no JSON", WebhookOutcome.BAD_ANSWER)


def retry_after_of(header: str, now: datetime) -> float:
    """The seconds that a header `Retry-After` asks for, which has them or a date (RFC 9110
    §10.2.3); 0 where it says nothing.
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if until.tzinfo is None:  # the zone is said to be unknown: -0000
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
