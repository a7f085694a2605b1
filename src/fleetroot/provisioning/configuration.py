"""What every registration of a service asks for, kept in memory: the service, its hubs and regions,
its enrollment groups with the CA certificates that they refer to, and the policies of its
namespace.

It is kept with the version it had (`storage.configuration`). A snapshot of another version reads
it anew, and the unit of work that acts on it checks the version again, so it is never older than
the database that a device is answered from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fleetroot.provisioning import enrollments, geography, services
from fleetroot.provisioning.geography import Geography
from fleetroot.provisioning.model import Enrollment, LinkedHub, Service
from fleetroot.registry import policies, uploaded_certificates
from fleetroot.registry.model import Policy
from fleetroot.storage import Transaction
from fleetroot.storage.configuration import version


@dataclass(frozen=True, slots=True)
class Configuration:
    """A provisioning service as it was at `version`."""

    version: bytes
    service: Service
    hubs: Mapping[str, LinkedHub]  # by id, in a stable order
    groups: tuple[Enrollment, ...]
    policies: Mapping[str, Policy]  # by id
    geography: Geography
    # Verified CA certificates (DER) that groups refer to, by name in canonical form.
    authorities: Mapping[str, bytes]


class Configurations:
    """The configuration of every service that devices named."""

    def __init__(self) -> None:
        self._by_id_scope: dict[str, Configuration] = {}

    def kept(self, id_scope: str) -> Configuration | None:
        """What is kept of the service; the caller compares its version."""
        return self._by_id_scope.get(id_scope)

    def read(self, tx: Transaction, id_scope: str) -> Configuration | None:
        """The service that devices name by `id_scope`, as this snapshot has it."""
        found = services.with_hubs(tx, id_scope)
        if found is None:
            self._by_id_scope.pop(id_scope, None)
            return None
        service, hubs = found
        groups = tuple(enrollments.all_groups(tx, service.id))
        configuration = Configuration(
            version(tx),
            service,
            MappingProxyType({hub.id: hub for hub in hubs}),
            groups,
            MappingProxyType({p.id: p for p in policies.every_of(tx, service.namespace_id)}),
            Geography(services.location(tx, service.id), geography.regions_of(tx, service.id)),
            MappingProxyType(_authorities(tx, service, groups)),
        )
        self._by_id_scope[id_scope] = configuration
        return configuration


def _authorities(
    tx: Transaction, service: Service, groups: tuple[Enrollment, ...]
) -> dict[str, bytes]:
    if not any(
        each.settings.certificates and each.settings.certificates.by_name for each in groups
    ):
        return {}
    return uploaded_certificates.verified(tx, service.id)
