"""How a command finds a running server, and how it asks."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import click
import httpx

P = ParamSpec("P")
R = TypeVar("R")
_TIMEOUT = 40.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server, the operator's token, and what to trust."""

    url: str
    token: str
    ca: str | None
    bootstrap_file: Path | None = None  # where the token is from

    def __repr__(self) -> str:
        return f"Target({self.url})"

    def reread(self) -> str | None:
        """The token that is now where this one is from; None where that is no file."""
        if self.bootstrap_file is None:
            return None
        try:
            token = json.loads(self.bootstrap_file.read_text())["adminToken"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return token if isinstance(token, str) else None


class CannotReach(click.ClickException):
    """The server did not answer."""


class Client:
    """Asks a server; every failure is one line and exit code 1."""

    def __init__(self, target: Target) -> None:
        try:
            context = ssl.create_default_context(cafile=target.ca)
        except (OSError, ssl.SSLError) as error:
            raise click.ClickException(f"cannot use the CA file {target.ca}: {error}") from error
        self._target = target
        self._token = target.token
        self._client = httpx.Client(
            base_url=target.url,
            headers={"authorization": f"Bearer {target.token}"},
            verify=context,
            timeout=_TIMEOUT,
        )

    def get(self, path: str, **query: Any) -> Any:
        """The JSON that `GET path` answers."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", path, params=wanted or None)

    def post(self, path: str, body: Any = None, *, seconds: float = _TIMEOUT) -> Any:
        """The JSON that `POST path` answers, within so many seconds."""
        return self._ask("POST", path, json=body, timeout=seconds)

    def pages(self, path: str, body: Any, size: int) -> Iterator[list[Any]]:
        """The pages that `POST path` answers, one after the other, each of up to `size` items."""
        headers = {"x-ms-max-item-count": str(size)}
        while True:
            response = self._send("POST", path, json=body, headers=headers)
            yield response.json()
            token = response.headers.get("x-ms-continuation")
            if token is None:
                return
            headers["x-ms-continuation"] = token

    def post_bytes(self, path: str, body: bytes) -> Any:
        """The JSON that `POST path` answers, `body` being JSON already."""
        headers = {"content-type": "application/json"}
        return self._ask("POST", path, content=body, headers=headers)

    def put(self, path: str, body: Any, *, if_match: str | None = None) -> Any:
        """The JSON that `PUT path` answers."""
        headers = {"if-match": if_match} if if_match else {}
        return self._ask("PUT", path, json=body, headers=headers)

    def patch(self, path: str, body: Any, *, if_match: str | None = None) -> Any:
        """The JSON that `PATCH path` answers."""
        headers = {"if-match": if_match} if if_match else {}
        return self._ask("PATCH", path, json=body, headers=headers)

    def delete(self, path: str) -> Any:
        """`DELETE path`, and the JSON that it answers, if any."""
        return self._ask("DELETE", path)

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[bytes]:
        """The body that is answered, as it comes."""
        try:
            with self._client.stream(method, path, json=body) as response:
                if not response.is_success:
                    response.read()
                    raise click.ClickException(_refusal(response))
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise CannotReach(_why(str(self._client.base_url), error)) from error

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        response = self._send(method, path, **more)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **more)
            if response.status_code == 401 and self._take_new_token():
                response = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise CannotReach(_why(str(self._client.base_url), error)) from error
        if response.is_success:
            return response
        raise click.ClickException(_refusal(response))

    def _take_new_token(self) -> bool:
        """Whether the token of the data folder is another one by now: it was rotated."""
        token = self._target.reread()
        if token is None or token == self._token:
            return False
        self._token = token
        self._client.headers["authorization"] = f"Bearer {token}"
        return True


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}"


def _why(url: str, error: httpx.HTTPError) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"the server {url} is not trusted; --ca names the file of the CA to trust"
    return f"cannot reach {url}: {error or type(error).__name__}"


def find_target(data: Path, server: str | None, token: str | None, ca: str | None) -> Target:
    """The server that the options name, or the one of the data folder."""
    if server is not None:
        if token is None:
            raise click.UsageError("--server needs --token (or FLEETROOT_TOKEN)")
        if not server.startswith("https://"):
            raise click.UsageError("--server must start with https://: the token must not be seen")
        return Target(server.rstrip("/"), token, ca)
    path = data / "bootstrap.json"
    try:
        there = json.loads(path.read_text())
        host, port = there["hostname"], there["httpsPort"]
        found_token, found_ca = there["adminToken"], there["serverCaFile"]
    except OSError as error:
        raise click.ClickException(
            f"there is no server in {data}: {path} cannot be read ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} is not a bootstrap file") from error
    # The name may not resolve here; the address does, and the certificate is good for both.
    bind = there.get("bind", host)
    dialled = host if bind in ("0.0.0.0", "::") else bind  # noqa: S104
    if ":" in dialled:
        dialled = f"[{dialled}]"
    url, ca = f"https://{dialled}:{port}", ca or found_ca
    if token is not None:
        return Target(url, token, ca)
    if found_token is None:
        raise click.ClickException("the token of the first start was revoked: give --token")
    return Target(url, found_token, ca, path)


def asks_server(
    function: Callable[Concatenate[Client, P], R],
) -> Callable[P, R]:
    """Gives a command the options that find a server, and the client as its first argument."""

    @may_ask_server
    @wraps(function)
    def command(client: Callable[[], Client], /, *args: P.args, **options: P.kwargs) -> R:
        return function(client(), *args, **options)

    return command


def may_ask_server(
    function: Callable[Concatenate[Callable[[], Client], P], R],
) -> Callable[P, R]:
    """Like `asks_server`, for a command that does not always need one: it gets what finds it."""

    @click.option(
        "--data",
        type=click.Path(path_type=Path),
        default=Path("data"),
        envvar="FLEETROOT_DATA",
        show_default=True,
        help="Data folder of the server.",
    )
    @click.option("--server", envvar="FLEETROOT_SERVER", help="URL of the server instead.")
    @click.option("--token", envvar="FLEETROOT_TOKEN", help="Operator's token.")
    @click.option("--ca", envvar="FLEETROOT_CA", help="File of the CA to trust (PEM).")
    @wraps(function)
    def command(*args: Any, **options: Any) -> R:
        where = tuple(options.pop(name) for name in ("data", "server", "token", "ca"))
        return function(lambda: Client(find_target(*where)), *args, **options)

    return command


def quoted(part: str) -> str:
    """A path segment.

    Raises:
        click.UsageError: it is empty, as from a variable that is not set.
    """
    if not part:
        raise click.UsageError("a name must not be empty")
    return quote(part, safe="")
