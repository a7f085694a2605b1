"""Certificates over the wire on PostgreSQL beside SQLite, for information: the CPU is that of the
server's process, and PostgreSQL's own comes on top.
"""

from __future__ import annotations

from bench.load import Job
from bench.measure import Row, Scale, rate, ratio, take_turns
from bench.processes import Server, generator, new_server

_LINES = 64


def rows(scale: Scale, url: str | None) -> list[Row]:
    """One row for each curve.

    Args:
        scale: how much is done.
        url: of an empty database, which is filled; None for no rows.
    """
    if url is None:
        return []
    with new_server() as sqlite, new_server("--database-url", url) as postgresql:
        return [_row(sqlite, postgresql, scale, curve) for curve in scale.curves]


def _row(sqlite: Server, postgresql: Server, scale: Scale, curve: str) -> Row:
    lines = min(_LINES, scale.batch)
    shape = {"devices": lines, "times": scale.batch // lines}
    with (
        generator(sqlite, Job.ISSUE, curve, **shape) as to_sqlite,
        generator(postgresql, Job.ISSUE, curve, **shape) as to_postgresql,
    ):
        one, other = take_turns(
            scale.rounds,
            lambda: to_sqlite.cost(sqlite.pid),
            lambda: to_postgresql.cost(postgresql.pid),
        )
    return Row(
        f"certificates over kept MQTT, {curve}, PostgreSQL",
        rate(other),
        f"SQLite {rate(one)}",
        ratio(one, other),
    )
