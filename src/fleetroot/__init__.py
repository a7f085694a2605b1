"""Fleetroot gives every device of an IoT fleet its identity.

A certificate authority, device registry, provisioning service and device gateway in one
program. `docs/architecture.md` names the rooms, what each owns and what it may import.
"""

__version__ = "0.1.0"
