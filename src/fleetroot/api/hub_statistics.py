"""Statistics over the hub's service API."""

from __future__ import annotations

from fastapi import Request

from fleetroot.access import Permission
from fleetroot.api.answers import Answer
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.services import services_of
from fleetroot.registry.shared_access import Right

router = hub_router()


class DeviceStatistics(Answer):
    """How many devices the hub has."""

    total_device_count: int
    enabled_device_count: int
    disabled_device_count: int


class ServiceStatistics(Answer):
    """How many of them are connected."""

    connected_device_count: int


@router.get("/statistics/devices")
@asks(Right.REGISTRY_READ, Permission.READ)
async def devices(request: Request, hub: AddressedHub) -> DeviceStatistics:
    """How many devices the hub has, and how many of them may connect."""
    found = await services_of(request).hub_statistics.devices(hub)
    return DeviceStatistics(
        total_device_count=found.total,
        enabled_device_count=found.enabled,
        disabled_device_count=found.disabled,
    )


@router.get("/statistics/service")
@asks(Right.SERVICE_CONNECT, Permission.READ)
async def service(request: Request, hub: AddressedHub) -> ServiceStatistics:
    """How many of the hub's devices are connected."""
    connected = await services_of(request).hub_statistics.connected(hub)
    return ServiceStatistics(connected_device_count=connected)
