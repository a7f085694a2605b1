"""A bounded number of threads that work on jobs, each with something of its own to keep.

The thread that became idle last works next, so that a quiet program needs one of them, whose
connection is warm, and starts more only when jobs wait for each other. That is what a queue of the
standard library, which wakes whoever waits longest, does not do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

J = TypeVar("J")
J_contra = TypeVar("J_contra", contravariant=True)


class Worker(Protocol[J_contra]):
    """What a thread does."""

    def work(self, job: J_contra) -> None:
        """Does one job. Never raises."""
        ...

    def close(self) -> None:
        """Lets go of what it keeps."""
        ...


class _Idle(Generic[J]):
    """A thread that waits for a job; None: there will be none."""

    __slots__ = ("job", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.job: J | None = None


class Threads(Generic[J]):
    """Up to `most` threads; `make` makes the worker of a new one. Jobs are taken up in order."""

    def __init__(self, name: str, most: int, make: Callable[[], Worker[J]]) -> None:
        self._name = name
        self._most = most
        self._make = make
        self._lock = threading.Lock()
        self._jobs: deque[J] = deque()
        self._idle: list[_Idle[J]] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    def put(self, job: J) -> bool:
        """Has a thread do the job; False if they are closed."""
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                waiting = self._idle.pop()
                waiting.job = job
                waiting.wake.release()
                return True
            self._jobs.append(job)
            if len(self._threads) < self._most:
                name = f"fleetroot-{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name)
                self._threads.append(thread)
                thread.start()
            return True

    def _run(self) -> None:
        worker, waiting = self._make(), _Idle[J]()
        while (job := self._next(waiting)) is not None:
            worker.work(job)
            del job  # what it holds is not to live until the next one comes
        worker.close()

    def _next(self, waiting: _Idle[J]) -> J | None:
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            if self._closed:
                return None
            self._idle.append(waiting)
        waiting.wake.acquire()
        job, waiting.job = waiting.job, None
        return job

    def close(self) -> None:
        """Waits until what was accepted is done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.wake.release()
        for thread in self._threads:
            thread.join()
