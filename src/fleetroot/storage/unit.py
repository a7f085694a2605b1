"""What a room sees of a database: transactions, and a store that runs units of work in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from fleetroot.storage.prepared import Command, Query

R = TypeVar("R")
T = TypeVar("T")


class Transaction(Protocol):
    """One unit of work's view of the database."""

    def first(self, query: Query[R], /, **parameters: Any) -> R | None:
        """The first row, or None."""
        ...

    def all(self, query: Query[R], /, **parameters: Any) -> list[R]:
        """Every row."""
        ...

    def run(self, command: Command, /, **parameters: Any) -> int:
        """Runs the command and returns how many rows it changed."""
        ...

    def run_many(self, command: Command, rows: Iterable[Mapping[str, Any]], /) -> int:
        """Runs the command with each row's parameters, and returns how many rows all of it
        changed.
        """
        ...


class Store(Protocol):
    """A database."""

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        """Runs `unit` on one snapshot and returns its value.

        Raises:
            Unavailable: the database cannot answer now.
        """
        ...

    async def search(self, unit: Callable[[Transaction], T], seconds: float) -> T:
        """Like `read`, for what may look at many rows: aside from all other reads, and with an end.
        Its statements may read JSON (`storage.json_values`).

        Args:
            unit: what to run.
            seconds: how long a statement of it may take.

        Raises:
            TimedOut: it took longer.
            Unavailable: the database cannot answer now.
        """
        ...

    def write(self, unit: Callable[[Transaction], T]) -> Awaitable[T]:
        """Runs `unit` atomically and returns its value once the commit is durable. What `unit`
        raises leaves nothing behind and is raised here. `unit` may run more than once, so it has
        no effect but through its transaction.

        Raises:
            Unavailable: the database cannot answer now. Nothing of `unit` was kept; or all of it,
                when a network took the answer to COMMIT away, which then is the `reason`.
        """
        ...

    def submit(self, unit: Callable[[Transaction], object]) -> None:
        """Like `write`, for what nobody waits for; a failure is logged."""
        ...

    def close(self) -> None:
        """Finishes the units that were accepted and closes the database."""
        ...


class ConstraintViolated(Exception):
    """A write met a uniqueness or reference rule of the schema."""
