"""The table of the hostile day stands in the run's summary."""

from __future__ import annotations

import pytest

_TABLE = "hostile peers"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, text in getattr(report, "user_properties", ()):
            if name == _TABLE:
                terminalreporter.section(_TABLE)
                terminalreporter.write_line(str(text))
