"""Why a device does not come in: what a developer who holds a tracking id, or an id, finds."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, refusal
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import ConnackCode

COMMAND = Path(sys.executable).with_name("fleetroot")
WRONG = b"x" * 64


async def explained(fleet: Fleet, what: str, id_: str) -> dict[str, Any]:
    answer = await fleet.http.get(f"/fleetroot/{what}/{id_}/explanation")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def reasons(found: dict[str, Any]) -> list[str]:
    return [each["reason"] for each in found["against"]]


def refused(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [(each["reason"], each["count"]) for each in found["refusals"]]


async def command(fleet: Fleet, *arguments: str) -> tuple[int | None, str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEETROOT_")}
    process = await asyncio.create_subprocess_exec(
        str(COMMAND),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"FLEETROOT_DATA": str(fleet.server.settings.data), "COLUMNS": "80"},
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


# --- tracking ids


async def test_tracking_id_of_an_answer_finds_its_refusal(fleet: Fleet) -> None:
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", WRONG))
    assert answer.status == 401
    found = await fleet.http.get(
        "/fleetroot/refusals", params={"trackingId": answer.body["trackingId"]}
    )
    [record] = found.json()["value"]
    assert (record["subject"], record["id"], record["at"]) == (
        "registration",
        "dev-1",
        fleet.id_scope,
    )
    assert record["reason"] == "token signed with another key"
    assert "key" in record["advice"]


async def test_tracking_id_is_one_for_all_of_a_connection(fleet: Fleet) -> None:
    wrong = fleet.provisioning_token("dev-1", WRONG)
    async with await fleet.provisioning("dev-1", token=wrong) as mqtt:
        answers = [
            await mqtt.ask("$dps/registrations/PUT/iotdps-register/", b"{}") for _ in range(2)
        ]
    assert len({answer.body["trackingId"] for answer in answers}) == 1


async def test_tracking_id_of_http_is_in_its_header_too(fleet: Fleet) -> None:
    answer = await fleet.http.get("/fleetroot/devices/nobody")
    assert answer.headers["x-ms-request-id"] == answer.json()["trackingId"]


async def test_tracking_id_of_a_twin_answer_finds_its_refusal(fleet: Fleet) -> None:
    async with await fleet.connect("dev-1", await fleet.provision("dev-1")) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        answer = await mqtt.ask("$iothub/twin/PATCH/properties/reported/", b"[]")
    found = await fleet.http.get(
        "/fleetroot/refusals", params={"trackingId": answer.body["trackingId"]}
    )
    assert [record["kind"] for record in found.json()["value"]] == ["twin"]


# --- registrations


async def test_id_that_nobody_knows_is_explained_by_who_would_answer(fleet: Fleet) -> None:
    found = await explained(fleet, "registrations", "nobody")
    assert found["against"] == []
    assert [(e["kind"], e["id"], e["enabled"]) for e in found["enrollments"]] == [
        ("group", "default", True)
    ]
    assert (found["registration"], found["device"], found["refusals"]) == (None, None, [])


async def test_wrong_key_and_wrong_scope_are_shown_with_where_they_went(fleet: Fleet) -> None:
    for _ in range(2):
        await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", WRONG))
    await refusal(fleet.provisioning("DEV-1", id_scope="0ne00000000"))
    found = await explained(fleet, "registrations", "dev-1")
    assert refused(found) == [("unknown ID scope", 1), ("token signed with another key", 2)]
    assert [each["at"] for each in found["refusals"]] == ["0ne00000000", fleet.id_scope]


async def test_no_refusal_that_is_shown_holds_the_token(fleet: Fleet) -> None:
    token = fleet.provisioning_token("dev-1", WRONG)
    await fleet.register("dev-1", token=token)
    text = json.dumps(await explained(fleet, "registrations", "dev-1"))
    assert token.decode()[-60:] not in text
    assert "sig=" not in text


async def test_no_enrollment_stands_against_it(fleet: Fleet) -> None:
    await fleet.http.delete("/enrollmentGroups/default")
    await fleet.register("dev-1")
    found = await explained(fleet, "registrations", "dev-1")
    assert reasons(found) == ["no enrollment"]
    assert refused(found) == [("no enrollment", 1)]


async def test_disabled_individual_enrollment_stands_against_it(fleet: Fleet) -> None:
    await fleet.enroll("dev-1", provisioningStatus="disabled")
    found = await explained(fleet, "registrations", "dev-1")
    assert reasons(found) == ["enrollment disabled"]
    assert [(e["kind"], e["id"]) for e in found["enrollments"]] == [("individual", "dev-1")]


async def test_disabled_device_stands_against_its_registration(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    found = await explained(fleet, "registrations", "dev-1")
    assert reasons(found) == ["device disabled"]
    assert found["registration"]["hub"] == fleet.hub_host
    assert found["registration"]["certificateIssued"]


async def test_id_that_is_none_is_explained_as_that(fleet: Fleet) -> None:
    found = await explained(fleet, "registrations", "-dev-1-")
    assert reasons(found) == ["not a registration id"]


# --- devices


async def test_device_that_is_in_order_has_nothing_against_it(fleet: Fleet) -> None:
    async with await fleet.connect("dev-1", await fleet.provision("dev-1")):
        found = await explained(fleet, "devices", "dev-1")
    [identity] = found["identities"]
    assert (found["against"], identity["against"]) == ([], [])
    assert (identity["pinnedTo"], identity["policy"]) == ("policy", "default")
    assert identity["connected"]
    assert [c["status"] for c in found["certificates"]] == ["valid"]


async def test_device_that_was_never_here_is_explained_as_that(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    assert await refusal(fleet.connect("other", certified)) is ConnackCode.NOT_AUTHORIZED
    found = await explained(fleet, "devices", "other")
    assert reasons(found) == ["no such device on this hub"]
    assert refused(found) == [("no such device on this hub", 1)]


@pytest.mark.parametrize(
    ("then", "reason"),
    [("revoke", "certificate revoked"), ("disable", "device disabled")],
)
async def test_what_stands_against_a_device_is_what_refuses_it(
    fleet: Fleet, then: str, reason: str
) -> None:
    certified = await fleet.provision("dev-1")
    await fleet.http.post(f"/fleetroot/devices/dev-1/{then}", json={} if then == "revoke" else None)
    await refusal(fleet.connect("dev-1", certified))
    found = await explained(fleet, "devices", "dev-1")
    [identity] = found["identities"]
    assert [each["reason"] for each in identity["against"]] == [reason]
    assert refused(found) == [(reason, 1)]


async def test_expired_certificate_stands_against_a_device(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    await timed_fleet.provision("dev-1")
    clock.advance(timedelta(days=40))
    [identity] = (await explained(timed_fleet, "devices", "dev-1"))["identities"]
    assert [each["reason"] for each in identity["against"]] == ["certificate expired"]


async def test_device_without_a_certificate_is_told_to_ask_for_one(fleet: Fleet) -> None:
    await fleet.register("dev-1")
    [identity] = (await explained(fleet, "devices", "dev-1"))["identities"]
    assert [each["reason"] for each in identity["against"]] == ["no certificate was issued"]


# --- the command line


async def test_commands_say_why_and_what_to_do_in_80_columns(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    await refusal(fleet.connect("dev-1", certified))
    answer = await fleet.register("dev-1")
    for arguments in (
        ("device", "explain", "dev-1"),
        ("registration", "explain", "dev-1"),
        ("explain", answer.body["trackingId"]),
    ):
        code, out, err = await command(fleet, *arguments)
        assert code == 0, err
        assert "device disabled" in out
        assert "fleetroot devices enable" in out.replace("\n", " ").replace("  ", " ")
        assert max(len(line) for line in out.splitlines()) <= 80


async def test_commands_print_json_and_nothing_else(fleet: Fleet) -> None:
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", WRONG))
    for arguments in (
        ("device", "explain", "dev-1"),
        ("registration", "explain", "dev-1"),
        ("explain", answer.body["trackingId"]),
    ):
        code, out, _ = await command(fleet, *arguments, "--json")
        assert code == 0
        assert json.loads(out)


async def test_tracking_id_that_is_not_known_is_a_failure(fleet: Fleet) -> None:
    code, out, err = await command(fleet, "explain", "nothing")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
