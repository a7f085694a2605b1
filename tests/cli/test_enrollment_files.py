"""`fleetroot enrollment import` and `export`: files as people have them, good and bad."""

from __future__ import annotations

import base64
import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from test_command_line import Done, run
from test_hub_commands import ok, shown

from fleet import Fleet
from fleetroot.cli.enrollment_files import Form, read_rows
from fleetroot.cli.enrollment_places import INDIVIDUAL

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def import_(data: Path, file: Path, *more: object) -> Any:
    """What `--json` tells; rows may be refused."""
    done = await run("enrollment", "import", file, *more, "--json", data=data)
    assert done.code in (0, 1), done.err
    assert done.out, done.err
    return json.loads(done.out)


async def fails(data: Path, file: Path, *more: object) -> str:
    done = await run("enrollment", "import", file, *more, data=data)
    assert (done.code, len(done.err.splitlines())) == (1, 1), done
    return done.err


async def ids(data: Path) -> list[str]:
    return [each["registrationId"] for each in await shown("enrollment", "list", data=data)]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


async def test_csv_of_a_spreadsheet_is_taken(data: Path, tmp_path: Path) -> None:
    content = (
        "\ufeffregistrationId,Tags,deviceId,iotHubs,credentialPolicyName,quarantine\r\n"
        'dev-1,"{""site"": ""yard\n1""}",press,localhost,default,TRUE\r\n'
        "\r\n"
        "dev-2,,,,,\r\n"
    ).replace("yard\n1", 'yard"", ""hall"":\n""1')
    done = await import_(data, written(tmp_path, "fleet.csv", content))
    assert (done["created"], done["refusedRows"]) == (2, [])
    found = await shown("enrollment", "show", "dev-1", data=data)
    assert found["initialTwin"]["tags"] == {"site": "yard", "hall": "1"}
    assert (found["deviceId"], found["iotHubs"], found["quarantine"]) == (
        "press",
        ["localhost"],
        True,
    )


async def test_semicolons_of_a_european_spreadsheet_are_taken(data: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "fleet.csv", "registrationId;deviceId\ndev-1;press\n")
    assert (await import_(data, file))["created"] == 1
    assert (await shown("enrollment", "show", "dev-1", data=data))["deviceId"] == "press"


async def test_refused_rows_are_told_with_line_id_and_reason(data: Path, tmp_path: Path) -> None:
    content = (
        "registrationId,deviceId,quarantine,tags\n"
        "dev-1,,,\n"
        "-bad-,,,\n"
        "dev-3,,maybe,\n"
        'dev-4,"two\nlines",,\n'
        "dev-5,,,[1]\n"
        "dev-6,,,,surplus\n"
        "DEV-1,,,\n"
        ",x,,\n"
        "=cmd(),,,\n"
    )
    report = tmp_path / "refused.csv"
    done = await import_(data, written(tmp_path, "fleet.csv", content), "--refused", report)
    assert (done["created"], done["refused"]) == (1, 8)
    why = {each["line"]: (each["id"], each["reason"]) for each in done["refusedRows"]}
    assert sorted(why) == [3, 4, 5, 7, 8, 9, 10, 11]
    assert why[4] == ("dev-3", "quarantine is neither true nor false")
    assert why[7] == ("dev-5", "tags is not a JSON object")
    assert why[8] == ("dev-6", "has 5 cells, and the header 4")
    assert why[9] == ("DEV-1", "line 2 has this id already")
    with report.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["line", "id", "reason"]
    assert ["11", "'=cmd()"] in [row[:2] for row in rows]
    assert len(rows) == 9


async def test_json_lines_are_judged_one_by_one(data: Path, tmp_path: Path) -> None:
    good = json.dumps({"registrationId": "dev-1", "attestation": {"type": "symmetricKey"}})
    lines = [
        good.encode(),
        b"{",
        b"[]",
        b'{"registrationId": "dev-2"}',
        b"\xff\xfe",
        b'{"registrationId": "\\ud800", "attestation": {"type": "symmetricKey"}}',
        b"[" * 5000,
        b'{"registrationId": "' + b"x" * 70_000 + b'"}',
        b"",
        good.replace("dev-1", "dev-9").encode(),
    ]
    done = await import_(data, written(tmp_path, "fleet.jsonl", b"\n".join(lines)))
    assert sorted(each["line"] for each in done["refusedRows"]) == [2, 3, 4, 5, 6, 7, 8]
    assert await ids(data) == ["dev-1", "dev-9"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"name,deviceId\n", "there is no column 'name'"),
        (b"deviceId\nx\n", "there must be a column registrationId"),
        (b"registrationId,registrationid\n", "is there twice"),
        ("registrationId,tags\ndev-1,ä\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("registrationId\ndev-1\n".encode("utf-16"), "is UTF-16"),
        (b'registrationId,tags\ndev-1,"\n' + b"x\n" * 100_000, "line 2: the row is not CSV"),
        (b"registrationId\n" + b"x" * 100_000, "line 2 is longer than"),
        (b'registrationId\ndev-1\n"dev-2"x\n', "line 3: the row is not CSV"),
    ],
    ids=["empty", "column", "no id", "twice", "latin-1", "utf-16", "quote", "long", "text"],
)
async def test_file_that_is_no_csv_of_enrollments_ends_in_one_line(
    data: Path, tmp_path: Path, content: bytes, why: str
) -> None:
    said = await fails(data, written(tmp_path, "fleet.csv", content))
    assert why in said
    assert "nothing was done" in said
    assert await ids(data) == []


async def test_interrupted_import_goes_on_when_it_is_run_again(data: Path, tmp_path: Path) -> None:
    lines = [f"dev-{n:04},{KEY},{KEY}" for n in range(1500)]
    head = "registrationId,primaryKey,secondaryKey"
    broken = written(tmp_path, "broken.csv", "\n".join([head, *lines, '"dev-x']))
    assert "was done" in await fails(data, broken)
    assert len(await ids(data)) > 0
    whole = written(tmp_path, "fleet.csv", "\n".join([head, *lines]))
    done = await import_(data, whole, "--skip-existing")
    assert (done["created"] + done["unchanged"], done["refused"]) == (1500, 0)
    assert done["unchanged"] > 0
    again = await import_(data, whole, "--skip-existing")
    assert again["unchanged"] == 1500


async def test_dry_run_refuses_what_the_import_will(data: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "fleet.csv", "registrationId,deviceId\ndev-1,\ndev-2,a b\n")
    tried = await import_(data, file, "--dry-run")
    assert await ids(data) == []
    done = await import_(data, file)
    assert tried == done | {"dryRun": True}
    assert await ids(data) == ["dev-1"]


async def test_rows_are_deleted_by_a_list_of_ids(data: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "fleet.csv", "registrationId\ndev-1\ndev-2\n")
    await import_(data, file)
    assert (await import_(data, file, "--mode", "delete"))["deleted"] == 2
    assert await ids(data) == []


@pytest.mark.parametrize("form", ["csv", "jsonl"])
async def test_export_is_imported_again_as_it_was(data: Path, tmp_path: Path, form: str) -> None:
    plus = base64.b64encode(b"\xfb" * 32).decode()
    assert plus.startswith("+")  # what a spreadsheet would compute
    content = (
        "registrationId,primaryKey,secondaryKey,tags,desiredProperties,iotHubs,iotEdge,"
        "expiryDateTimeUtc,updateHubAssignment,credentialPolicyName\n"
        f'dev-1,{plus},{KEY},"{{""a"":[1,null]}}","{{""b"":""=1+1""}}",localhost,true,'
        "2100-01-01T00:00:00Z,false,default\n"
        "dev-2,,,,,,,,,\n"
    )
    await import_(data, written(tmp_path, "fleet.csv", content))
    out = tmp_path / f"out.{form}"
    await ok("enrollment", "export", out, "--with-keys", data=data)
    before = await shown("enrollment", "list", data=data)
    same = await import_(data, out, "--skip-existing")
    assert (same["unchanged"], same["refused"]) == (2, 0)
    await import_(data, out, "--mode", "delete")
    assert (await import_(data, out))["created"] == 2
    after = await shown("enrollment", "list", data=data)
    changing = ("etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc")
    for each in (*before, *after):
        for name in changing:
            each.pop(name)
    assert after == before
    if form == "csv":
        assert f"'{plus}" in out.read_text()


async def test_export_with_keys_is_for_its_owner_only(data: Path, tmp_path: Path) -> None:
    made = await shown("enrollment", "create", "dev-1", data=data)
    key = made["attestation"]["symmetricKey"]["primaryKey"]
    out = written(tmp_path, "out.jsonl", "old")
    await ok("enrollment", "export", out, data=data)
    assert key not in out.read_text()
    await ok("enrollment", "export", out, "--with-keys", data=data)
    assert key in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.jsonl"]


async def test_groups_are_written_to_the_output_and_taken_again(data: Path, tmp_path: Path) -> None:
    out: Done = await ok("enrollment-group", "export", "-", "--format", "jsonl", data=data)
    assert [json.loads(line)["enrollmentGroupId"] for line in out.out.splitlines()] == ["default"]
    file = written(tmp_path, "groups.jsonl", out.out)
    done = await run(*("enrollment-group", "import", file, "--skip-existing", "--json"), data=data)
    assert json.loads(done.out)["unchanged"] == 1


@pytest.mark.parametrize("form", [Form.CSV, Form.JSON_LINES])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: Form) -> None:
    file = tmp_path / "fleet"
    with file.open("w") as out:
        if form is Form.CSV:
            out.write("registrationId,tags\n")
        for n in range(100_000):
            tags = json.dumps({"a": "x" * 200})
            if form is Form.CSV:
                csv.writer(out).writerow((f"dev-{n}", tags))
            else:
                out.write(json.dumps({"registrationId": f"dev-{n}", "t": tags}) + "\n")
    assert file.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        with file.open("rb") as source:
            assert sum(not row.refused for row in read_rows(source, form, INDIVIDUAL)) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
