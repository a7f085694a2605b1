"""The command line against a running server: what people and scripts may type."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet import Fleet

COMMAND = Path(sys.executable).with_name("fleetroot")


@dataclass(frozen=True)
class Done:
    code: int | None
    out: str
    err: str


async def run(*arguments: object, data: Path | None = None, **more: str) -> Done:
    """`more`: of the environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEETROOT_")} | more
    if data is not None:
        environment["FLEETROOT_DATA"] = str(data)
    process = await asyncio.create_subprocess_exec(
        str(COMMAND),
        *(str(a) for a in arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize(
    "command",
    [
        ("devices", "show", ""),
        ("devices", "revoke", ""),
        ("certificates", "show", ""),
        ("enrollment", "show", ""),
        ("enrollment", "create", "x", "--policy", "default", "--no-policy"),
    ],
    ids=" ".join,
)
async def test_what_cannot_be_meant_is_a_usage_error(
    fleet: Fleet, command: tuple[str, ...]
) -> None:
    done = await run(*command, data=fleet.server.settings.data)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err


async def test_token_is_not_sent_in_the_clear() -> None:
    done = await run("status", "--server", "http://localhost:1", "--token", "t0ken")
    assert done.code == 2
    assert "https://" in done.err
    assert "t0ken" not in done.err


async def test_server_of_another_ca_is_not_trusted_in_one_line(fleet: Fleet) -> None:
    url = f"https://localhost:{fleet.bootstrap['httpsPort']}"
    done = await run("status", "--server", url, "--token", "t0ken")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "is not trusted; --ca" in done.err


async def test_events_show_what_a_terminal_would_obey_escaped(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(
            "devices/dev-1/messages/events/a%0Ab=x%1B%5B31m", b"\x1b[2Jone\ntwo\xc2\x9b31m"
        )
    done = await run("events", data=fleet.server.settings.data)
    assert len(done.out.splitlines()) == 1
    assert r"\x1b[2Jone\ntwo" in done.out
    assert r"a\nb=x\x1b[31m" in done.out
    assert not {"\x1b", "\x9b"} & set(done.out)


async def test_registration_id_may_be_longer_than_a_common_name(
    fleet: Fleet, tmp_path: Path
) -> None:
    name = "d" * 128
    done = await run(
        *("device", "provision", "--bootstrap", fleet.server.settings.data / "bootstrap.json"),
        *("--registration-id", name, "--out", tmp_path / "device"),
    )
    assert done.code == 0, done.err
    ran = await run("device", "run", "--dir", tmp_path / "device", "--once")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("hostname", ["bad host", "a..b", "-x", "http://x", "ü.example", ""])
async def test_host_name_that_is_none_is_refused_before_anything_is_made(
    tmp_path: Path, hostname: str
) -> None:
    done = await run("up", "--data", tmp_path / "data", f"--hostname={hostname}")
    if hostname:
        assert done.code == 2
        assert "hostname: not a host name or address" in done.err
    else:
        assert done.code == 2
    assert not (tmp_path / "data").exists()


async def test_followed_events_do_not_hold_up_the_end(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with Fleet.running(tmp_path / "data", drain_seconds=8) as fleet:
        waiting = asyncio.create_task(
            fleet.http.get("/fleetroot/events", params={"after": 0, "wait": 20}, timeout=30)
        )
        await asyncio.sleep(0.3)
        start = loop.time()
        await fleet.server.stop()
        assert (await waiting).json()["value"] == []
        assert loop.time() - start < 4


def test_command_does_not_wait_for_imports_of_others() -> None:
    """What asks a server needs no database and no cryptography."""
    program = (
        "import sys; from fleetroot.cli.main import fleetroot;"
        "fleetroot.main(['policy', '--help'], standalone_mode=False);"
        "heavy = {'sqlalchemy', 'cryptography', 'fastapi', 'psycopg'} & {*sys.modules};"
        "print(*sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr.split()) == (0, [])


async def test_operators_find_devices_by_the_word_of_the_api_too(fleet: Fleet) -> None:
    data = fleet.server.settings.data
    made = await run("device", "create", "sensor-1", "--json", data=data)
    assert made.code == 0, made.err
    one, other = [await run(word, "list", "--json", data=data) for word in ("device", "devices")]
    assert [each["deviceId"] for each in json.loads(one.out)] == ["sensor-1"]
    assert one == other
