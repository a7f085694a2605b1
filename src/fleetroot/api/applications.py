"""The APIs of operators and services: which routes answer on which port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from fleetroot.api import (
    access_keys,
    allocations,
    approvals,
    audit_log,
    authorities,
    backups,
    certificates,
    cloud_to_device,
    crls,
    device_administration,
    devices,
    direct_methods,
    enrollment_bulk,
    enrollment_transfer,
    enrollments,
    event_stream,
    events,
    expiring_certificates,
    explain,
    hub_authorities,
    hub_jobs,
    hub_messages,
    hub_methods,
    hub_queries,
    hub_statistics,
    hub_twins,
    hubs,
    identities,
    incidents,
    master_key,
    namespaces,
    oidc_issuers,
    operator_enrollments,
    operator_identities,
    operator_jobs,
    operator_queries,
    operator_registrations,
    operator_twins,
    policies,
    provisioning_services,
    quarantine,
    registrations,
    server,
    status,
    timelines,
    tokens,
    uploaded_certificates,
)
from fleetroot.api.arm import certificate_authorities, certificate_policies
from fleetroot.api.arm import credentials as arm_credentials
from fleetroot.api.arm import devices as arm_devices
from fleetroot.api.arm import hubs as arm_hubs
from fleetroot.api.arm import namespaces as arm_namespaces
from fleetroot.api.arm import operations as arm_operations
from fleetroot.api.arm import policies as arm_policies
from fleetroot.api.arm import provisioning_services as arm_provisioning_services
from fleetroot.api.arm import uploaded_certificates as arm_uploaded_certificates
from fleetroot.api.description import (
    HUB_API,
    MANAGEMENT_API,
    OPERATOR_API,
    PROVISIONING_API,
    SERVER,
    operation_id,
)
from fleetroot.api.ports import application
from fleetroot.api.services import Services
from fleetroot.gateway.refusals import Refusals

OPERATOR: Final = (
    status.router,
    devices.router,
    devices.namespaced,
    expiring_certificates.router,  # before the certificate of any name
    expiring_certificates.namespaced,
    certificates.router,
    certificates.namespaced,
    event_stream.router,
    events.router,
    device_administration.router,
    device_administration.namespaced,
    explain.router,
    explain.namespaced,
    explain.of_services,
    tokens.router,
    oidc_issuers.router,
    approvals.router,
    audit_log.router,
    crls.router,
    master_key.router,
    backups.router,
    namespaces.lists,
    namespaces.everywhere,
    namespaces.router,
    policies.router,
    authorities.router,
    hubs.lists,
    hubs.everywhere,
    hubs.router,
    hub_authorities.router,
    hub_messages.router,
    operator_identities.router,
    operator_twins.router,
    operator_queries.router,
    hub_methods.router,
    operator_jobs.router,
    provisioning_services.lists,
    provisioning_services.everywhere,
    provisioning_services.router,
    quarantine.router,
    allocations.router,
    access_keys.of_hubs,
    access_keys.of_services,
    uploaded_certificates.of_hubs,
    uploaded_certificates.of_services,
    operator_enrollments.router,
    operator_registrations.router,
    enrollment_transfer.router,
    incidents.router,
    timelines.router,
    timelines.namespaced,
)

PROVISIONING: Final = (
    enrollments.individual,
    enrollments.groups,
    enrollment_bulk.router,
    registrations.router,
)

HUB: Final = (
    hub_statistics.router,
    hub_queries.router,
    identities.router,
    cloud_to_device.router,
    hub_twins.router,
    direct_methods.router,
    hub_jobs.router,
)

MANAGEMENT: Final = (
    arm_namespaces.lists,
    arm_namespaces.router,
    arm_namespaces.itself,
    arm_credentials.router,
    arm_policies.router,
    certificate_authorities.router,
    certificate_policies.router,
    arm_devices.router,
    arm_operations.router,
    arm_hubs.router,
    arm_provisioning_services.router,
    arm_uploaded_certificates.of_hubs,
    arm_uploaded_certificates.of_services,
)


def https_application(
    services: Services,
    refusals: Refusals,
    max_body_bytes: int,
    metrics: CollectorRegistry,
) -> FastAPI:
    """What operators and services find on the HTTPS port: health, metrics, the operator and
    management APIs, the service APIs of provisioning services and hubs, and the description of all
    of it.
    """
    app = console_application(services, refusals, max_body_bytes)
    _serve(app, PROVISIONING, PROVISIONING_API)
    _serve(app, HUB, HUB_API)
    _serve(app, (server.metrics,), SERVER)
    app.state.metrics = metrics
    return app


def console_application(services: Services, refusals: Refusals, max_body_bytes: int) -> FastAPI:
    """The console port: the operator and management APIs and their description, for clients that
    must not be asked for a certificate.
    """
    app = application(services, refusals, max_body_bytes)
    _serve(app, OPERATOR, OPERATOR_API)
    _serve(app, MANAGEMENT, MANAGEMENT_API)
    _serve(app, (server.health, server.description), SERVER)
    app.state.document = None
    return app


def _serve(app: FastAPI, routers: Iterable[APIRouter], tag: str) -> None:
    """Lets `app` serve the very routes. `include_router` makes each of them anew for each
    application: some 0.2 s of every port.
    """
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                route.tags = [tag]
                if isinstance(route.generate_unique_id_function, DefaultPlaceholder):
                    route.unique_id = operation_id(route)
        app.router.routes.extend(router.routes)
