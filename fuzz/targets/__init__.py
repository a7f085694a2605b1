"""One file for each reader of a stranger's bytes.

A target is a module with `check`, and it may have `seeds` (names and bytes of its first corpus),
`TOKENS` (words for libFuzzer's dictionary), `MAX_BYTES` (longest input to try) and `mutate` (a
mutator that knows the format).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, TypeAlias

NAMES: Final = (
    "mqtt_codec",
    "mqtt_session",
    "properties",
    "topics",
    "names",
    "ids",
    "sas",
    "csr",
    "csr_text",
    "chain",
    "ocsp_request",
    "foreign_list",
    "tpm_public",
    "bodies",
    "device_api",
    "websocket",
    "proxy_header",
    "tls_records",
)
CORPUS: Final = Path(__file__).parent.parent / "corpus"
REGRESSIONS: Final = Path(__file__).parent.parent / "regressions"
_DEFAULT_MAX_BYTES: Final = 512

Mutator: TypeAlias = Callable[[bytes, int, int], bytes]
"""Of some bytes, the most there may be, and a seed: other bytes."""


@dataclass(frozen=True, slots=True)
class Target:
    """A reader, what checks it, and where its search begins."""

    name: str
    check: Callable[[bytes], None]
    seeds: dict[str, bytes]
    tokens: tuple[bytes, ...]
    max_bytes: int
    mutate: Mutator | None

    @property
    def corpus(self) -> Path:
        """Where its inputs are kept."""
        return CORPUS / self.name

    @property
    def regressions(self) -> Path:
        """Where the inputs are kept that once broke a promise."""
        return REGRESSIONS / self.name


def load(name: str) -> Target:
    """The target of that name."""
    module = import_module(f"fuzz.targets.{name}")
    return Target(
        name,
        module.check,
        dict(getattr(module, "seeds", dict)()),
        getattr(module, "TOKENS", ()),
        getattr(module, "MAX_BYTES", _DEFAULT_MAX_BYTES),
        getattr(module, "mutate", None),
    )


def inputs(folders: Iterable[Path]) -> list[Path]:
    """The files of a corpus, in the order of their names."""
    return sorted(path for folder in folders for path in folder.glob("*") if path.is_file())
