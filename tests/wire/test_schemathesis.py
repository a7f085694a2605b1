"""`schemathesis` against what a server says of itself: it reads the OpenAPI document and asks what
the document has, rightly and wrongly. No answer is a 5xx, and none is one that is not described.

The seed is fixed: a run is as the one before, but for the ids and times that the server makes up.
Each share has a server of its own, and may destroy what is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from openssl_ca import OpensslCa

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SEED = 20261123
CASES = 500  # at least, of each of the six shares
NAMESPACES = "^/fleetroot/namespaces"
SERVICES = "^/fleetroot/(hubs|provisioning-services)"
ENDLESS = "^/fleetroot/events/stream"
DEVICES = "/Microsoft.Devices/"
SHARES = {
    "registries": ("--include-tag", "management", "--exclude-path-regex", DEVICES),
    "devices": ("--include-path-regex", DEVICES),
    "namespaces": ("--include-path-regex", NAMESPACES),
    "services": ("--include-path-regex", SERVICES),
    "operator": (
        "--include-tag",
        "operator",
        "--exclude-path-regex",
        f"{NAMESPACES}|{SERVICES}|{ENDLESS}",
    ),
    "data plane": (
        *("--include-tag", "provisioning service", "--include-tag", "hub service"),
        *("--include-tag", "server"),
    ),
}
EXAMPLES = {
    "registries": 10,
    "devices": 10,
    "namespaces": 10,
    "services": 10,
    "operator": 10,
    "data plane": 30,
}
# Names that are there, so that calls come further than to a 404; and those that come and go.
CONFIG = """
[dictionaries]
names = {{ values = ["default", "spare"] }}
devices = {{ values = ["dev-1", "dev-2"] }}
enrollments = {{ values = ["default", "spare", "dev-1", "dev-2"] }}
namespaces = {{ values = ["default", "other"] }}
keys = {{ values = ["iothubowner", "provisioningserviceowner"] }}
hosts = {{ values = ["{hostname}", "spare.{hostname}"] }}
etags = {{ values = ["*"] }}

[parameters]
"path.subscription" = "{subscription}"
"path.group" = "{group}"
"path.namespace" = "default"
"path.name" = {{ dictionary = "names", probability = 0.8 }}
"path.hub" = {{ dictionary = "names", probability = 0.8 }}
"path.service" = {{ dictionary = "names", probability = 0.8 }}
"path.certificate" = {{ dictionary = "names", probability = 0.8 }}
"path.key" = {{ dictionary = "keys", probability = 0.8 }}
"path.host_name" = {{ dictionary = "hosts", probability = 0.8 }}
"path.group_id" = {{ dictionary = "names", probability = 0.8 }}
"path.enrollment_id" = {{ dictionary = "enrollments", probability = 0.8 }}
"path.registration_id" = {{ dictionary = "devices", probability = 0.8 }}
"path.device_id" = {{ dictionary = "devices", probability = 0.8 }}
"path.device" = {{ dictionary = "devices", probability = 0.8 }}
"header.If-Match" = {{ dictionary = "etags", probability = 0.8 }}
"query.wait" = 0  # seconds that a call may take, up to 30

[[operations]]
include-path = "/fleetroot/namespaces/{{namespace}}"
parameters = {{ "path.namespace" = {{ dictionary = "namespaces", probability = 0.8 }} }}

# An enrollment may be named `query`: at these paths are its methods, too.
[[operations]]
include-path = "/enrollments/query"
checks = {{ allow_header_conformance.enabled = false }}

[[operations]]
include-path = "/enrollmentGroups/query"
checks = {{ allow_header_conformance.enabled = false }}

# The same of a device.
[[operations]]
include-path = "/devices/query"
checks = {{ allow_header_conformance.enabled = false }}

# The same of a job, whose other methods find none of that name; and any header may be there.
[[operations]]
include-path = "/jobs/v2/query"
checks = {{ allow_header_conformance.enabled = false, negative_data_rejection.enabled = false }}

[[operations]]
include-path = "/fleetroot/backup"
# 503 while the master key is being changed, by a call just before.
checks = {{ not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503] }}

[generation]
with-security-parameters = false  # the header below is not to be written over

[phases]
coverage.extra-data-sources.responses = false  # what a run learns, another would not
fuzzing.extra-data-sources.responses = false
fuzzing.error-feedback.enabled = false

[checks]
# Rules that no schema tells (a chain that fits its request, one that is given of two) refuse what
# the schema allows.
positive_data_acceptance.enabled = false
# A precondition is looked at first, and a body is measured first.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413]
"""


async def run(fleet: Fleet, folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Its exit code, its report, and what it says."""
    config, report = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(
        CONFIG.format(
            subscription=fleet.bootstrap["subscriptionId"],
            group=fleet.bootstrap["resourceGroup"],
            hostname=fleet.bootstrap["hostname"],
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(SCHEMATHESIS, "--config-file", config, "run"),
        f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}/openapi.json",
        *("--header", f"Authorization: Bearer {fleet.bootstrap['adminToken']}"),
        *("--tls-verify", fleet.bootstrap["serverCaFile"]),
        *("--phases", "coverage,fuzzing", "--seed", str(SEED), "--generation-database", "none"),
        *("--request-timeout", "60", "--suppress-health-check", "all"),
        *("--report", "json", "--report-json-path", report),
        *("--continue-on-failure", "--no-shrink", "--no-color"),
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, json.loads(report.read_text()), out.decode()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", SHARES)
async def test_no_answer_is_a_server_error_or_undescribed(
    fleet: Fleet, tmp_path: Path, share: str
) -> None:
    await fleet.provision("dev-1")
    await fleet.enroll("dev-1")
    spare = {"name": "spare", "role": "reader"}
    assert (await fleet.http.post("/fleetroot/tokens", json=spare)).status_code == 201
    ca = {"certificate": OpensslCa.root(tmp_path).pem}
    for kind in ("hubs", "provisioning-services"):
        made = await fleet.http.put(f"/fleetroot/{kind}/spare", json={})
        assert made.status_code == 201
        for name in ("default", "spare"):
            path = f"/fleetroot/{kind}/{name}/certificates/{name}"
            assert (await fleet.http.put(path, json=ca)).status_code == 201
    code, report, out = await run(
        fleet, tmp_path, *SHARES[share], "--max-examples", str(EXAMPLES[share])
    )
    assert code == 0, out[-20_000:]
    assert report["test_cases"]["generated"] >= CASES
    assert (await fleet.http.get("/fleetroot/status")).status_code == 200
