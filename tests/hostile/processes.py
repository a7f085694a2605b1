"""The processes of a hostile day: the server, the honest fleet and the attackers, each with a CPU
and a memory of its own to look at.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

HERE = Path(__file__).parent
_START_SECONDS = 60.0
_COUNTED = re.compile(
    r'^fleetroot_refusals_total\{kind="([^"]*)",reason="([^"]*)"\} ([0-9.e+]+)$', re.MULTILINE
)


def _environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLEETROOT_")}
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)} | more


@dataclass
class ServerProcess:
    """A server, as `fleetroot up` runs it."""

    process: asyncio.subprocess.Process
    bootstrap: dict[str, Any]
    log: Path

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, **settings: object) -> AsyncIterator[Self]:
        log = folder / "server.log"
        names = {f"FLEETROOT_{name.upper()}": str(value) for name, value in settings.items()}
        ports = ("--mqtt-port", "0", "--https-port", "0", "--console-port", "0", "--http-port", "0")
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from fleetroot.cli.main import main; main()",
                *("up", "--data", str(folder / "data"), "--log-format", "json", *ports),
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=_environment(**names),
            )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(_START_SECONDS):
                ready = await process.stdout.readline()
            assert b"ready" in ready, log.read_text()
            bootstrap = json.loads((folder / "data" / "bootstrap.json").read_text())
            yield cls(process, bootstrap, log)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    @property
    def cpu(self) -> float:
        """Seconds of CPU since the start."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    async def refusals(self) -> Counter[tuple[str, str]]:
        """How often what was refused, by kind and reason."""
        url = f"https://{self.bootstrap['bind']}:{self.bootstrap['httpsPort']}/metrics"
        # Dialled anew, and from an address of its own: nobody's failures are its.
        trust = ssl.create_default_context(cafile=self.bootstrap["serverCaFile"])
        transport = httpx.AsyncHTTPTransport(verify=trust, local_address="127.0.0.200")
        headers = {"authorization": f"Bearer {self.bootstrap['adminToken']}"}
        async with httpx.AsyncClient(transport=transport, headers=headers, timeout=30) as client:
            text = (await client.get(url)).text
        return Counter({(k, r): int(float(n)) for k, r, n in _COUNTED.findall(text)})


@dataclass
class Party:
    """A process that is told what to do in lines of JSON, and answers each with one."""

    process: asyncio.subprocess.Process

    @classmethod
    @asynccontextmanager
    async def running(cls, script: str, bootstrap: dict[str, Any]) -> AsyncIterator[Self]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / script),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            limit=1 << 24,
        )
        party = cls(process)
        try:
            await party.tell(bootstrap=bootstrap)
            yield party
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def tell(self, **order: Any) -> dict[str, Any]:
        """Gives an order and returns its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        await self.process.stdin.drain()
        line = await self.process.stdout.readline()
        assert line, "the party is over"
        answer: dict[str, Any] = json.loads(line)
        return answer


async def orders() -> AsyncIterator[dict[str, Any]]:
    """In a party: the orders, one after the other."""
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def answer(**values: Any) -> None:
    """In a party: answers an order."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
