"""Hubs and provisioning services that change while devices know them, and over restarts."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet import Certified, Fleet, Refused
from fleetroot import sas
from fleetroot.audit import SYSTEM
from fleetroot.gateway.server_certificate import ServerCertificate

WORKS = "works.localhost"
READER = {"keyName": "reader", "rights": "RegistryRead"}


async def ask(fleet: Fleet, method: str, path: str, body: Any = None, **headers: str) -> Any:
    answer = await fleet.http.request(method, path, json=body, headers=headers)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def provisioned(fleet: Fleet, namespace: str, device_id: str) -> Certified:
    """A device of another namespace, with a provisioning service of its own, on the hub `works`."""
    await ask(fleet, "PUT", f"/fleetroot/namespaces/{namespace}/policies/default")
    await ask(fleet, "POST", f"/fleetroot/namespaces/{namespace}/synchronize")
    services = "/fleetroot/provisioning-services/"
    made = await ask(fleet, "PUT", services + namespace, {"namespace": namespace})
    await ask(fleet, "PUT", f"{services}{namespace}/hubs/{WORKS}")
    key, scope = sas.new_key(), made["idScope"]
    enrollment = {
        "registrationId": device_id,
        "attestation": {
            "type": "symmetricKey",
            "symmetricKey": {"primaryKey": sas.encode_key(key)},
        },
        "credentialPolicyName": "default",
    }
    path = f"/enrollments/{device_id}?api-version=2026-11-01"
    await ask(fleet, "PUT", path, enrollment, host=made["hostName"])
    resource = f"{scope}/registrations/{device_id}"
    token = fleet.provisioning_token(device_id, key, resource=resource)
    return await fleet.provision(device_id, id_scope=scope, token=token)


async def test_device_of_a_hub_that_moved_is_dropped_when_its_new_namespace_revokes_it(
    fleet: Fleet,
) -> None:
    """The hub was looked up, and is remembered, while it belonged to another namespace."""
    await ask(fleet, "PUT", "/fleetroot/namespaces/plant")
    await ask(fleet, "PUT", "/fleetroot/hubs/works")
    stranger = await fleet.provision("dev-1")
    with pytest.raises(Refused):
        await fleet.connect("dev-1", stranger, host=WORKS)
    await ask(fleet, "POST", "/fleetroot/hubs/works/link", {"namespace": "plant"})
    certified = await provisioned(fleet, "plant", "dev-2")
    mqtt = await fleet.connect("dev-2", certified, host=WORKS)
    namespace = await fleet.server.registry.namespace("plant")
    await fleet.server.registry.revoke(namespace, "dev-2", disable=False, by=SYSTEM)
    await mqtt.wait_closed()


async def test_hub_that_is_made_again_by_its_name_lets_nobody_in_of_before(fleet: Fleet) -> None:
    await ask(fleet, "PUT", "/fleetroot/hubs/works")
    await ask(fleet, "POST", "/fleetroot/namespaces/default/synchronize")
    service = "/fleetroot/provisioning-services/default/hubs/"
    await ask(fleet, "PUT", service + WORKS)
    await ask(fleet, "DELETE", service + fleet.hub_host)
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified, host=WORKS)).close()
    await ask(fleet, "PUT", service + fleet.hub_host)
    await ask(fleet, "DELETE", service + WORKS)
    while (await fleet.http.delete("/fleetroot/hubs/works")).status_code == 409:
        pass  # until it has seen the device leave
    await ask(fleet, "PUT", "/fleetroot/hubs/works")
    await ask(fleet, "POST", "/fleetroot/namespaces/default/synchronize")
    with pytest.raises(Refused):
        await fleet.connect("dev-1", certified, host=WORKS)
    again = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", again)).close()


async def test_server_starts_with_every_host_name_and_key_as_they_were_left(
    tmp_path: Path,
) -> None:
    async with Fleet.running(tmp_path / "data") as fleet:
        of = fleet.bootstrap
        path = (
            f"/subscriptions/{of['subscriptionId']}/resourceGroups/{of['resourceGroup']}"
            "/providers/Microsoft.Devices/IotHubs/default?api-version=2023-06-30"
        )
        body = {"location": "here", "properties": {"authorizationPolicies": [READER]}}
        await ask(fleet, "PUT", path, body)
        await ask(fleet, "PUT", "/fleetroot/hubs/works")
    async with Fleet.running(tmp_path / "data") as fleet:
        shown = json.loads((tmp_path / "data" / "bootstrap.json").read_text())
        assert shown["hub"]["connectionString"] is None  # its policy was removed
        assert shown["provisioning"]["connectionString"] is not None
        [reader] = (await ask(fleet, "POST", "/fleetroot/hubs/default/keys"))["value"]
        assert reader["keyName"] == "reader"
        listed = (await ask(fleet, "GET", "/fleetroot/hubs"))["value"]
        assert [hub["hostName"] for hub in listed] == ["localhost", WORKS]
        assert not fleet.server._certificate.lacks([WORKS])


async def test_new_names_are_under_the_domain_that_the_settings_say(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", services_domain="fleet.example") as fleet:
        hub = await ask(fleet, "PUT", "/fleetroot/hubs/works")
        service = await ask(fleet, "PUT", "/fleetroot/provisioning-services/works")
    assert hub["hostName"] == "works.fleet.example"
    assert service["hostName"] == "works.dps.fleet.example"


async def test_certificate_that_took_longer_does_not_hide_a_newer_hub(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hubs are made at once; the certificate of the first does not know the second."""
    make, made, second = fleet.server._server_certificate, asyncio.Event(), asyncio.Event()

    async def slowly() -> ServerCertificate:
        certificate = await make()
        if not made.is_set():
            made.set()
            with suppress(TimeoutError):  # the second waits for this one
                async with asyncio.timeout(1):
                    await second.wait()
        return certificate

    monkeypatch.setattr(fleet.server, "_server_certificate", slowly)
    first = asyncio.create_task(ask(fleet, "PUT", "/fleetroot/hubs/hub-1"))
    await made.wait()
    await ask(fleet, "PUT", "/fleetroot/hubs/hub-2")
    second.set()
    await first
    assert not fleet.server._certificate.lacks(["hub-1.localhost", "hub-2.localhost"])
