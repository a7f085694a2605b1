"""One JSON document sent to a webhook, and one that it answers with.

The name is looked up once in each try, and the connection goes to an address that may be called;
TLS and `Host` have the name. A try has a time limit over all of it. What may pass by itself (no
connection, 429, 5xx) is tried again, a little later each time. No redirect is followed, nothing of
the environment (proxies, `.netrc`) counts, and a connection serves one call: another enrollment's
webhook at the same address would have another name.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

import httpx

from fleetroot.provisioning.webhook_addresses import Address, WebhookRules, WebhookUrl

MAX_ANSWER_BYTES: Final = 128 * 1024
_MAX_ADDRESSES: Final = 4  # of a name, that are tried
_AT_ONCE: Final = 128
_QUEUE_SECONDS: Final = 30.0
_IDENTITY: Final = ("", "identity")
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class WebhookFailed(Exception):
    """A webhook gave no answer that could be used.

    Attributes:
        reason: for the operator; no secret, and nothing of the URL but its host.
        is_transient: whether another call may succeed.
        status: what it answered, where it did.
    """

    def __init__(
        self, reason: str, *, is_transient: bool = False, status: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_transient = is_transient
        self.status = status


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

    def __init__(self, limits: WebhookLimits, resolve: Resolve = look_up) -> None:
        self._limits = limits
        self._resolve = resolve
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    @property
    def rules(self) -> WebhookRules:
        """Which webhooks may be called."""
        return self._limits.rules

    async def post(
        self, url: WebhookUrl, body: bytes, headers: Callable[[], Mapping[str, str]]
    ) -> bytes:
        """The body that the webhook answers a JSON body with, of at most `MAX_ANSWER_BYTES`.

        Args:
            url: of the webhook.
            body: JSON.
            headers: further ones, made for each try.

        Raises:
            WebhookFailed: there is no such answer.
        """
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                await self._at_once.acquire()
        except TimeoutError:
            raise WebhookFailed("too many webhooks are called", is_transient=True) from None
        try:
            pause = self._limits.backoff
            for tries_left in reversed(range(self._limits.tries)):
                try:
                    return await self._try(url, body, headers())
                except WebhookFailed as failed:
                    if not failed.is_transient or not tries_left:
                        raise
                # Between a half and the whole of it, so that a herd does not come back as one.
                await asyncio.sleep(pause * (1 + secrets.randbelow(1001) / 1000) / 2)
                pause *= 2
        finally:
            self._at_once.release()
        raise AssertionError("a webhook is tried once at least")

    async def _try(self, url: WebhookUrl, body: bytes, headers: Mapping[str, str]) -> bytes:
        try:
            async with asyncio.timeout(self._limits.seconds):
                failed = WebhookFailed(f"{url.host} has no address", is_transient=True)
                for address in await self._addresses(url):
                    try:
                        return await self._call(url, address, body, headers)
                    except httpx.ConnectError as error:
                        failed = WebhookFailed(f"{url.host}: {error}", is_transient=True)
                raise failed
        except TimeoutError:
            raise WebhookFailed(f"{url.host} took too long", is_transient=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            what = str(error) or type(error).__name__
            raise WebhookFailed(f"{url.host}: {what}", is_transient=True) from None

    async def _addresses(self, url: WebhookUrl) -> Sequence[Address]:
        """Where it may be called.

        Raises:
            WebhookFailed: nowhere.
        """
        try:
            found = await self._resolve(url.host, url.port)
        except (OSError, UnicodeError) as error:
            raise WebhookFailed(f"{url.host} has no address: {error}", is_transient=True) from None
        allowed = [address for address in found if self._limits.rules.allow(address)]
        if found and not allowed:
            raise WebhookFailed(f"{url.host} is at an address that is not public")
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
            _check_head(url, response)
            answer = bytearray()
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise WebhookFailed(f"{url.host} answers too much")
            return bytes(answer)


def _check_head(url: WebhookUrl, response: httpx.Response) -> None:
    """Raises:
    WebhookFailed: what follows is not to be read.
    """
    status = response.status_code
    if not 200 <= status < 300:
        what = "redirects" if 300 <= status < 400 else f"answers {status}"
        raise WebhookFailed(
            f"{url.host} {what}", is_transient=status == 429 or status >= 500, status=status
        )
    if response.headers.get("content-encoding", "").lower() not in _IDENTITY:
        raise WebhookFailed(f"{url.host} compresses its answer, which was not asked for")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise WebhookFailed(f"{url.host} answers no JSON")
