"""Fixtures: the tracing layer, and the whole life of a server under it."""

from __future__ import annotations

from pathlib import Path

import filetrace
import pytest
from workload import Traced, traced


@pytest.fixture(scope="session")
def tracing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracing layer, compiled."""
    return filetrace.build(tmp_path_factory.mktemp("filetrace"))


@pytest.fixture(scope="package")
def life(tracing: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """A server from its first start to its end."""
    return traced(tracing, tmp_path_factory.mktemp("life"))
