"""Issuances in the audit log: each certificate is one entry, in the commit that makes it known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from fleet import Fleet, device_csr
from fleetroot.audit import SYSTEM
from fleetroot.audit.chain import Findings, Verifier
from fleetroot.audit.export import parse_line
from fleetroot.audit.model import LoggedEntry
from fleetroot.hub.model import CredentialWish
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings, RegisterRequest
from workbench import Wire, Workbench, contents

DEVICE = "dev-1"


async def entries(bench: Workbench, subject: str = f"device/{DEVICE}") -> list[dict[str, Any]]:
    """Those of a subject, oldest first."""
    return [json.loads(e.line) for e in await bench.audit_log.page(subject=subject)][::-1]


async def provision(bench: Workbench) -> None:
    asked = bench.registration(DEVICE, device_csr(DEVICE)[1])
    await bench.provisioning.register(
        RegisterRequest(
            asked.id_scope, DEVICE, asked.credential, asked.csr, "192.0.2.7:4711", "trace-7"
        )
    )


async def test_certificate_of_a_registration_is_an_entry(bench: Workbench) -> None:
    await provision(bench)
    [entry], [certificate] = await entries(bench), await bench.inventory(DEVICE)
    assert entry["action"] == "certificate.issue"
    assert (entry["actorKind"], entry["actor"]) == ("device", DEVICE)
    assert (entry["peer"], entry["traceId"]) == ("192.0.2.7:4711", "trace-7")
    assert entry["details"] == {
        "serialNumber": certificate.serial,
        "sha256": certificate.sha256.hex(),
        "issuingAuthority": certificate.authority_id,
        "origin": "provisioning",
        "enrollment": f"{bench.made.service.id}/group/default",
    }


async def test_renewed_certificate_is_an_entry(bench: Workbench) -> None:
    wire = Wire(peer="192.0.2.8:1", trace_id="trace-8")
    session = await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    await bench.renew(session, "1", CredentialWish(DEVICE, device_csr(DEVICE)[1], None))
    [_, entry], [renewed, _] = await entries(bench), await bench.inventory(DEVICE)
    assert entry["details"]["origin"] == "renewal"
    assert entry["details"]["serialNumber"] == renewed.serial
    assert (entry["peer"], entry["traceId"]) == ("192.0.2.8:1", "trace-8")


async def test_registration_that_issues_nothing_is_an_entry(bench: Workbench) -> None:
    settings = EnrollmentSettings(policy_id=None)
    await bench.administration.put(
        bench.made.service, EnrollmentKind.GROUP, "default", settings, if_match="*", by=SYSTEM
    )
    await bench.register(DEVICE)
    [entry] = await entries(bench)
    assert (entry["action"], entry["outcome"]) == ("device.register", "done")
    assert entry["details"]["hub"] == bench.made.hub.id


async def test_certificate_that_nobody_gets_is_no_entry(bench: Workbench) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))

    async def disable() -> None:
        with bench.sql() as sql:
            sql.execute(text("UPDATE devices SET enabled = false"))

    async def open_request() -> None:
        """The first write; the second is the certificate."""

    bench.store.before_write += [open_request, disable]
    await bench.renew(session, "1", CredentialWish(DEVICE, device_csr(DEVICE)[1], None))
    assert len(await bench.inventory(DEVICE)) == len(await entries(bench)) == 1


async def test_certificate_and_entry_survive_a_crash_together(
    bench: Workbench, tmp_path: Path
) -> None:
    await provision(bench)
    found = contents(bench.crash(tmp_path / "crashed"))
    issued = [row for row in found["audit_entries"] if f"device/{DEVICE}" in row]
    assert len(found["certificates"]) == len(issued) == 1


# --- the chain


async def verified(bench: Workbench) -> Findings:
    verifier = Verifier(bench.audit_log.public_key)
    exported = b"".join([chunk async for chunk in bench.audit_log.export()])
    for line in exported.splitlines():
        parsed = parse_line(line)
        if isinstance(parsed, LoggedEntry):
            verifier.entry(parsed)
        else:
            verifier.checkpoint(parsed)
    return verifier.finish()


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM audit_entries WHERE action = 'certificate.issue' AND subject LIKE 'device/%'",
        "UPDATE audit_entries SET details = replace(details, 'provisioning', 'renewal')",
        "UPDATE audit_entries SET peer = '192.0.2.99:1' WHERE peer IS NOT NULL",
    ],
    ids=["removed", "changed", "moved"],
)
async def test_issuance_that_was_tampered_with_is_seen(bench: Workbench, tampering: str) -> None:
    await provision(bench)
    await bench.audit_log.write()
    assert (await verified(bench)).wrong == []
    with bench.sql() as sql:
        sql.execute(text(tampering))
    assert (await verified(bench)).wrong != []


# --- over the wires


async def of_device(fleet: Fleet) -> list[dict[str, Any]]:
    page = await fleet.http.get("/fleetroot/audit/entries", params={"subject": f"device/{DEVICE}"})
    return list(page.json()["value"])


async def test_entry_of_mqtt_says_where_the_device_called_from(fleet: Fleet) -> None:
    await fleet.provision(DEVICE)
    [entry] = await of_device(fleet)
    assert entry["peer"].startswith("127.0.0.1:")
    assert entry["traceId"]


async def test_entry_of_https_has_the_id_that_the_answer_shows(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.http.base_url, verify=fleet.trust()) as http:
        answer = await http.put(
            f"/{fleet.id_scope}/registrations/{DEVICE}/register",
            params={"api-version": "2026-11-01"},
            headers={"authorization": fleet.provisioning_token(DEVICE).decode()},
            json={"registrationId": DEVICE, "csr": device_csr(DEVICE)[1]},
        )
    assert answer.status_code == 200
    [entry] = await of_device(fleet)
    assert entry["traceId"] == answer.headers["x-ms-request-id"]
    assert entry["peer"].startswith("127.0.0.1:")
