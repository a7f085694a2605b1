"""A PKCS#11 token: threads that sign in it, and what happens when it goes away.

Every call of the module is made by one of the token's own threads, each with a session; whoever
waits for one waits for a bounded time, so a module that hangs takes nothing else along. A call that
fails because sessions or the token are gone is made once more in a new session, then once more with
the module initialised anew. If that fails too the token is away: callers are told so at once, and
one of them now and then finds out whether it is back. A refused PIN is not tried again, because a
token locks itself after a few.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from fleetroot.custody.cryptoki import CryptokiError, Mechanism, ModuleBusy
from fleetroot.custody.session import (
    CLOSE_SECONDS,
    PIN_REFUSED,
    REFUSES,
    KeyNotInToken,
    Session,
    TokenAway,
    TokenConfig,
    TokenState,
    release,
    share,
)
from fleetroot.errors import Unavailable

T = TypeVar("T")

_MOST_WAITING: Final = 1024


class _Away(NamedTuple):
    why: str
    next_look: float


class _Mine(threading.local):
    """What a thread has of this token."""

    session: Session | None = None
    works: bool = False


class Token:
    """A token that was configured. Safe to share between threads."""

    def __init__(
        self,
        config: TokenConfig,
        on_change: Callable[[TokenState], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises:
        ModuleUnusable: the module cannot be loaded.
        """
        self.name = config.name
        self._config = config
        self._module = share(config.module)
        self._on_change = on_change
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._recovering = threading.Lock()
        self._opening = threading.Lock()
        self._pin_refused: CryptokiError | None = None
        self._away: _Away | None = None
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Future[object]] | None]
        self._jobs = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False
        self._mine = _Mine()

    def __repr__(self) -> str:
        return f"Token({self.name!r}, label={self._config.label!r})"

    @property
    def state(self) -> TokenState:
        """How it stands, as far as is known."""
        away = self._away
        return TokenState(self.name, away.why if away else None)

    # --- where it runs

    async def run(self, job: Callable[[], T]) -> T:
        """Runs `job`, which signs with this token, in one of its threads.

        Raises:
            TokenAway: it is away, or does not answer in time.
        """
        future = self._submit(job)
        try:
            async with asyncio.timeout(self._config.timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            future.cancel()
            raise self._hangs() from None

    def call(self, job: Callable[[], T]) -> T:
        """Like `run`, for a thread that may wait; in a thread of the token it runs at once.

        Raises:
            TokenAway: it is away, or does not answer in time.
        """
        if self._mine.works:
            return job()
        future = self._submit(job)
        try:
            return future.result(self._config.timeout)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise self._hangs() from None

    def _submit(self, job: Callable[[], T]) -> Future[T]:
        with self._lock:
            away = self._away
            if away is not None:
                if self._monotonic() < away.next_look:
                    raise TokenAway(self.name, away.why)
                # This one looks; who comes meanwhile is told what is known.
                self._away = away._replace(next_look=self._monotonic() + self._config.retry_seconds)
            if self._closed:
                raise TokenAway(self.name, "the server stops")
            if self._jobs.qsize() >= _MOST_WAITING:
                raise TokenAway(self.name, "too many wait for it")
            future: Future[T] = Future()
            self._jobs.put((job, future))  # type: ignore[arg-type]  # it is of any type
            if not self._idle and len(self._threads) < self._config.threads:
                # Daemons: a call that hangs must not keep the process from ending.
                thread = threading.Thread(
                    target=self._work, name=f"fleetroot-token-{self.name}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        return future

    def _work(self) -> None:
        self._mine.works = True
        while True:
            with self._lock:
                self._idle += 1
            taken = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if taken is None:
                break
            job, future = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                future.set_exception(error)
            del job, future, taken
        with suppress(CryptokiError), self._module.used():
            self._drop_session()

    # --- calls, in the token's threads

    def sign(self, key_id: bytes, mechanism: Mechanism, data: bytes) -> bytes:
        """The signature as the mechanism has it.

        Raises:
            TokenAway: the token does not answer now.
            KeyNotInToken: it does not hold this key, or more than one of that id.
            Unavailable: it answers, and will not sign.
        """

        def sign(session: Session) -> bytes:
            signature = session.sign(key_id, mechanism, data)
            if signature is None:
                raise KeyNotInToken(self.name, key_id)
            return signature

        try:
            return self.use(sign)
        except CryptokiError as error:
            raise Unavailable(
                "a key that this needs is not available now",
                reason=f"token does not sign: {self.name}, {error}",
            ) from error

    def use(self, operation: Callable[[Session], T], *, writing: bool = False) -> T:
        """What `operation` gives, in a session; it may run more than once.

        Raises:
            TokenAway: the token does not answer now.
            CryptokiError: the token answers, and will not do this.
        """
        return self.call(lambda: self._use(operation, writing=writing))

    def look(self) -> None:
        """Finds out whether the token is there. Who is interested is told by `on_change`."""

        def is_there(session: Session) -> None:
            self._module.slot_of(self._config.label)
            self._module.check_session(session.handle)

        try:
            self.use(is_there)
        except (TokenAway, CryptokiError):
            return  # and `on_change` was called, if that is new

    def _use(self, operation: Callable[[Session], T], *, writing: bool) -> T:
        epoch = self._module.epoch
        try:
            value = self._attempt(operation, writing=writing)
        except CryptokiError as error:
            self._check_gone(error)
            value = self._recover(operation, epoch, writing=writing)
        self._is_back()
        return value

    def _recover(self, operation: Callable[[Session], T], epoch: int, *, writing: bool) -> T:
        known = self._away
        with self._recovering:
            if self._away is not known and self._away is not None:
                raise TokenAway(self.name, self._away.why)  # another thread has just tried
            try:
                return self._attempt(operation, writing=writing)
            except CryptokiError as error:
                self._check_gone(error)
            try:
                self._module.initialize_anew(epoch, self._config.timeout / 2)
                return self._attempt(operation, writing=writing)
            except CryptokiError as error:
                self._check_gone(error)
                raise self._is_away(str(error)) from error
            except ModuleBusy as error:
                raise self._is_away(str(error)) from error

    def _attempt(self, operation: Callable[[Session], T], *, writing: bool) -> T:
        with self._module.used():
            if writing:
                session = self._open(writing=True)
                try:
                    return operation(session)
                finally:
                    self._close(session)
            session = self._mine.session or self._open(writing=False)
            if session.epoch != self._module.epoch:
                session = self._open(writing=False)
            self._mine.session = session
            try:
                return operation(session)
            except CryptokiError:
                self._drop_session()
                raise

    def _open(self, *, writing: bool) -> Session:
        # One at a time, so that a PIN is refused once and not once for every thread.
        with self._opening:
            if self._pin_refused is not None:
                raise self._pin_refused
            try:
                return Session(self._module, self._config.label, self._config.pin, writing=writing)
            except CryptokiError as error:
                if error.rv in PIN_REFUSED:
                    self._pin_refused = error
                raise

    def _drop_session(self) -> None:
        session, self._mine.session = self._mine.session, None
        if session is not None:
            self._close(session)

    def _close(self, session: Session) -> None:
        if session.epoch != self._module.epoch:
            return  # its handle may be another session's by now
        try:
            self._module.close_session(session.handle)
        except CryptokiError:
            return  # it is over

    # --- how it stands

    def _check_gone(self, error: CryptokiError) -> None:
        """Raises:
        TokenAway: the PIN was refused.
        CryptokiError: the token is there and refuses.
        """
        if error.rv in PIN_REFUSED:
            why = f"{error}; the PIN is not tried again before the next start"
            raise self._is_away(why, for_ever=True) from error
        if error.rv in REFUSES:
            self._is_back()
            raise error

    def _hangs(self) -> TokenAway:
        return self._is_away(f"no answer within {self._config.timeout:g} seconds")

    def _is_away(self, why: str, *, for_ever: bool = False) -> TokenAway:
        with self._lock:
            before = self._away
            if before is None or before.next_look != float("inf"):
                next_look = self._monotonic() + self._config.retry_seconds
                self._away = _Away(why, float("inf") if for_ever else next_look)
        if before is None:
            self._on_change(TokenState(self.name, why))
        return TokenAway(self.name, why)

    def _is_back(self) -> None:
        if self._away is None:
            return
        with self._lock:
            before, self._away = self._away, None
        if before is not None:
            self._on_change(TokenState(self.name, None))

    def close(self) -> None:
        """Ends the threads and lets go of the module; a thread whose call hangs is left."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        until = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        # C_Finalize may hang too.
        last = threading.Thread(target=release, args=(self._config.module,), daemon=True)
        last.start()
        last.join(2 * CLOSE_SECONDS)
