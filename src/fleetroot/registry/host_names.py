"""What hubs and provisioning services need to know of host names.

A service is reached by a name that the server's certificate has and that its clients' trust
reaches; which names those may be, and how the ports come to show one, is not theirs to know. The
composition root brings it here.
"""

from __future__ import annotations

from typing import Protocol


class HostNames(Protocol):
    """The host names that this server can be reached by."""

    def of(self, label: str) -> str:
        """The host name of a new service, from `label`: one or more labels of DNS.

        Raises:
            InvalidArgument: this server has no domain to put it under.
        """
        ...

    def check(self, host_name: str) -> None:
        """Lets a new host name pass.

        Raises:
            InvalidArgument: it is none, or clients would refuse what the server shows for it.
        """
        ...

    async def show(self) -> None:
        """Lets every port show a certificate with the host names of all services, from the next
        handshake on; nothing if it does already.

        Raises:
            Unavailable: a key or the database is away; to be asked again.
        """
        ...
