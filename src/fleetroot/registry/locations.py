"""Where namespaces are, in the words of whoever made them: a name that the management API shows,
and by which nothing is decided. What is in a namespace is where it is.
"""

from __future__ import annotations

from typing import Final

from fleetroot.storage import Transaction, installation

DEFAULT_LOCATION: Final = "local"


def get(tx: Transaction, namespace_id: str) -> str:
    """The namespace's location."""
    said = installation.get(tx, _name(namespace_id))
    return DEFAULT_LOCATION if said is None else said.decode()


def put(tx: Transaction, namespace_id: str, location: str) -> None:
    """Says where the namespace is."""
    installation.put(tx, _name(namespace_id), location.encode())


def _name(namespace_id: str) -> str:
    return f"location/{namespace_id}"
