"""What can go wrong on a device's side, cut by what to do about it.

`Transient` failures pass by themselves: the same thing is tried again, later. Everything else stays
as it is until somebody acts, the device by provisioning again where its credential is refused, an
operator otherwise. Messages are one line, for people, and hold no secret.
"""

from __future__ import annotations


class Stopped(Exception):
    """The agent was told to stop while it waited."""


class AgentError(Exception):
    """Something that an agent set out to do did not happen.

    Attributes:
        message: why, in one line.
        retry_after: seconds that the server asked to wait before the next attempt.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Transient(AgentError):
    """Trying again later makes sense."""


class Unreachable(Transient):
    """There is no way to the server now, or it does not answer in time."""


class ConnectionLost(Transient):
    """A connection that stood is over."""


class ServerBusy(Transient):
    """The server says that it cannot do this now: CONNACK 3, status 429 or 5xx."""


class UnusableAnswer(Transient):
    """An answer is not what the protocol says it is."""


class ServerNotTrusted(AgentError):
    """The server's certificate is not good for its name, by what this device trusts."""


class CredentialRefused(AgentError):
    """The server does not let the device in with what it showed.

    Attributes:
        in_handshake: by a TLS alert. CONNACK 4 or 5 is the service's own word; an alert may come
            from something in between, so it takes two of them to be believed.
    """

    def __init__(self, message: str, *, in_handshake: bool = False) -> None:
        super().__init__(message)
        self.in_handshake = in_handshake


class RequestRefused(AgentError):
    """A request was answered with a status of 4xx, which the same request will get again.

    Attributes:
        status: the answer's.
        code: `errorCode` of its body; None where it has none.
    """

    def __init__(self, message: str, *, status: int, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class FolderUnusable(AgentError):
    """The device's folder has no device in it, or cannot be used now."""
