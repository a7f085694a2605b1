"""The regions of provisioning services, as operators list, put and delete them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Final

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import Conflict, InvalidArgument, NotFound
from fleetroot.ids import canonical
from fleetroot.provisioning import geography, services
from fleetroot.provisioning.geography import Network, Region, region_key
from fleetroot.provisioning.model import Service
from fleetroot.storage import Store, Transaction

MAX_REGIONS: Final = 256
MAX_NETWORKS: Final = 1024  # of a region
MAX_LATENCIES: Final = 50
MAX_MILLISECONDS: Final = 60_000
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DescribedRegion:
    """A region as operators say it.

    Attributes:
        networks: in the notation of CIDR; host bits must be zero.
        latencies: milliseconds to hubs, by their host names.
    """

    name: str
    networks: Sequence[str]
    latencies: Mapping[str, int]


class Regions:
    """The regions of every provisioning service."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def list_all(self, service: Service) -> list[DescribedRegion]:
        """Every region of a service, by name."""

        def read(tx: Transaction) -> list[DescribedRegion]:
            hosts = {hub.id: hub.host_name for hub in services.linked(tx, service.id)}
            return [_described(one, hosts) for one in geography.regions_of(tx, service.id)]

        return await self._store.read(read)

    async def put(self, service: Service, wanted: DescribedRegion, *, by: Actor) -> DescribedRegion:
        """Adds a region to a service, or replaces the one of its name.

        Raises:
            InvalidArgument: a name, a network or a latency cannot be, or nothing is said of it.
            Conflict: there are too many regions, or a network is in another one.
        """
        name = region_key(wanted.name)
        if not _NAME.fullmatch(name):
            raise InvalidArgument("region: must be 1 to 64 letters, digits and -")
        networks = _networks(wanted.networks)
        latencies = {canonical(host): value for host, value in wanted.latencies.items()}
        if not networks and not latencies:
            raise InvalidArgument("a region needs networks or latencies")
        if len(latencies) > MAX_LATENCIES:
            raise InvalidArgument(f"latencies: at most {MAX_LATENCIES}")
        if any(not 0 <= value <= MAX_MILLISECONDS for value in latencies.values()):
            raise InvalidArgument(f"latencies: must be 0 to {MAX_MILLISECONDS} milliseconds")
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedRegion:
            ids = {hub.host_name: hub.id for hub in services.linked(tx, service.id)}
            for host in latencies:
                if host not in ids:
                    raise InvalidArgument(f"latencies: the hub {host[:253]} is not linked")
            region = Region(name, networks, {ids[host]: ms for host, ms in latencies.items()})
            others = [one for one in geography.regions_of(tx, service.id) if one.name != name]
            if len(others) >= MAX_REGIONS:
                raise Conflict(f"a provisioning service has at most {MAX_REGIONS} regions")
            for other in others:
                if shared := sorted(map(str, other.networks & networks)):
                    raise Conflict(f"the network {shared[0]} is in the region {other.name}")
            geography.save(tx, service.id, region)
            _log(tx, Action.PUT_REGION, service, name, by, now)
            return _described(region, {id_: host for host, id_ in ids.items()})

        return await self._store.write(unit)

    async def delete(self, service: Service, name: str, *, by: Actor) -> None:
        """Forgets a region.

        Raises:
            NotFound: the service has none of that name.
        """
        key, now = region_key(name), self._clock.now()

        def unit(tx: Transaction) -> None:
            if not _NAME.fullmatch(key) or not geography.remove(tx, service.id, key):
                raise NotFound(f"{service.name} has no region {name[:64]}")
            _log(tx, Action.DELETE_REGION, service, key, by, now)

        await self._store.write(unit)


def _networks(texts: Sequence[str]) -> frozenset[Network]:
    if len(texts) > MAX_NETWORKS:
        raise InvalidArgument(f"networks: at most {MAX_NETWORKS}")
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text))
        except ValueError:
            raise InvalidArgument(f"networks: {text[:64]} is no network: 203.0.113.0/24") from None
    return frozenset(networks)


def _described(region: Region, hosts: Mapping[str, str]) -> DescribedRegion:
    ordered = sorted(region.networks, key=lambda net: (net.version, net.network_address))
    return DescribedRegion(
        region.name,
        [str(network) for network in ordered],
        {hosts[id_]: ms for id_, ms in sorted(region.latencies.items()) if id_ in hosts},
    )


def _log(
    tx: Transaction, action: Action, service: Service, name: str, by: Actor, now: datetime
) -> None:
    subject = f"provisioning-service/{service.name}"
    details = {"region": name}
    audit.append(tx, Entry(now, by, action, subject, service.namespace_id, details=details))
