"""Access: who calls the APIs, and what they may do.

Two questions, asked one after the other. *Authentication* finds out who a bearer token belongs to:
a token of ours, or one that a configured OIDC issuer signed. *Authorization* asks whether one of
the caller's roles, on this namespace or on everything, carries the permission that the call needs.
Calls without a permission of their own are for nobody. An X.509 certificate authenticates devices
and never has a role.

This room owns tokens and OIDC issuers and their tables, roles and permissions. It imports `storage`
and `audit`; the registry and the other rooms do not know it: they are told who acts
(`audit.Actor`), and whoever calls them has asked here whether that is allowed.
"""

from fleetroot.access.model import EVERYWHERE, Caller, Grant, Permission, Role, Token
from fleetroot.access.oidc import OidcIssuer
from fleetroot.access.tokens import TokenText

__all__ = [
    "EVERYWHERE",
    "Caller",
    "Grant",
    "OidcIssuer",
    "Permission",
    "Role",
    "Token",
    "TokenText",
]
