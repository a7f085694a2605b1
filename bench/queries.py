"""Queries over a large hub and over a small one: how many devices a search goes through for a
second of the CPU of the server, and how long who asks waits.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.measure import Row, Scale, Spread, process_cpu, rate, ratio, take_turns
from bench.processes import Server, server_on
from bench.store import PKI_URL, large_store

_ALL: Final = "SELECT * FROM devices"
_QUERIES: Final = {
    "one in all, by a tag": f"{_ALL} WHERE tags.row = -1 OR properties.reported.firmware = 'x'",
    "counts by a tag": "SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site",
    "first page by a tag": f"{_ALL} ORDER BY tags.row",
    "certificates that end soon": f"{_ALL} WHERE certificate.notAfter < '2020-01-01'",
}


class _Asker:
    """Asks one server, and goes through all pages that have nothing."""

    def __init__(self, server: Server, devices: int) -> None:
        self._pid = server.pid
        self._http = server.operator()
        self._http.timeout = 120.0
        self.devices = devices
        self.seconds: dict[str, list[float]] = {}

    def close(self) -> None:
        self._http.close()

    def cost(self, query: str) -> float:
        """The CPU of the server for each device of its hub, in seconds."""
        before, start = process_cpu(self._pid), time.perf_counter()
        headers: dict[str, str] = {}
        while True:
            path = "/fleetroot/hubs/default/query"
            answer = self._http.post(path, json={"query": query}, headers=headers)
            assert answer.status_code == 200, answer.text
            found: list[Any] = answer.json()
            token = answer.headers.get("x-ms-continuation")
            if found or token is None:
                break
            headers["x-ms-continuation"] = token
        self.seconds.setdefault(query, []).append(time.perf_counter() - start)
        return (process_cpu(self._pid) - before) / self.devices


def rows(scale: Scale, folder: Path) -> list[Row]:
    """A row for each query.

    Args:
        scale: how much is done.
        folder: where the large store is kept.
    """
    with ExitStack() as running:
        few_folder = running.enter_context(tempfile.TemporaryDirectory(prefix="fleetroot-bench-"))
        askers = []
        for place, devices in (Path(few_folder), scale.few), (folder, scale.stored):
            data = large_store(place, devices)
            server = running.enter_context(server_on(data, "--pki-url", PKI_URL))
            askers.append(_Asker(server, devices))
            running.callback(askers[-1].close)
        few, many = askers
        return [_row(few, many, scale, what, query) for what, query in _QUERIES.items()]


def _row(few: _Asker, many: _Asker, scale: Scale, what: str, query: str) -> Row:
    rounds = min(scale.rounds, 3)
    small, large = take_turns(rounds, lambda: few.cost(query), lambda: many.cost(query))
    seconds = Spread.of(many.seconds[query]).median
    return Row(
        f"queries, {what}, {many.devices:,} devices",
        f"{rate(large)}, {seconds:.1f} s",
        f"{few.devices:,} devices {rate(small)}",
        ratio(small, large),
    )
