"""Direct methods: a service calls a device that is connected, and waits for its answer.

A call lives in memory, on the node that holds the device's connection, and for as long as its
caller waits. Nothing of it is stored: what becomes of a call whose answer is lost, only the device
knows. A device that listens costs no look at the database.

A call may wait for its device to connect, and then to read; a device that reads nothing is sent
nothing more, so of what waits for it at most one payload is in its buffer beyond what it buffers
anyway. Each call has a request id of its own, drawn at random, and only the session that it was
sent on can answer it.

Calls are data, as messages are: they are counted, and are not in the audit log.

Source: Azure IoT Hub, "Understand and invoke direct methods from IoT Hub".
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import orjson

from fleetroot.errors import (
    BadDeviceAnswer,
    ConnectionClosed,
    DeviceNotOnline,
    FleetrootError,
    InvalidArgument,
    NotFound,
    Throttled,
    TimedOut,
    TooLarge,
    Unavailable,
)
from fleetroot.hub import identities
from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import Channel, Hub
from fleetroot.storage import Store

MAX_NAME: Final = 128
MAX_PAYLOAD_BYTES: Final = 128 * 1024
RESPONSE_SECONDS: Final = 30  # that a caller waits who says nothing
SHORTEST_RESPONSE: Final = 5
LONGEST: Final = 300  # seconds, of either time-out
_MAX_WAITING_BYTES: Final = 64 * 1024 * 1024  # of the payloads of all calls
# What passes a topic and a URL as it is: the characters that encodeURIComponent leaves.
_NAME: Final = re.compile(r"[A-Za-z0-9\-_.!~*'()]{1,128}", re.ASCII)
_STATUS: Final = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_INT32: Final = range(-(2**31), 2**31)

_Place: TypeAlias = tuple[str, str]  # a hub's id, and the canonical id of a device


@dataclass(frozen=True, slots=True)
class MethodRules:
    """How many calls may wait.

    Attributes:
        of_device: for one device.
        in_all: for all devices together.
    """

    of_device: int = 20
    in_all: int = 10_000


@dataclass(frozen=True, slots=True)
class MethodCall:
    """What a service asks of a device.

    Attributes:
        payload: JSON, in UTF-8; never empty.
        response_timeout: seconds that the device has to answer once it is there.
        connect_timeout: seconds that it has to be there.
    """

    name: str
    payload: bytes
    response_timeout: float = RESPONSE_SECONDS
    connect_timeout: float = 0.0


class MethodAnswer(NamedTuple):
    """What a device answered: its own status, and JSON in UTF-8, never empty."""

    status: int
    payload: bytes


def make_call(
    name: str,
    payload: bytes,
    response_timeout: int | None = None,
    connect_timeout: int | None = None,
) -> MethodCall:
    """A call from what a service says; the payload is JSON.

    Raises:
        InvalidArgument: the name or a time-out is not one; the message says which.
        TooLarge: the payload is.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"methodName: 1 to {MAX_NAME} letters, digits and - _ . ! ~ * ' ( )")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TooLarge(f"payload: at most {MAX_PAYLOAD_BYTES} bytes of JSON")
    response = RESPONSE_SECONDS if response_timeout is None else response_timeout
    if not SHORTEST_RESPONSE <= response <= LONGEST:
        raise InvalidArgument(f"responseTimeoutInSeconds: {SHORTEST_RESPONSE} to {LONGEST}")
    connect = 0 if connect_timeout is None else connect_timeout
    if not 0 <= connect <= LONGEST:
        raise InvalidArgument(f"connectTimeoutInSeconds: 0 to {LONGEST}")
    return MethodCall(name, payload or b"null", response, connect)


class _Calls:
    """What one session was asked and has not answered.

    Attributes:
        answers: by request id.
        unsent: those of them that wait until the device reads, the oldest first.
    """

    __slots__ = ("answers", "unsent")

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Future[MethodAnswer]] = {}
        self.unsent: dict[str, MethodCall] = {}


class Methods:
    """The calls of this node that wait for an answer."""

    def __init__(
        self,
        store: Store,
        live: LiveTable,
        rules: MethodRules | None = None,
        watch: Callable[[str, float], None] = lambda _outcome, _seconds: None,
    ) -> None:
        """`watch` is told of each call what came of it, in a word, and after how many seconds."""
        self._store = store
        self._live = live
        self._rules = rules or MethodRules()
        self._watch = watch
        self._calls: dict[LiveSession, _Calls] = {}
        self._absent: dict[_Place, set[asyncio.Future[None]]] = {}
        self._waiting: Counter[_Place] = Counter()
        self._count = 0
        self._bytes = 0
        self._stopping = False

    def __len__(self) -> int:
        return self._count

    # --- what services do

    async def call(self, hub: Hub, device_key: str, call: MethodCall) -> MethodAnswer:
        """Calls a device, and waits for what it answers.

        Raises:
            NotFound: the hub does not know the device.
            DeviceNotOnline: it did not connect, and listen to methods, in time.
            ConnectionClosed: its connection ended before it answered.
            TimedOut: it did not answer in time.
            BadDeviceAnswer: what it answered is not JSON, too large, or without a status.
            Throttled: too many calls wait, for it or in all.
            Unavailable: the server stops, or the database cannot answer now.
        """
        start, outcome = time.perf_counter(), "cancelled"
        place, size = (hub.id, device_key), len(call.payload)
        self._admit(place, size)
        try:
            session = self._listening(hub, device_key)
            if session is None:
                session = await self._when_it_listens(hub, device_key, call.connect_timeout)
            answer = await self._when_it_answers(session, call)
            outcome = "answered"
        except FleetrootError as error:
            outcome = error.code.name.lower()
            raise
        else:
            return answer
        finally:
            self._dismiss(place, size)
            self._watch(outcome, time.perf_counter() - start)

    def _admit(self, place: _Place, size: int) -> None:
        if self._stopping:
            raise Unavailable("the server stops", retry_after=1)
        if self._waiting.get(place, 0) >= self._rules.of_device:
            self._watch("throttled", 0.0)
            raise Throttled(
                f"{self._rules.of_device} calls wait for the device",
                retry_after=1,
                reason="too many calls wait for one device",
            )
        if self._count >= self._rules.in_all or self._bytes + size > _MAX_WAITING_BYTES:
            self._watch("throttled", 0.0)
            raise Throttled("too many calls wait", retry_after=1)
        self._waiting[place] += 1
        self._count += 1
        self._bytes += size

    def _dismiss(self, place: _Place, size: int) -> None:
        self._count -= 1
        self._bytes -= size
        self._waiting[place] -= 1
        if not self._waiting[place]:
            del self._waiting[place]

    def _listening(self, hub: Hub, device_key: str) -> LiveSession | None:
        session = self._live.on(hub, device_key)
        if session is None or session.ended is not None:
            return None
        return session if Channel.METHODS in session.subscriptions else None

    async def _when_it_listens(self, hub: Hub, device_key: str, seconds: float) -> LiveSession:
        known = await self._store.read(lambda tx: identities.find(tx, hub.id, device_key))
        if known is None:
            raise NotFound("no such device on this hub")
        place = (hub.id, device_key)
        try:
            async with asyncio.timeout(seconds):
                while (session := self._listening(hub, device_key)) is None:
                    came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._absent.setdefault(place, set()).add(came)
                    try:
                        await came
                    finally:
                        self._forget(place, came)
                return session
        except TimeoutError:
            why = "the device is not connected, or does not listen to methods"
            raise DeviceNotOnline(why) from None

    def _forget(self, place: _Place, came: asyncio.Future[None]) -> None:
        futures = self._absent.get(place)
        if futures is not None:
            futures.discard(came)
            if not futures:
                del self._absent[place]

    async def _when_it_answers(self, session: LiveSession, call: MethodCall) -> MethodAnswer:
        calls = self._calls.get(session)
        if calls is None:
            calls = self._calls[session] = _Calls()
        request_id = secrets.token_hex(8)
        answered: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        calls.answers[request_id] = answered
        try:
            async with asyncio.timeout(call.response_timeout):
                if calls.unsent or not _send(session, request_id, call):
                    calls.unsent[request_id] = call
                return await answered
        except TimeoutError:
            raise TimedOut("the device did not answer in time") from None
        finally:
            calls.unsent.pop(request_id, None)
            del calls.answers[request_id]
            if not calls.answers and self._calls.get(session) is calls:
                del self._calls[session]

    # --- what devices do

    def answer(self, session: LiveSession, request_id: str, status: str, payload: bytes) -> None:
        """Takes a device's answer; `status` is as it wrote it.

        Raises:
            InvalidArgument: it is to no call that waits on this session: one of another device,
                one that was answered, or whose caller waits no more.
            BadDeviceAnswer: it is none, and that is what its caller was told.
        """
        calls = self._calls.get(session)
        answered = None if calls is None else calls.answers.get(request_id)
        if answered is None or answered.done():
            raise InvalidArgument("answer to no call")
        try:
            answer = _read_answer(status, payload)
        except BadDeviceAnswer as error:
            answered.set_exception(error)
            raise
        answered.set_result(answer)

    def go_on(self, session: LiveSession) -> None:
        """To be called when a device begins to listen, and when it reads again."""
        principal = session.principal
        for came in self._absent.get((principal.hub.id, principal.device_key), ()):
            if not came.done():
                came.set_result(None)
        calls = self._calls.get(session)
        while calls is not None and calls.unsent:
            request_id, call = next(iter(calls.unsent.items()))
            if not _send(session, request_id, call):
                return
            del calls.unsent[request_id]

    def left(self, session: LiveSession) -> None:
        """A device's connection is over: nobody will answer on it."""
        calls = self._calls.pop(session, None)
        if calls is not None:
            for answered in calls.answers.values():
                if not answered.done():
                    answered.set_exception(
                        ConnectionClosed("the device's connection ended before it answered")
                    )

    def stop(self) -> None:
        """Lets nobody wait for a device to connect any more."""
        self._stopping = True
        for futures in self._absent.values():
            for came in futures:
                if not came.done():
                    came.set_exception(Unavailable("the server stops", retry_after=1))


def _send(session: LiveSession, request_id: str, call: MethodCall) -> bool:
    return session.connection.call_method(request_id, call.name, call.payload)


def _read_answer(status: str, payload: bytes) -> MethodAnswer:
    """Raises:
    BadDeviceAnswer: it is none; the message says why.
    """
    if not _STATUS.fullmatch(status) or int(status) not in _INT32:
        raise BadDeviceAnswer(
            "the device answered with a status that is no 32-bit integer",
            reason="method answer without a status",
        )
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise BadDeviceAnswer(
            f"the device answered with more than {MAX_PAYLOAD_BYTES} bytes",
            reason="method answer too large",
        )
    if not payload:
        return MethodAnswer(int(status), b"null")
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise BadDeviceAnswer(
            "the device answered with something that is not JSON",
            reason="method answer is not JSON",
        ) from None
    return MethodAnswer(int(status), payload)
