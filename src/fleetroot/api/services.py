"""What the routes need of the server, as one value that the composition root fills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import Request

from fleetroot.access import TokenText
from fleetroot.access.access import Access
from fleetroot.audit.audit import AuditLog
from fleetroot.clock import Clock
from fleetroot.custody import MasterKey, TokenState
from fleetroot.hub.administration import HubAdministration
from fleetroot.hub.hub import Hubs
from fleetroot.hub.identity_administration import IdentityAdministration
from fleetroot.hub.service_access import ServiceAccess
from fleetroot.hub.statistics import Statistics
from fleetroot.provisioning.administration import Administration
from fleetroot.provisioning.quarantine import Quarantine
from fleetroot.provisioning.regions import Regions
from fleetroot.provisioning.registration_administration import RegistrationAdministration
from fleetroot.provisioning.service_administration import ServiceAdministration
from fleetroot.provisioning.webhook_secrets import WebhookSecretStore
from fleetroot.registry.access_keys import AccessKeys
from fleetroot.registry.device_resources import DeviceResources
from fleetroot.registry.expiry import ExpiryWatch
from fleetroot.registry.lifecycle import Lifecycle
from fleetroot.registry.model import Namespace
from fleetroot.registry.namespace_administration import NamespaceAdministration
from fleetroot.registry.ocsp_responders import OcspResponders
from fleetroot.registry.offline_lists import OfflineLists
from fleetroot.registry.policy_administration import PolicyAdministration
from fleetroot.registry.publishing import RevocationPublisher
from fleetroot.registry.registry import Registry
from fleetroot.registry.revocation_jobs import RevocationJobs
from fleetroot.registry.third_party_lists import ThirdPartyLists
from fleetroot.registry.uploaded_certificates import UploadedCertificates
from fleetroot.upkeep.backup import Backups
from fleetroot.upkeep.rotation import Rotation


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms' faces, and what `status` tells of the server."""

    registry: Registry
    device_resources: DeviceResources
    publisher: RevocationPublisher
    ocsp: OcspResponders
    third_party_lists: ThirdPartyLists
    offline_lists: OfflineLists
    revocation_jobs: RevocationJobs
    namespaces: NamespaceAdministration
    policies: PolicyAdministration
    lifecycle: Lifecycle
    expiry: ExpiryWatch
    access: Access
    audit_log: AuditLog
    administration: Administration
    registrations: RegistrationAdministration
    provisioning_services: ServiceAdministration
    quarantine: Quarantine
    regions: Regions
    webhook_secrets: WebhookSecretStore
    hubs: Hubs
    hub_administration: HubAdministration
    hub_access: ServiceAccess
    hub_statistics: Statistics
    identities: IdentityAdministration
    access_keys: AccessKeys
    uploaded_certificates: UploadedCertificates
    namespace: Namespace
    clock: Clock
    version: str
    started_at: datetime
    master_key_where: str
    database: str
    pki_url: str
    token_states: Callable[[], list[TokenState]]
    rotation: Rotation
    backups: Backups
    new_master_key: Callable[[str | None, str | None], MasterKey]
    keep_first_token: Callable[[TokenText], None]


def services_of(request: Request) -> Services:
    """The services of the application that serves `request`."""
    services: Services = request.app.state.services
    return services
