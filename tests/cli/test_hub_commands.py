"""`fleetroot hub` and `provisioning-service`, as people type them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from test_command_line import Done, run

from fleet import Fleet
from fleetroot import sas
from openssl_ca import OpensslCa, openssl


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def ok(*arguments: object, data: Path) -> Done:
    done = await run(*arguments, data=data)
    assert done.code == 0, done.err
    return done


async def shown(*arguments: object, data: Path) -> Any:
    return json.loads((await ok(*arguments, "--json", data=data)).out)


async def refused(*arguments: object, data: Path) -> str:
    done = await run(*arguments, data=data)
    assert (done.code, len(done.err.splitlines())) == (1, 1), done
    return done.err


async def test_hub_is_made_listed_tagged_and_deleted(data: Path) -> None:
    made = await shown("hub", "create", "plant", "--tag", "site=yard", data=data)
    assert (made["hostName"], made["namespace"]) == ("plant.localhost", "default")
    assert "exists" in await refused("hub", "create", "plant", data=data)
    assert "site=yard" in (await ok("hub", "list", data=data)).out
    await ok("hub", "update", "plant", "--tag", "site=dock", data=data)
    assert "site=dock" in (await ok("hub", "show", "plant", data=data)).out
    await ok("hub", "delete", "plant", data=data)
    assert "there is no hub plant" in await refused("hub", "show", "plant", data=data)


async def test_host_name_is_one_that_clients_will_trust(data: Path) -> None:
    made = await shown("hub", "create", "plant", "--host-name", "A.B.localhost", data=data)
    assert made["hostName"] == "a.b.localhost"
    for name, why in {
        "hub.example": "would refuse hub.example",
        "no name": "not a host name",
        "a.b.localhost": "taken",
    }.items():
        assert why in await refused("hub", "create", "works", "--host-name", name, data=data)


async def test_hub_belongs_to_another_namespace_once_it_is_linked_there(data: Path) -> None:
    await ok("namespace", "create", "plant", data=data)
    await ok("hub", "create", "works", data=data)
    assert (await shown("hub", "link", "works", "--namespace", "plant", data=data))[
        "namespace"
    ] == "plant"
    link = ("provisioning-service", "link-hub", "default", "works.localhost")
    assert "another namespace" in await refused(*link, data=data)
    assert "linked to the provisioning service default" in await refused(
        "hub", "link", "default", "--namespace", "plant", data=data
    )
    await ok("provisioning-service", "create", "plant", "--namespace", "plant", data=data)
    linked = await shown(
        *("provisioning-service", "link-hub", "plant", "works.localhost", "--weight", 3), data=data
    )
    assert linked["iotHubs"] == [
        {
            "name": "works",
            "hostName": "works.localhost",
            "allocationWeight": 3,
            "applyAllocationPolicy": True,
        }
    ]


async def test_hub_with_devices_stays_in_its_namespace(fleet: Fleet, data: Path) -> None:
    await ok("namespace", "create", "plant", data=data)
    await ok("hub", "create", "works", data=data)
    service = ("provisioning-service", "link-hub", "default", "works.localhost")
    await ok(*service, data=data)
    await ok("provisioning-service", "unlink-hub", "default", "localhost", data=data)
    await fleet.register("dev-1")
    await ok("provisioning-service", "link-hub", "default", "localhost", data=data)
    await ok("provisioning-service", "unlink-hub", "default", "works.localhost", data=data)
    assert "has devices" in await refused("hub", "link", "works", "--namespace", "plant", data=data)


async def test_provisioning_service_is_made_listed_linked_and_deleted(data: Path) -> None:
    made = await shown(
        *("provisioning-service", "create", "plant", "--allocation-policy", "Static"), data=data
    )
    assert made["idScope"].startswith("0ne")
    assert made["allocationPolicy"] == "Static"
    await ok(
        *("provisioning-service", "link-hub", "plant", "localhost", "--no-allocate"), data=data
    )
    listed = (await ok("provisioning-service", "list", data=data)).out
    assert made["idScope"] in listed
    said = (await ok("provisioning-service", "show", "plant", data=data)).out
    assert "where an enrollment names it" in said
    await ok("provisioning-service", "update", "plant", "--tag", "a=b", data=data)
    await ok("provisioning-service", "unlink-hub", "plant", "localhost", data=data)
    assert "not linked" in await refused(
        "provisioning-service", "unlink-hub", "plant", "localhost", data=data
    )
    await ok("provisioning-service", "delete", "plant", data=data)
    assert "there is no provisioning service" in await refused(
        "provisioning-service", "show", "plant", data=data
    )


async def test_service_with_registrations_stays_in_its_namespace(fleet: Fleet, data: Path) -> None:
    await ok("namespace", "create", "plant", data=data)
    link = ("provisioning-service", "link", "default", "--namespace", "plant")
    assert "unlink them first" in await refused(*link, data=data)
    await fleet.register("dev-1")
    await ok("provisioning-service", "unlink-hub", "default", "localhost", data=data)
    assert "has enrollments" in await refused(*link, data=data)
    group = "/enrollmentGroups/default?api-version=2026-11-01"
    assert (await fleet.http.delete(group)).status_code == 204
    assert "devices are registered" in await refused(*link, data=data)


@pytest.mark.parametrize("kind", ["hub", "provisioning-service"])
async def test_key_is_shown_and_rotated(fleet: Fleet, data: Path, kind: str) -> None:
    policy = "iothubowner" if kind == "hub" else "provisioningserviceowner"
    [before] = [
        each
        for each in await shown(kind, "keys", "default", data=data)
        if each["keyName"] == policy
    ]
    rotated = await shown(*(kind, "rotate-key", "default", policy, "--key", "primary"), data=data)
    assert rotated["primaryKey"] != before["primaryKey"]
    assert rotated["secondaryKey"] == before["secondaryKey"]
    line = (await ok(kind, "keys", "default", "--connection-string", policy, data=data)).out.strip()
    assert line == (
        f"HostName={fleet.hub_host};SharedAccessKeyName={policy};"
        f"SharedAccessKey={rotated['primaryKey']}"
    )
    actions = [
        (entry["action"], entry["subject"], entry["details"])
        for entry in (await fleet.http.get("/fleetroot/audit/entries")).json()["value"]
    ]
    assert ("keys.rotate", f"{kind}/default", {"policy": policy, "key": "primary"}) in actions
    assert rotated["primaryKey"] not in str(actions)
    assert "no shared access policy" in await refused(
        *(kind, "rotate-key", "default", "nobody", "--key", "primary"), data=data
    )


async def test_token_of_the_key_that_was_rotated_is_refused(fleet: Fleet, data: Path) -> None:
    [old] = await shown("provisioning-service", "keys", "default", data=data)

    async def status(key: str) -> int:
        at = fleet.server.clock.now().replace(year=2099)
        token = sas.sign_token(fleet.hub_host, sas.decode_key(key), at, old["keyName"])
        path = "/enrollmentGroups/default?api-version=2026-11-01"
        answer = await fleet.http.get(path, headers={"authorization": token})
        return answer.status_code

    assert await status(old["primaryKey"]) == 200
    command = ("provisioning-service", "rotate-key", "default", old["keyName"], "--key", "primary")
    new = await shown(*command, data=data)
    assert await status(old["primaryKey"]) == 401
    assert await status(old["secondaryKey"]) == 200
    assert await status(new["primaryKey"]) == 200


@pytest.mark.parametrize("kind", ["hub", "provisioning-service"])
async def test_ca_certificate_is_uploaded_verified_and_deleted(
    data: Path, tmp_path: Path, kind: str
) -> None:
    ca = OpensslCa.root(tmp_path / "ca", name="Corp Root")
    command = (kind, "certificate")
    uploaded = await shown(*command, "upload", "default", "corp", ca.certificate, data=data)
    assert (uploaded["subject"], uploaded["isVerified"]) == ("CN=Corp Root", False)
    drawn = await shown(*command, "generate-verification-code", "default", "corp", data=data)
    key, proof = tmp_path / "proof.key", tmp_path / "proof.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    subject = f"/CN={drawn['verificationCode']}"
    request = openssl("req", "-new", "-key", key, "-subj", subject, "-config", "/dev/null")
    proof.write_text(ca.sign(request, basicConstraints="CA:FALSE", keyUsage="digitalSignature"))
    assert "not the verification code" in await refused(
        *command, "verify", "default", "corp", ca.certificate, data=data
    )
    verified = await shown(*command, "verify", "default", "corp", proof, data=data)
    assert verified["isVerified"] is True
    assert "Corp Root" in (await ok(*command, "list", "default", data=data)).out
    pem = (await ok(*command, "show", "default", "corp", "--pem", data=data)).out
    assert x509.load_pem_x509_certificate(pem.encode()) == x509.load_pem_x509_certificate(
        ca.pem.encode()
    )
    await ok(*command, "delete", "default", "corp", data=data)
    assert "no certificate corp" in await refused(*command, "show", "default", "corp", data=data)


@pytest.mark.parametrize(
    "command",
    [
        ("hub", "rotate-key", "default", "iothubowner"),
        ("hub", "rotate-key", "default", "iothubowner", "--key", "both"),
        ("hub", "create", "plant", "--tag", "nothing"),
        ("hub", "link", "default"),
        ("provisioning-service", "create", "plant", "--allocation-policy", "Random"),
        ("provisioning-service", "link-hub", "default", "localhost", "--weight", 0),
        ("hub", "certificate", "upload", "default", "corp", "no-such-file"),
        ("hub", "method", "dev-1", "reboot", "--payload", "{"),
        ("hub", "method", "dev-1", "reboot", "--payload", "NaN"),
        ("hub", "method", "dev-1", "reboot", "--timeout", 4),
        ("hub", "method", "", "reboot"),
    ],
    ids=lambda command: " ".join(map(str, command)),
)
async def test_what_cannot_be_meant_is_a_usage_error(
    data: Path, command: tuple[object, ...]
) -> None:
    done = await run(*command, data=data)
    assert done.code == 2, done.err


async def test_message_is_sent_and_purged(fleet: Fleet, data: Path, tmp_path: Path) -> None:
    await fleet.provision("dev-1")
    body = tmp_path / "body"
    body.write_bytes(b"\xff")
    said = ("--property", "Colour=red", "--message-id", "m", "--ack", "full", "--lifetime", "60")
    sent = await shown("hub", "send", "dev-1", "--file", body, *said, data=data)
    assert sent["messageId"] == "m"
    [row] = fleet.rows("commands")
    assert {"m", "full", '{"Colour":"red"}', b"\xff"} <= set(row)
    await ok("hub", "send", "dev-1", "--body", "hello", data=data)
    assert "messages removed: 2" in (await ok("hub", "purge", "dev-1", data=data)).out
    assert "no such device" in await refused("hub", "send", "nobody", data=data)


async def test_method_is_called_and_its_answer_printed(
    fleet: Fleet, data: Path, tmp_path: Path
) -> None:
    device = await fleet.connect("dev-1", await fleet.provision("dev-1"))

    async def answer() -> None:
        while True:
            message = await device.message()
            rid = message.topic.rpartition("=")[2]
            await device.publish(f"$iothub/methods/res/201/?$rid={rid}", message.payload, qos=0)

    async with device:
        await device.subscribe("$iothub/methods/POST/#")
        answering = asyncio.create_task(answer())
        done = await ok("hub", "method", "dev-1", "reboot", "--payload", '{"delay": 3}', data=data)
        assert done.out == 'status 201\n{\n  "delay": 3\n}\n'
        file = tmp_path / "payload"
        file.write_text("[1]")
        found = await shown("hub", "method", "dev-1", "reboot", "--file", file, data=data)
        assert found == {"status": 201, "payload": [1]}
        assert (await ok("hub", "method", "dev-1", "reboot", data=data)).out == "status 201\n"
        answering.cancel()
    away = await refused("hub", "method", "dev-1", "reboot", data=data)
    assert away == "fleetroot: the device is not connected, or does not listen to methods\n"
    assert "no such device" in await refused("hub", "method", "nobody", "reboot", data=data)
    assert "methodName" in await refused("hub", "method", "dev-1", "a/b", data=data)


async def test_issuing_ca_is_taken_from_a_hub_and_brought_back(data: Path) -> None:
    [issuer] = await shown("hub", "authorities", "default", data=data)
    assert issuer["policy"] == "default"
    assert issuer["id"] in (await ok("hub", "authorities", "default", data=data)).out
    done = await ok("hub", "unsynchronize", "default", issuer["id"], data=data)
    assert f"{issuer['id']}: no longer trusted by default" in done.out
    assert "trusts no issuing CA" in (await ok("hub", "authorities", "default", data=data)).out
    again = ("hub", "unsynchronize", "default", issuer["id"])
    assert "does not trust a CA" in await refused(*again, data=data)
    await ok("namespace", "synchronize", "default", data=data)
    assert [each["id"] for each in await shown("hub", "authorities", "default", data=data)] == [
        issuer["id"]
    ]
