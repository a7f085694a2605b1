"""The demonstration holds: what the README promises first is tested as it stands there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / ".venv-sdk").exists(), reason="the SDK's environment: `make test` makes it"
    ),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="apt-get install openssl"),
]


def test_every_step_of_the_demonstration_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All held" in done.stdout
