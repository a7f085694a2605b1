"""Runs one target under atheris: `python -m fuzz.engine TARGET [libFuzzer's options] [folders]`.

With files instead of folders it replays them.

Source: https://llvm.org/docs/LibFuzzer.html for the options.
"""

from __future__ import annotations

import logging
import shlex
import sys

import atheris
import structlog

# Prefixes and suffixes that are asked for are tried.
atheris.enabled_hooks.add("str")
# The program's branches are what a search is led by; its libraries and the checks are not.
with atheris.instrument_imports(include=["fleetroot"]):
    from fuzz import targets

    TARGET = targets.load(sys.argv[1])


def main() -> None:
    """Fuzzes until a limit among the options, or a finding."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    # To merge, libFuzzer has the shell start its first argument again, with options behind it.
    command = shlex.join([sys.executable, "-m", "fuzz.engine", TARGET.name])
    atheris.Setup(
        [command, *sys.argv[2:]],
        TARGET.check,
        custom_mutator=TARGET.mutate,
        enable_python_coverage=True,
    )
    atheris.Fuzz()


main()
