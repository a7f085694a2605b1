"""`fleetroot crl`, as people type it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_command_line import Done, run

from corporation import Corporation
from fleet import Fleet


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def ok(*arguments: object, data: Path) -> Done:
    done = await run(*arguments, data=data)
    assert done.code == 0, done.err
    return done


async def test_list_of_a_third_party_is_brought_shown_and_forgotten(
    data: Path, tmp_path: Path
) -> None:
    corporation = Corporation(datetime.now(UTC).replace(microsecond=0))
    (tmp_path / "ca.cer").write_bytes(corporation.der)
    (tmp_path / "1.crl").write_bytes(corporation.crl(5, 6, number=1))
    (tmp_path / "2.crl").write_bytes(corporation.crl(5, 6, 7, number=2))
    refused = await run("crl", "upload", tmp_path / "1.crl", data=data)
    assert (refused.code, refused.err) == (
        1,
        "fleetroot: no certificate of the CA that issued the list is known\n",
    )
    certificate = ("--issuer", tmp_path / "ca.cer")
    await ok("crl", "upload", tmp_path / "1.crl", *certificate, data=data)
    made = json.loads((await ok("crl", "upload", tmp_path / "2.crl", "--json", data=data)).out)
    assert (made["entries"], made["number"]) == (3, "2")
    assert "Corporate CA" in (await ok("crl", "list", data=data)).out
    again = await run("crl", "upload", tmp_path / "1.crl", data=data)
    assert (again.code, "older" in again.err) == (1, True)
    await ok("crl", "delete", made["id"], data=data)
    assert json.loads((await ok("crl", "list", "--json", data=data)).out)["thirdParty"] == []


async def test_our_own_lists_are_shown(data: Path, fleet: Fleet) -> None:
    await fleet.server.publisher.update()
    own = json.loads((await ok("crl", "list", "--json", data=data)).out)["own"]
    assert len(own) == 17
    assert all(int(one["number"]) > 10**12 for one in own)
