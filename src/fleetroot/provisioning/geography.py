"""Where devices call from, and how far hubs are from there.

A region is a name for networks. A device is in the region of the longest network that holds its
address, or else where its provisioning service is. A hub is so many milliseconds from a region as
was said of the two; from the region that it is in itself, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import bindparam, delete, select

from fleetroot.provisioning.model import LinkedHub
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import region_latencies, region_networks

Network: TypeAlias = IPv4Network | IPv6Network
_Address: TypeAlias = IPv4Address | IPv6Address


def region_key(name: str) -> str:
    """The one form of a region or location, as Azure Resource Manager compares them: `West Europe`
    is `westeurope`.
    """
    return "".join(name.split()).lower()


@dataclass(frozen=True, slots=True)
class Region:
    """A region of one provisioning service.

    Attributes:
        name: its `region_key`.
        networks: whose devices are there.
        latencies: milliseconds from there to hubs, by their ids.
    """

    name: str
    networks: frozenset[Network] = frozenset()
    latencies: Mapping[str, int] = field(default_factory=dict)


class _Prefixes(NamedTuple):
    """The networks of one length of one version of IP, by their first bits."""

    version: int
    shift: int
    regions: Mapping[int, str]


class Geography:
    """The regions of one provisioning service, ready to be asked."""

    def __init__(self, location: str = "", regions: Iterable[Region] = ()) -> None:
        """`location`: where the service itself is."""
        self._location = region_key(location)
        self._latencies: dict[tuple[str, str], int] = {}
        by_length: dict[tuple[int, int], dict[int, str]] = {}
        for region in regions:
            for hub_id, milliseconds in region.latencies.items():
                self._latencies[region.name, hub_id] = milliseconds
            for network in region.networks:
                shift = network.max_prefixlen - network.prefixlen
                of_length = by_length.setdefault((network.version, shift), {})
                of_length[int(network.network_address) >> shift] = region.name
        # The least shift is the longest prefix.
        self._longest_first = [
            _Prefixes(version, shift, by_length[version, shift])
            for version, shift in sorted(by_length)
        ]

    def region_of(self, peer: str | None) -> str:
        """The region of a device that calls from `peer`, host and port; empty if even the service
        is nowhere.
        """
        address = _address_of(peer)
        if address is not None:
            bits = int(address)
            for version, shift, regions in self._longest_first:
                if version == address.version and (found := regions.get(bits >> shift)):
                    return found
        return self._location

    def latency(self, region: str, hub: LinkedHub) -> int | None:
        """Milliseconds from a region to a hub; None if nothing is known."""
        said = self._latencies.get((region, hub.id))
        if said is not None:
            return said
        return 0 if region and region == region_key(hub.location) else None


def _address_of(peer: str | None) -> _Address | None:
    if peer is None:
        return None
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


# --- tables

_INSERT_NETWORK: Final = Command(insert_into(region_networks))
_INSERT_LATENCY: Final = Command(insert_into(region_latencies))
_networks_of: Final = region_networks.c.service_id == bindparam("service")
_latencies_of: Final = region_latencies.c.service_id == bindparam("service")
_NETWORKS: Final = Query(
    select(region_networks.c.region, region_networks.c.network).where(_networks_of),
    lambda region, network: (region, ip_network(network)),
)
_LATENCIES: Final = Query(
    select(
        region_latencies.c.region, region_latencies.c.hub_id, region_latencies.c.milliseconds
    ).where(_latencies_of),
    lambda *columns: columns,
)
_REMOVE_NETWORKS: Final = Command(
    delete(region_networks).where(_networks_of & (region_networks.c.region == bindparam("name")))
)
_REMOVE_LATENCIES: Final = Command(
    delete(region_latencies).where(_latencies_of & (region_latencies.c.region == bindparam("name")))
)
_REMOVE_ALL_NETWORKS: Final = Command(delete(region_networks).where(_networks_of))
_REMOVE_ALL_LATENCIES: Final = Command(delete(region_latencies).where(_latencies_of))


def regions_of(tx: Transaction, service_id: str) -> list[Region]:
    """The regions of a service, by name."""
    networks: dict[str, set[Network]] = {}
    for name, network in tx.all(_NETWORKS, service=service_id):
        networks.setdefault(name, set()).add(network)
    latencies: dict[str, dict[str, int]] = {}
    for name, hub_id, milliseconds in tx.all(_LATENCIES, service=service_id):
        latencies.setdefault(name, {})[hub_id] = milliseconds
    return [
        Region(name, frozenset(networks.get(name, ())), latencies.get(name, {}))
        for name in sorted(networks.keys() | latencies.keys())
    ]


def save(tx: Transaction, service_id: str, region: Region) -> None:
    """Adds a region, or replaces the one of its name."""
    remove(tx, service_id, region.name)
    tx.run_many(
        _INSERT_NETWORK,
        [
            {"service_id": service_id, "network": str(network), "region": region.name}
            for network in region.networks
        ],
    )
    tx.run_many(
        _INSERT_LATENCY,
        [
            {
                "service_id": service_id,
                "region": region.name,
                "hub_id": hub_id,
                "milliseconds": milliseconds,
            }
            for hub_id, milliseconds in region.latencies.items()
        ],
    )


def remove(tx: Transaction, service_id: str, name: str) -> bool:
    """Removes a region; whether it was there."""
    removed = tx.run(_REMOVE_NETWORKS, service=service_id, name=name)
    removed += tx.run(_REMOVE_LATENCIES, service=service_id, name=name)
    return removed > 0


def remove_of_service(tx: Transaction, service_id: str) -> None:
    """Forgets the regions of a service that goes."""
    tx.run(_REMOVE_ALL_NETWORKS, service=service_id)
    tx.run(_REMOVE_ALL_LATENCIES, service=service_id)
