"""What ends soon is in the status and in the metrics: of CAs, and of the server's certificate."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from test_operators_certificate import INTERMEDIATE, ROOT, Files, issue

from fleet import Fleet


async def metric(fleet: Fleet, name: str) -> float:
    text = (await fleet.http.get("/metrics")).text
    [value] = re.findall(rf"^{name} ([0-9.e+]+)$", text, re.MULTILINE)
    return float(value)


async def expiring(fleet: Fleet) -> list[dict[str, Any]]:
    return list((await fleet.http.get("/fleetroot/status")).json()["expiring"])


async def test_nothing_ends_soon_on_a_new_server(fleet: Fleet) -> None:
    assert await expiring(fleet) == []
    assert await metric(fleet, "fleetroot_expiring") == 0
    status = (await fleet.http.get("/fleetroot/status")).json()
    [issuing] = [a for a in status["authorities"] if a["kind"] == "issuing"]
    first = datetime.fromisoformat(issuing["notAfter"]).timestamp()
    assert await metric(fleet, "fleetroot_first_expiry_timestamp_seconds") == first


async def test_how_soon_is_a_setting(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", expiry_warning_days=2000) as fleet:
        [issuing] = await expiring(fleet)
        assert (issuing["what"], issuing["name"]) == ("issuing CA", "default/default")
        assert await metric(fleet, "fleetroot_expiring") == 1


async def test_certificate_of_the_operators_own_is_watched_with_its_chain(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write(issue("localhost", INTERMEDIATE, days=20), INTERMEDIATE, ROOT)
    async with Fleet.running(tmp_path / "data", **files.settings) as fleet:
        found = await expiring(fleet)
        assert [each["what"] for each in found] == ["server certificate"] * 2
        assert found[0]["notAfter"] < found[1]["notAfter"]
