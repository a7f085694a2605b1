"""Reading individual enrollments of a large store as those of a small one, and onboarding by them:
two servers side by side, in turns. Every device is another of the store's, by its own key.

Both stores are in the machine's memory, as that of a server is that has run for a while. Devices
onboard last, because an enrollment is shown with its registration, which costs, too.
"""

from __future__ import annotations

import json
import random
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, Self

from bench.credentials import Attestation, stored_id
from bench.enrollment_store import enrollment_store
from bench.load import Job
from bench.measure import Row, Scale, process_cpu, rate, ratio, take_turns
from bench.processes import DATABASE_FILE, Server, generator, server_on
from bench.store import PKI_URL

_CURVE: Final = "P-256"  # where the cryptography hides the store least
_ROWS: Final = 100  # of a page
_GOAL: Final = "90%"
_BLOCK: Final = 1 << 20
_QUERY: Final = json.dumps({"query": "SELECT * FROM enrollments"})


def rows(scale: Scale, folder: Path) -> list[Row]:
    """Rows for reading one enrollment, for pages of them, and for onboardings.

    Args:
        scale: how much is stored, and how much is asked.
        folder: where the large store is kept.
    """
    with ExitStack() as running:
        made = tempfile.TemporaryDirectory(prefix="fleetroot-bench-")
        anew = Path(running.enter_context(made))
        small_data = enrollment_store(anew, scale.few)  # most of its devices come, and only once
        large_data = enrollment_store(folder, scale.stored)
        _read_into_memory(large_data / DATABASE_FILE)
        small = running.enter_context(_server_on(small_data))
        large = running.enter_context(_server_on(large_data))
        few = running.enter_context(Reader(small, scale.few))
        many = running.enter_context(Reader(large, scale.stored))
        return [
            _reads(few, many, scale),
            _pages(few, many, scale),
            _onboardings(small, large, scale),
        ]


def _server_on(data: Path) -> AbstractContextManager[Server]:
    return server_on(data, "--pki-url", PKI_URL)


def _read_into_memory(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(_BLOCK):
            pass


def _onboardings(small: Server, large: Server, scale: Scale) -> Row:
    devices = min(scale.batch, scale.few // (scale.rounds + 1))
    how = Attestation.STORED_KEY
    with (
        generator(
            small, Job.ONBOARD, _CURVE, devices, attestation=how, stored=scale.few
        ) as to_small,
        generator(
            large, Job.ONBOARD, _CURVE, devices, attestation=how, stored=scale.stored
        ) as to_large,
    ):
        few, many = take_turns(
            scale.rounds, lambda: to_small.cost(small.pid), lambda: to_large.cost(large.pid)
        )
    return _row(f"full onboardings over MQTT, {_CURVE}", scale, few, many)


def _reads(few: Reader, many: Reader, scale: Scale) -> Row:
    small, large = take_turns(
        scale.rounds, lambda: few.read_cost(scale.batch), lambda: many.read_cost(scale.batch)
    )
    return _row("enrollments read by id", scale, small, large)


def _pages(few: Reader, many: Reader, scale: Scale) -> Row:
    small, large = take_turns(
        scale.rounds, lambda: few.page_cost(scale.batch), lambda: many.page_cost(scale.batch)
    )
    return _row(f"pages of {_ROWS} enrollments", scale, small, large)


def _row(what: str, scale: Scale, few: list[float], many: list[float]) -> Row:
    return Row(
        f"{what}, {scale.stored:,} enrolled",
        rate(many),
        f"{scale.few:,} enrolled {rate(few)}",
        ratio(few, many),
        _GOAL,
    )


class Reader:
    """Reads enrollments of one server over the service API, each from anywhere, and all of them
    page by page, over and over.
    """

    def __init__(self, server: Server, stored: int) -> None:
        self._pid = server.pid
        self._stored = stored
        self._http = server.operator()
        self._random = random.Random(1)
        self._continuation: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def read_cost(self, times: int) -> float:
        """The CPU of the server for one enrollment, in seconds."""
        before = process_cpu(self._pid)
        for _ in range(times):
            id_ = stored_id(self._random.randrange(self._stored))
            self._http.get(f"/enrollments/{id_}").raise_for_status()
        return (process_cpu(self._pid) - before) / times

    def page_cost(self, pages: int) -> float:
        """The CPU of the server for a full page, in seconds; the last one may have less."""
        rows, before = 0, process_cpu(self._pid)
        for _ in range(pages):
            headers = {"x-ms-max-item-count": str(_ROWS)}
            if self._continuation is not None:
                headers["x-ms-continuation"] = self._continuation
            answer = self._http.post("/enrollments/query", headers=headers, content=_QUERY)
            answer.raise_for_status()
            rows += len(answer.json())
            self._continuation = answer.headers.get("x-ms-continuation")
        return (process_cpu(self._pid) - before) / rows * _ROWS
