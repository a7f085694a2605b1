"""Fixtures: the folder that a device keeps itself in."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder_path(tmp_path: Path) -> Path:
    """Where a device's folder goes."""
    return tmp_path / "device"
