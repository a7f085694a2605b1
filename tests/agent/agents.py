"""Agents for tests: in a thread beside the server's event loop, or as the command itself.

An agent's waits after failures cost no time here: its bell moves its clock by them instead.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fleet import SECONDS, Certified, Fleet
from fleetroot.agent.backoff import Backoff
from fleetroot.agent.bell import Bell
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.provisioner import Provisioner
from fleetroot.agent.report import Event, Happening, Reporter
from fleetroot.agent.runner import Runner, Settings
from fleetroot.agent.state import DeviceFolder
from fleetroot.clock import Clock, ManualClock
from fleetroot.pki import KeyType, to_der

COMMAND = Path(sys.executable).with_name("fleetroot")


def true_time() -> ManualClock:
    """A clock that starts at the true time, and moves only when it is told to."""
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


class MovingBell(Bell):
    """A bell whose pauses move a clock; told to stop after so many of them."""

    def __init__(self, clock: Clock, stop_after: int | None = None) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._clock = clock
        self._stop_after = stop_after

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert isinstance(self._clock, ManualClock)
        self._clock.advance(timedelta(seconds=seconds))
        if len(self.pauses) == self._stop_after:
            self.stop()


def onboarding(fleet: Fleet, registration_id: str, key: bytes | None = None) -> Onboarding:
    """How a device of the group `default` provisions."""
    return Onboarding(
        host=fleet.bootstrap["hostname"],
        port=fleet.bootstrap["mqttPort"],
        id_scope=fleet.id_scope,
        registration_id=registration_id,
        ca=Path(fleet.bootstrap["serverCaFile"]).read_text(),
        key_type=KeyType.EC_P384,
        symmetric_key=key or fleet.device_key(registration_id),
    )


def provision(how: Onboarding, *, timeout: float = 60.0, bell: MovingBell | None = None) -> Device:
    """Provisions; blocks."""
    clock = true_time() if bell is None else bell._clock
    reporter = Reporter(clock, lambda _: None)
    return Provisioner(how, clock, bell or MovingBell(clock), reporter).provision(
        timeout, Backoff()
    )


async def provisioned(fleet: Fleet, path: Path, registration_id: str = "dev-1") -> DeviceFolder:
    """A folder with a device that has provisioned."""
    folder = DeviceFolder.create(path)
    device = await asyncio.to_thread(provision, onboarding(fleet, registration_id))
    folder.store(device)
    return folder


def certified(folder: DeviceFolder) -> Certified:
    """The device's credential, for a client of the tests' own."""
    credential = folder.load().credential
    assert isinstance(credential.key, ec.EllipticCurvePrivateKey)
    return Certified(tuple(to_der(c) for c in credential.chain), credential.key)


@dataclass
class Agent:
    """A runner at work in a thread."""

    folder: DeviceFolder
    clock: ManualClock
    bell: MovingBell
    runner: Runner
    events: list[Event] = field(default_factory=list)
    _queue: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    async def saw(self, happening: Happening) -> Event:
        """The next event of the kind; those before it are passed over."""
        async with asyncio.timeout(SECONDS):
            while True:
                event = await self._queue.get()
                if event.happening is happening:
                    return event

    def happenings(self) -> list[Happening]:
        return [event.happening for event in self.events]

    def move(self, by: timedelta) -> None:
        """Moves the agent's clock, and has it look."""
        self.clock.advance(by)
        self.bell.ring()


def agent(
    folder: DeviceFolder, settings: Settings | None = None, *, stop_after: int | None = None
) -> Agent:
    """An agent that has not started."""
    clock = true_time()
    bell = MovingBell(clock, stop_after)
    loop = asyncio.get_running_loop()

    def show(event: Event) -> None:
        made.events.append(event)
        loop.call_soon_threadsafe(made._queue.put_nowait, event)

    runner = Runner(folder, settings or Settings(), clock, bell, Reporter(clock, show))
    made = Agent(folder, clock, bell, runner)
    return made


@asynccontextmanager
async def at_work(folder: DeviceFolder, settings: Settings | None = None) -> AsyncIterator[Agent]:
    """An agent at work; told to stop at the end, and awaited."""
    made = agent(folder, settings)
    work = asyncio.create_task(asyncio.to_thread(made.runner.run))
    try:
        yield made
    finally:
        made.bell.stop()
        async with asyncio.timeout(SECONDS):
            await work


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int | None
    out: str
    err: str


async def start(*arguments: object, **environment: str) -> asyncio.subprocess.Process:
    """Starts `fleetroot` with arguments."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLEETROOT_")}
    return await asyncio.create_subprocess_exec(
        COMMAND,
        *(str(argument) for argument in arguments),
        env=inherited | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> Finished:
    async with asyncio.timeout(2 * SECONDS):
        out, err = await process.communicate()
    return Finished(process.returncode, out.decode(), err.decode())


async def command(*arguments: object, **environment: str) -> Finished:
    """Runs `fleetroot` with arguments to its end."""
    return await finish(await start(*arguments, **environment))
