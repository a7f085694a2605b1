"""The command line: `fleetroot up`, and what an operator asks of a running server.

Everything that can be asked has `--json`, which prints JSON on stdout and nothing else there.
Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 usage.
"""

from fleetroot.cli.main import main

__all__ = ["main"]
