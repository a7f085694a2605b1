"""The first start, and `bootstrap.json`, which tells everybody else how to reach the server.

On the first start there is a namespace `default` with its root CA, an issuing CA and policy
`default`, a hub `default` that trusts it, and a provisioning service with an enrollment group
`default`. Each step looks first whether it is done, so a start that was cut short is completed by
the next one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import structlog

from fleetroot import sas
from fleetroot.access import TokenText
from fleetroot.access.access import Access
from fleetroot.audit import SYSTEM
from fleetroot.errors import EnrollmentNotFound, NotFound
from fleetroot.hub.hub import Hubs
from fleetroot.hub.model import Hub
from fleetroot.provisioning.administration import Administration, EnrollmentWithKeys
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings, Service
from fleetroot.registry.model import Namespace, Policy
from fleetroot.registry.namespace_administration import NamespaceAdministration
from fleetroot.registry.policy_administration import PolicyAdministration
from fleetroot.registry.shared_access import SharedAccessPolicy
from fleetroot.settings import Settings
from fleetroot.storage import Store, installation

NAME: Final = "default"
FILE: Final = "bootstrap.json"
SERVER_CA_FILE: Final = "server-ca.pem"
_PKI_URL: Final = "pki-url"
_BOOTSTRAPPED: Final = "bootstrapped"
_log = structlog.get_logger("fleetroot.bootstrap")


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What every server has from its first start on."""

    namespace: Namespace
    policy: Policy
    hub: Hub
    service: Service
    group: EnrollmentWithKeys | None  # None: it was made once, and deleted since


async def bootstrap(
    settings: Settings,
    namespaces: NamespaceAdministration,
    policies: PolicyAdministration,
    hubs: Hubs,
    administration: Administration,
    pki_url: str,
    store: Store,
) -> Bootstrapped:
    """Makes what is missing on a first start, and returns all of it."""
    try:
        namespace = await namespaces.get(NAME)
    except NotFound:
        namespace = await namespaces.create(
            NAME,
            subscription_id=settings.subscription_id,
            resource_group=settings.resource_group,
            pki_url=pki_url,
            by=SYSTEM,
        )
    try:
        policy = (await policies.get(namespace, NAME)).policy
    except NotFound:
        policy = await policies.create(namespace, NAME, by=SYSTEM)
    try:
        hub = await hubs.by_name(NAME)
    except NotFound:
        hub = await hubs.create(namespace, NAME, settings.hostname)
    try:
        service = await administration.service(NAME)
    except NotFound:
        await hubs.synchronize(namespace)  # here: done before anything can assign to the hub
        service = await administration.create_service(
            namespace, NAME, host_name=settings.hostname, hub_ids=[hub.id], by=SYSTEM
        )
    group = await _group(administration, service, policy, store)
    return Bootstrapped(namespace, policy, hub, service, group)


async def _group(
    administration: Administration, service: Service, policy: Policy, store: Store
) -> EnrollmentWithKeys | None:
    """The enrollment group; made on the first start only, because deleting it is how an operator
    takes its keys out of the world.
    """
    bootstrapped = await store.read(lambda tx: installation.get(tx, _BOOTSTRAPPED)) is not None
    try:
        group = await administration.get(service, EnrollmentKind.GROUP, NAME)
    except EnrollmentNotFound:
        if bootstrapped:
            return None
        group = await administration.put(
            service, EnrollmentKind.GROUP, NAME, EnrollmentSettings(policy_id=policy.id), by=SYSTEM
        )
    if not bootstrapped:
        await store.write(lambda tx: installation.put(tx, _BOOTSTRAPPED, b"1"))
    return group


async def public_pki_url(store: Store, settings: Settings, http_port: int) -> str:
    """The public PKI URL: what was embedded on the first start, for ever."""
    kept = await store.read(lambda tx: installation.get(tx, _PKI_URL))
    if kept is not None:
        if settings.pki_url is None and not kept.endswith(f":{http_port}".encode()):
            _log.warning("certificates name another PKI URL", url=kept.decode(), port=http_port)
        elif settings.pki_url is not None and kept != settings.pki_url.encode():
            _log.warning("the PKI URL is kept from the first start", url=kept.decode())
        return kept.decode()
    chosen = settings.pki_url or f"http://{_pki_host(settings)}:{http_port}"
    await store.write(lambda tx: installation.put(tx, _PKI_URL, chosen.encode()))
    return chosen


def _pki_host(settings: Settings) -> str:
    """The host of the PKI URL: a fully qualified name or an address (RFC 5280 §4.2.1.6), which
    `localhost` is not.
    """
    host = settings.hostname
    if host == "localhost":
        try:
            bind = ip_address(settings.bind)
        except ValueError:
            host = "127.0.0.1"
        else:
            host = "127.0.0.1" if bind.is_unspecified else str(bind)
    return f"[{host}]" if ":" in host else host


async def first_token(access: Access, data: Path) -> str | None:
    """The owner's token: the one of `bootstrap.json`, or a new one where that is lost or near its
    end; None once it was revoked.
    """
    text = await access.first_token(_read_token(data / FILE))
    return text.text if text else None


async def renew_first_token(access: Access, data: Path) -> None:
    """Replaces the owner's token before its time is over."""
    text = await access.first_token(_read_token(data / FILE))
    if text is not None:
        keep_first_token(data, text)


def keep_first_token(data: Path, text: TokenText) -> None:
    """Puts the owner's token into `bootstrap.json`, where commands find it."""
    path = data / FILE
    content = json.loads(path.read_text())
    if content["adminToken"] != text.text:
        content["adminToken"] = text.text
        _write_content(path, content)


async def write_files(
    settings: Settings,
    made: Bootstrapped,
    ports: dict[str, int],
    token: str | None,
    trust: str,
    hubs: Hubs,
    administration: Administration,
) -> None:
    """Writes `server-ca.pem` and `bootstrap.json`."""
    server_ca = write_trust(settings.data, trust)
    owner = await hubs.shared_access_policy(made.hub, "iothubowner")
    service_owner = await administration.shared_access_policy(
        made.service, "provisioningserviceowner"
    )
    content: dict[str, Any] = {
        "hostname": settings.hostname,
        "bind": settings.bind,
        **ports,
        "serverCaFile": str(server_ca.resolve()),
        "adminToken": token,
        "subscriptionId": made.namespace.subscription_id,
        "resourceGroup": made.namespace.resource_group,
        "namespace": made.namespace.name,
        "policy": made.policy.name,
        "provisioning": {
            "name": made.service.name,
            "idScope": made.service.id_scope,
            "connectionString": _connection_string(made.service.host_name, service_owner),
        },
        "enrollmentGroup": _shown_group(made.group),
        "hub": {
            "name": made.hub.name,
            "hostName": made.hub.host_name,
            "connectionString": _connection_string(made.hub.host_name, owner),
        },
    }
    _write_content(settings.data / FILE, content)


def _write_content(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, text.encode(), 0o600)


def write_trust(data: Path, trust: str) -> Path:
    """Writes what clients trust (PEM), and returns where."""
    path = data / SERVER_CA_FILE
    write_atomically(path, trust.encode(), 0o644)
    return path


def _shown_group(group: EnrollmentWithKeys | None) -> dict[str, str] | None:
    if group is None or group.keys is None:
        return None
    return {
        "id": group.enrollment.id,
        "primaryKey": sas.encode_key(group.keys.primary),
        "secondaryKey": sas.encode_key(group.keys.secondary),
    }


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Replaces a file by one with `content`: a reader sees the old or the new, never a part, and
    nobody but the owner ever sees one of mode 0600.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """Makes a folder for its owner only, durably, where there is none."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connection_string(host_name: str, policy: SharedAccessPolicy | None) -> str | None:
    """By the policy's primary key; None if somebody removed the policy."""
    if policy is None:
        return None
    key = sas.encode_key(policy.primary_key)
    return f"HostName={host_name};SharedAccessKeyName={policy.name};SharedAccessKey={key}"


def _read_token(path: Path) -> str | None:
    try:
        token = json.loads(path.read_text()).get("adminToken")
    except (OSError, ValueError, AttributeError):
        return None
    return token if isinstance(token, str) and token else None
