"""Listing and paging with a large store as with a small one: two servers side by side, in turns."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx

from bench.measure import Row, Scale, process_cpu, rate, ratio, take_turns
from bench.processes import Server, server_on
from bench.store import PKI_URL, large_store

_ROWS = 100  # of a page
_GOAL = "90%"
Page: TypeAlias = dict[str, Any]


class Operator:
    """Asks one server for pages, each from where the one before ended, and from anywhere again
    when there are no more.
    """

    def __init__(self, server: Server) -> None:
        self._pid = server.pid
        self._http = server.operator()
        status = self._http.get("/fleetroot/status").json()
        self._authority = status["policies"][0]["issuingAuthority"]
        self._certificates = int(status["certificates"])
        self._random = random.Random(1)
        self._next: dict[str, Any] = {}

    def close(self) -> None:
        self._http.close()

    def cost(self, what: str, pages: int) -> float:
        """The CPU of the server for a full page, in seconds; the last page of a list has less."""
        ask, rows = _ASKS[what], 0
        before = process_cpu(self._pid)
        for _ in range(pages):
            page = ask(self, self._next.get(what))
            rows += len(page["value"])
            self._next[what] = page["next"]
        return (process_cpu(self._pid) - before) / rows * _ROWS

    def devices(self, after: Any) -> Page:
        """From anywhere: behind some digits, of which ids are made."""
        if after is None:
            after = f"press-{self._random.randrange(8):x}"
        return self._get("/fleetroot/devices", after=after)

    def certificates(self, before: Any) -> Page:
        """From anywhere: below some number."""
        if before is None:
            before = self._random.randrange(_ROWS, self._certificates + 1)
        return self._get("/fleetroot/certificates", before=before)

    def incident(self, after: Any) -> Page:
        """What a CA issued."""
        asked = {"authority": self._authority, "after": after, "limit": _ROWS}
        path = "/fleetroot/namespaces/default/incidents/certificates"
        return self._page(self._http.post(path, json=asked))

    def registrations(self, continuation: Any) -> Page:
        """What a group left behind."""
        headers = {"x-ms-max-item-count": str(_ROWS)}
        if continuation is not None:
            headers["x-ms-continuation"] = continuation
        answer = self._http.post("/registrations/default/query", headers=headers)
        answer.raise_for_status()
        return {"value": answer.json(), "next": answer.headers.get("x-ms-continuation")}

    def _get(self, path: str, **query: Any) -> Page:
        return self._page(self._http.get(path, params=query | {"limit": _ROWS}))

    @staticmethod
    def _page(answer: httpx.Response) -> Page:
        answer.raise_for_status()
        page: Page = answer.json()
        return page


_ASKS: Final[dict[str, Callable[[Operator, Any], Page]]] = {
    "devices": Operator.devices,
    "certificates": Operator.certificates,
    "certificates of a CA": Operator.incident,
    "registrations of a group": Operator.registrations,
}


def rows(scale: Scale, folder: Path) -> list[Row]:
    """A row for each kind of list.

    Args:
        scale: how much is stored, and how much is asked.
        folder: where the stores are kept.
    """
    with ExitStack() as running:
        few, many = (
            Operator(running.enter_context(server_on(data, "--pki-url", PKI_URL)))
            for data in (large_store(folder, scale.few), large_store(folder, scale.stored))
        )
        running.callback(few.close)
        running.callback(many.close)
        return [_row(few, many, scale, what) for what in _ASKS]


def _row(few: Operator, many: Operator, scale: Scale, what: str) -> Row:
    small, large = take_turns(
        scale.rounds, lambda: few.cost(what, scale.batch), lambda: many.cost(what, scale.batch)
    )
    return Row(
        f"pages of {_ROWS} {what}, {scale.stored:,} stored",
        rate(large),
        f"{scale.few:,} stored {rate(small)}",
        ratio(small, large),
        _GOAL,
    )
