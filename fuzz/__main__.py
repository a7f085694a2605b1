"""Fuzzes every target for a while and prints what came of it: `python -m fuzz`.

Each target runs in a process of its own, as many at a time as there are processors. What reaches
something new is added to its corpus, smallest files first; commit what is worth keeping. An input
that breaks a promise stays in `.fuzz/findings` and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from fuzz import targets

FINDINGS: Final = Path(".fuzz/findings")
_INPUT_SECONDS: Final = 10  # one that takes longer is a finding
_MEMORY_MB: Final = 1024
_GRACE_SECONDS: Final = 120  # to start, and to read a corpus, on a busy machine
_EXECUTED: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_COVERED: Final = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of fuzzing one target."""

    name: str
    executed: int
    seconds: float
    covered: str
    kept: int
    added: int
    findings: list[Path]
    log: Path
    failed: bool

    @property
    def clean(self) -> bool:
        """Whether it ran to its end and nothing broke."""
        return not self.findings and not self.failed


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz Fleetroot's readers.")
    parser.add_argument("--seconds", type=int, default=600, help="how long each target runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("targets", nargs="*", choices=[*targets.NAMES, []], metavar="TARGET")
    wanted = parser.parse_args()
    names = wanted.targets or targets.NAMES
    with ThreadPoolExecutor(wanted.jobs) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, wanted.seconds), names))
    report(outcomes)
    return 0 if all(each.clean for each in outcomes) else 1


def fuzz(name: str, seconds: int) -> Outcome:
    """One target, from its corpus and its regressions, for this long."""
    target = targets.load(name)
    findings = FINDINGS / name
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    log = FINDINGS / f"{name}.log"
    kept = len(targets.inputs([target.corpus]))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        found, dictionary = Path(scratch, "found"), Path(scratch, "dictionary")
        found.mkdir()
        words = "".join(f'"{_escaped(token)}"\n' for token in target.tokens)
        dictionary.write_text(words or '"\\x00"\n')
        code = _engine(
            name,
            log,
            seconds + _GRACE_SECONDS,
            f"-max_total_time={seconds}",
            f"-max_len={target.max_bytes}",
            f"-timeout={_INPUT_SECONDS}",
            f"-rss_limit_mb={_MEMORY_MB}",
            f"-artifact_prefix={findings}/",
            f"-dict={dictionary}",
            "-print_final_stats=1",
            str(found),
            *(str(each) for each in (target.corpus, target.regressions) if each.is_dir()),
        )
        output = log.read_text(errors="replace")
        spent = time.monotonic() - started
        if code == 0:
            code = _merge(target, found, Path(scratch, "merged"), Path(scratch, "merge.log"))
    executed = _EXECUTED.search(output)
    return Outcome(
        name,
        int(executed[1]) if executed else 0,
        spent,
        " / ".join((_COVERED.findall(output) or [("?", "?")])[-1]),
        kept,
        len(targets.inputs([target.corpus])) - kept,
        sorted(set(findings.iterdir()) - before),
        log,
        failed=code != 0,
    )


def report(outcomes: list[Outcome]) -> None:
    """Prints a line for each target, and where its findings are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("target")
    for column in ("executions", "a second", "branches / features", "corpus", "new", "findings"):
        table.add_column(column, justify="right")
    for each in outcomes:
        table.add_row(
            each.name,
            f"{each.executed:,}",
            f"{each.executed / each.seconds:,.0f}",
            each.covered,
            str(each.kept + each.added),
            str(each.added),
            str(len(each.findings)) if each.findings or not each.failed else "failed",
        )
    Console(width=100).print(table)
    for each in outcomes:
        for path in each.findings:
            print(f"{each.name}: replay with  python -m fuzz.engine {each.name} {path}")
        if not each.clean:
            print(f"{each.name}: the end of {each.log} tells more")


def _engine(name: str, log: Path, timeout: float, *options: str) -> int:
    """Runs atheris and returns its exit code; its output goes to `log`."""
    command = [sys.executable, "-m", "fuzz.engine", name, *options]
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return -1
    return done.returncode


def _merge(target: targets.Target, found: Path, merged: Path, log: Path) -> int:
    """Adds to the corpus what reaches something new."""
    shutil.copytree(target.corpus, merged)
    code = _engine(target.name, log, 600, "-merge=1", "-rss_limit_mb=0", str(merged), str(found))
    if code == 0:
        shutil.copytree(merged, target.corpus, dirs_exist_ok=True)
    return code


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in token)


if __name__ == "__main__":
    sys.exit(main())
