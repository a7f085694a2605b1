"""What namespaces' roots are called, where whoever made one gave it a name: the newest generation
of the management API has roots and issuing CAs in one list.
"""

from __future__ import annotations

from typing import Final

from fleetroot.storage import Transaction, installation

DEFAULT_ROOT_NAME: Final = "root"


def get(tx: Transaction, namespace_id: str) -> str:
    """The name of the namespace's root."""
    said = installation.get(tx, _name(namespace_id))
    return DEFAULT_ROOT_NAME if said is None else said.decode()


def put(tx: Transaction, namespace_id: str, name: str) -> None:
    """Gives the namespace's root a name."""
    installation.put(tx, _name(namespace_id), name.encode())


def forget(tx: Transaction, namespace_id: str) -> None:
    """Lets the next root of the namespace have any name."""
    installation.remove(tx, _name(namespace_id))


def _name(namespace_id: str) -> str:
    return f"root-name/{namespace_id}"
