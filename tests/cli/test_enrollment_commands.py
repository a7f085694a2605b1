"""`fleetroot enrollment`, `enrollment-group` and `registration`, as people type them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_command_line import run
from test_hub_commands import ok, refused, shown

from fleet import Fleet
from fleetroot import sas
from openssl_ca import OpensslCa

GROUP = "enrollment-group"


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


def keys_of(found: Any) -> tuple[bytes, bytes]:
    keys = found["attestation"]["symmetricKey"]
    return base64.b64decode(keys["primaryKey"]), base64.b64decode(keys["secondaryKey"])


def fields(out: str) -> dict[str, str]:
    pairs = (line.split("  ", 1) for line in out.splitlines() if "  " in line)
    return {name.strip(): value.strip() for name, value in pairs}


async def test_keys_are_printed_at_creation_and_when_they_are_asked_for(data: Path) -> None:
    made = await shown("enrollment", "create", "dev-1", data=data)
    primary = made["attestation"]["symmetricKey"]["primaryKey"]
    for command in (("show",), ("disable",), ("enable",), ("update", "--quarantine")):
        done = await ok("enrollment", command[0], "dev-1", *command[1:], data=data)
        assert primary not in done.out, command
    assert primary in (await ok("enrollment", "show", "dev-1", "--keys", data=data)).out
    listed = (await ok("enrollment", "list", data=data)).out
    assert "dev-1" in listed
    assert primary not in listed


async def test_own_keys_come_from_files(data: Path, tmp_path: Path) -> None:
    for name, key in (("one", b"1" * 32), ("two", b"2" * 32)):
        (tmp_path / name).write_text(base64.b64encode(key).decode() + "\n")
    made = await shown(
        *("enrollment", "create", "dev-1", "--primary-key-file", tmp_path / "one"),
        *("--secondary-key-file", tmp_path / "two"),
        data=data,
    )
    assert keys_of(made) == (b"1" * 32, b"2" * 32)


async def test_update_changes_what_it_names_and_nothing_else(data: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.json"
    twin.write_text('{"tags": {"site": "yard"}}')
    made = await shown(
        *("enrollment", "create", "dev-1", "--device-id", "press", "--hub", "localhost"),
        *("--initial-twin", twin, "--expires", "2100-01-01T00:00:00Z", "--disabled"),
        data=data,
    )
    assert (made["provisioningStatus"], made["allocationPolicy"]) == ("disabled", "static")
    changed = await shown(
        "enrollment", "update", "dev-1", "--reprovision", "keep", "--unset", "expiry", data=data
    )
    assert changed["reprovisionPolicy"]["updateHubAssignment"] is False
    same = ("deviceId", "iotHubs", "initialTwin", "provisioningStatus", "credentialPolicyName")
    assert {name: changed[name] for name in same} == {name: made[name] for name in same}
    assert "expiryDateTimeUtc" not in changed
    again = await shown("enrollment", "show", "dev-1", "--keys", data=data)
    assert keys_of(again) == keys_of(made)


async def test_certificates_are_read_from_files(data: Path, tmp_path: Path) -> None:
    ca = OpensslCa.root(tmp_path)
    made = await shown(GROUP, "create", "line-4", "--certificate", ca.certificate, data=data)
    der = made["attestation"]["x509"]["signingCertificates"]["primary"]["certificate"]
    pem = x509.load_pem_x509_certificate(ca.certificate.read_bytes())
    assert base64.b64decode(der) == pem.public_bytes(Encoding.DER)
    assert "Attests by" in (await ok(GROUP, "show", "line-4", data=data)).out


async def test_what_contradicts_itself_is_a_usage_error(data: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a" * 44)
    for options in (
        ("--primary-key-file", key, "--endorsement-key", "AAAA"),
        ("--expires", "tomorrow"),
        ("--expires", "2100-01-01T00:00:00"),
        ("--webhook", "https://allocate.example"),
        ("--policy", "default", "--no-policy"),
    ):
        done = await run("enrollment", "create", "dev-1", *options, data=data)
        assert (done.code, "Traceback" in done.err) == (2, False), options
    assert "no enrollments" in (await ok("enrollment", "list", data=data)).out


async def test_group_key_is_rolled_without_a_pause(fleet: Fleet, data: Path) -> None:
    old, _ = keys_of(await shown(GROUP, "create", "line-4", data=data))
    rolled = await shown(GROUP, "roll-key", "line-4", data=data)
    primary, new = keys_of(rolled)
    assert primary == old

    async def register(device: str, group_key: bytes) -> int:
        key = sas.derive_device_key(group_key, device)
        answer = await fleet.register(device, token=fleet.provisioning_token(device, key=key))
        return answer.status

    async def with_old_key() -> list[str]:
        found = await shown("registration", "list", "line-4", "--slot", "primary", data=data)
        return [each["registrationId"] for each in found]

    assert await register("dev-1", old) == await register("dev-2", new) == 200
    assert await with_old_key() == ["dev-1"]
    assert await register("dev-1", new) == 200
    assert await with_old_key() == []
    swapped = await shown(GROUP, "roll-key", "line-4", "--swap", data=data)
    assert keys_of(swapped) == (new, old)
    assert keys_of(await shown(GROUP, "roll-key", "line-4", data=data))[0] == new


async def test_device_key_is_computed_with_the_server_and_without(
    data: Path, tmp_path: Path
) -> None:
    primary, secondary = keys_of(await shown(GROUP, "create", "line-4", data=data))
    compute = (GROUP, "compute-device-key", "line-4", "dev-1")
    for key, options in ((primary, ()), (secondary, ("--secondary",))):
        wanted = base64.b64encode(sas.derive_device_key(key, "dev-1")).decode()
        assert (await ok(*compute, *options, data=data)).out.strip() == wanted
    key_file = tmp_path / "key"
    key_file.write_text(base64.b64encode(primary).decode())
    done = await ok(*compute, "--key-file", key_file, data=tmp_path / "no-server")
    wanted = base64.b64encode(sas.derive_device_key(primary, "dev-1")).decode()
    assert done.out.strip() == wanted


async def test_registration_is_shown_and_forgotten(fleet: Fleet, data: Path) -> None:
    await fleet.register("dev-1")
    out = (await ok("registration", "show", "dev-1", data=data)).out
    assert fields(out)["Attested by"] == "primary symmetricKey"
    await ok("registration", "delete", "dev-1", data=data)
    assert "404" not in await refused("registration", "show", "dev-1", data=data)
    assert "no registrations" not in (await ok("registration", "list", "default", data=data)).out


async def test_enrollments_of_another_service_are_its_own(data: Path) -> None:
    await ok("provisioning-service", "create", "plant", data=data)
    await ok("enrollment", "create", "dev-1", "--service", "plant", data=data)
    assert "not found" in await refused("enrollment", "show", "dev-1", data=data)
    await ok("enrollment", "delete", "dev-1", "--service", "plant", data=data)


async def test_tables_fit_eighty_columns(data: Path) -> None:
    await ok("enrollment", "create", "d" * 128, data=data)
    done = await run("enrollment", "list", data=data, COLUMNS="80")
    assert max(map(len, done.out.splitlines())) <= 80


async def test_json_is_all_that_is_printed(data: Path) -> None:
    for command in (
        ("enrollment", "create", "dev-1"),
        ("enrollment", "list"),
        ("enrollment", "delete", "dev-1"),
        ("registration", "list", "default"),
    ):
        json.loads((await ok(*command, "--json", data=data)).out)
