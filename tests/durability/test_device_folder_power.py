"""The device's folder on a disk that loses its power: what `store` returned for is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filetrace import FileTrace, Kind, Step
from power import Chance, Everything, Nothing, Part, power_cuts

from fleetroot.agent.errors import FolderUnusable
from fleetroot.agent.state import DeviceFolder

STORES = 3
# Stores one device after the other, and leaves a file `told-N` when the Nth is said to be durable.
SCRIPT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from scripted import self_signed
from fleetroot.agent.credential import Credential
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.state import DeviceFolder
from fleetroot.pki import KeyType

above, stores = Path(sys.argv[1]), int(sys.argv[2])
folder = DeviceFolder.create(above / "fleet" / "device")
for number in range(stores):
    name = f"dev-{number}"
    key, certificate = self_signed(name)
    onboarding = Onboarding("host", 8883, "0ne", name, None, KeyType.EC_P256, bytes(64))
    credential = Credential(key, (certificate,))
    folder.store(Device(onboarding, "hub.example", name, credential, datetime.now(UTC)))
    (above / f"told-{number}").touch()
"""


@pytest.fixture(scope="module")
def steps(tracing: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """What storing does to the disk."""
    own = tmp_path_factory.mktemp("agent")
    above = own / "above"
    above.mkdir()
    trace = FileTrace(tracing, above, own)
    agent_tests = Path(__file__).parent.parent / "agent"
    path = os.pathsep.join([str(agent_tests), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(above), str(STORES)],
        check=True,
        env=os.environ | trace.environment | {"PYTHONPATH": path},
    )
    return trace.steps


@pytest.mark.parametrize(
    "chance", [Nothing(), Everything(), *map(Part, range(10))], ids=lambda c: type(c).__name__
)
def test_power_cut_at_any_sync_keeps_the_device_that_was_stored_or_the_next(
    steps: list[Step], tmp_path: Path, chance: Chance
) -> None:
    found: set[str] = set()
    for number, disk in power_cuts(steps):
        told = sum(
            step.kind is Kind.CREATED and step.path.startswith("told-") for step in steps[:number]
        )
        left = tmp_path / "left"
        disk.left(chance, left)
        folder = left / "fleet" / "device"
        if told == 0 and not (folder / "current").exists():
            with pytest.raises(FolderUnusable, match="there is no device"):
                DeviceFolder(folder).load()
        else:
            name = DeviceFolder(folder).load().device_id
            assert name in {f"dev-{told - 1}", f"dev-{told}"}
            found.add(name)
        shutil.rmtree(left)
    assert found == {f"dev-{number}" for number in range(STORES)}
