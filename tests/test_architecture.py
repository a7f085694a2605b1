"""The import direction of docs/architecture.md, held against every import of the program."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fleetroot"

WORDS = {"clock", "errors", "ids", "pace", "sas"}
ROOMS = {
    "pki",
    "custody",
    "audit",
    "access",
    "registry",
    "provisioning",
    "hub",
    "storage",
    "bus",
}

# What each part may import of ours, beside itself. A part that is not here is not in the plan.
MAY_IMPORT: dict[str, set[str]] = {
    "clock": set(),
    "errors": set(),
    "ids": {"errors"},
    "pace": set(),
    "sas": {"errors", "ids"},
    "bus": set(),
    "pki": set(),
    "custody": {"pki", "errors"},
    "storage": {"errors"},
    "audit": {"storage", "custody", "pki"} | WORDS,
    "access": {"storage", "audit"} | WORDS,
    "registry": {"pki", "custody", "storage", "bus", "audit"} | WORDS,
    "provisioning": {"registry", "storage", "bus", "custody", "pki", "audit"} | WORDS,
    "hub": {"registry", "storage", "bus", "custody", "pki", "audit"} | WORDS,
    "upkeep": ROOMS | WORDS,
    "gateway.tls": set(),
    "gateway.mqtt": {"errors"},
    "gateway": {"gateway.tls", "gateway.mqtt"} | ROOMS | WORDS,
    "api": {"gateway", "upkeep"} | ROOMS | WORDS,
    "agent": {"pki"} | WORDS,
    "settings": set(),
    "limits": {"settings", "provisioning", "gateway", "gateway.tls"},
    "logs": set(),
    "metrics": set(),
    "bootstrap": {"settings", "access", "audit", "registry", "provisioning", "hub", "storage"}
    | WORDS,
    "app": {"settings", "limits", "bootstrap", "metrics", "gateway", "gateway.tls", "api", "upkeep"}
    | ROOMS
    | WORDS,
    "cli": {"settings", "logs", "app", "agent", "audit", "custody", "pki", "upkeep"} | WORDS,
}
# Of these rooms, provisioning and hubs need these names: seals for the secrets they own, and the
# verdicts on what a device shows. Not a signing key, and nothing that could make a certificate.
ONLY_NAMES = {
    ("provisioning", "custody"): {"Sealer", "RecordName"},
    ("hub", "custody"): {"Sealer", "RecordName"},
    ("provisioning", "pki"): {
        "CertificateInfo",
        "CertificateRequest",
        "UnverifiedRequest",
        "CsrRefused",
        "Anchors",
        "ChainRefused",
        "UploadRefused",
        "certificate_info",
        "check_enrolled_ca",
        "check_enrolled_device",
        "check_known",
        "common_name_of",
        "load_chain",
        "verify_chain",
    },
    ("hub", "pki"): {
        "CertificateRequest",
        "UnverifiedRequest",
        "CsrRefused",
        "Anchors",
        "ChainRefused",
        "check_known",
        "common_name_of",
        "load_chain",
        "to_der",
        "verify_chain",
    },
}
# Which parts may import these packages, and nothing of ours else.
ONLY_IN = {
    "fastapi": {"api"},
    "starlette": {"api", "app", "gateway.tls"},
    "uvicorn": {"gateway.tls"},
    "httptools": {"gateway.tls"},
    "websockets": {"gateway.tls"},
    "OpenSSL": {"gateway", "gateway.tls"},
    "jwt": {"access"},
    "uvloop": {"cli", "agent"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic": {"settings", "api", "cli"},
    "pydantic_settings": {"settings"},
    "prometheus_client": {"metrics", "api"},
    "sqlalchemy": {"storage", "audit", "access", "registry", "provisioning", "hub", "upkeep"},
    "alembic": {"storage"},
    "psycopg": {"storage"},
    "lark": {"hub"},
}
# These parts stand on the standard library and what is named here alone.
STANDS_ON: dict[str, set[str]] = {
    "clock": set(),
    "errors": set(),
    "ids": set(),
    "pace": set(),
    "sas": set(),
    "bus": set(),
    "pki": {"cryptography"},
    "custody": {"cryptography"},
    "gateway.mqtt": set(),
}


@dataclass(frozen=True)
class Import:
    """`name` of `module`, where `path` says it."""

    path: Path
    line: int
    module: str
    name: str | None

    def __str__(self) -> str:
        what = f"{self.module}.{self.name}" if self.name else self.module
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {what}"


def part_of(module: str) -> str | None:
    """The part of the program that a module belongs to; None for the package itself."""
    _, *names = module.split(".")
    if not names:
        return None
    sub = ".".join(names[:2])
    return sub if sub in MAY_IMPORT else names[0]


def module_of(path: Path) -> str:
    names = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports_of(path: Path) -> list[Import]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [Import(path, node.lineno, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / whole.replace(".", "/")).is_dir() or (
                    PACKAGE.parent / whole.replace(".", "/")
                ).with_suffix(".py").is_file()
                assert node.module is not None
                found.append(
                    Import(path, node.lineno, whole, None)
                    if is_module
                    else Import(path, node.lineno, node.module, alias.name)
                )
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [(part_of(module_of(path)), one) for path in FILES for one in imports_of(path)]
OURS = [(part, one) for part, one in IMPORTS if one.module.split(".")[0] == "fleetroot"]
FOREIGN = [
    (part, one)
    for part, one in IMPORTS
    if one.module.split(".")[0] not in {"fleetroot", *sys.stdlib_module_names}
]


def test_the_program_was_read() -> None:
    assert len(FILES) > 80
    assert len(OURS) > 200


def test_every_part_of_the_program_has_its_place() -> None:
    found = {part_of(module_of(path)) for path in FILES} - {None, "__main__"}
    assert found <= MAY_IMPORT.keys()


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_part_imports_only_what_it_may(part: str) -> None:
    wrong = [
        str(one)
        for of, one in OURS
        if of == part and part_of(one.module) not in {None, part, *MAY_IMPORT[part]}
    ]
    assert wrong == []


def test_provisioning_and_hub_do_not_know_each_other() -> None:
    pairs = {("provisioning", "hub"), ("hub", "provisioning")}
    assert [str(one) for part, one in OURS if (part, part_of(one.module)) in pairs] == []


def test_no_room_knows_a_wire() -> None:
    wires = {"gateway", "gateway.tls", "gateway.mqtt", "api", "cli", "app"}
    assert [str(o) for part, o in OURS if part in ROOMS and part_of(o.module) in wires] == []


@pytest.mark.parametrize("pair", ONLY_NAMES, ids="<-".join)
def test_room_imports_only_these_names(pair: tuple[str, str]) -> None:
    part, of = pair
    wrong = [
        str(one)
        for importer, one in OURS
        if importer == part and part_of(one.module) == of and one.name not in ONLY_NAMES[pair]
    ]
    assert wrong == []


def test_of_the_gateway_only_the_servers_certificate_is_kept_and_sealed() -> None:
    importers = {
        one.path.name
        for part, one in OURS
        if part == "gateway" and part_of(one.module) in {"storage", "custody"}
    }
    assert importers <= {"server_certificate.py"}


def test_only_the_room_that_migrates_imports_migrations() -> None:
    wrong = [
        str(one)
        for part, one in OURS
        if one.module.startswith("fleetroot.storage.migrat") and part not in {"storage", "app"}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_package_is_imported_only_where_it_belongs(package: str) -> None:
    wrong = [
        str(one)
        for part, one in FOREIGN
        if one.module.split(".")[0] == package and part not in ONLY_IN[package]
    ]
    assert wrong == []


@pytest.mark.parametrize("part", STANDS_ON)
def test_part_stands_on_the_standard_library(part: str) -> None:
    wrong = [
        str(one)
        for of, one in FOREIGN
        if of == part and one.module.split(".")[0] not in STANDS_ON[part]
    ]
    assert wrong == []


def test_the_document_names_every_part() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text()
    missing = [part for part in MAY_IMPORT if f"`{part.split('.')[0]}`" not in document]
    assert missing == []


# --- the project stands alone


def project_files() -> list[Path]:
    """Every text file that is, or may be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:8192]]


MACHINES_OWN = re.compile(r"(?<![\w.$}~/-])/(?:work|home|root|Users|mnt)/")
UPWARD = re.compile(r"(?<![\w./])(?:\.\./)+[\w.\-/]*")


def test_no_file_mentions_a_folder_of_the_machine_it_was_written_on() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in project_files()
        for match in MACHINES_OWN.finditer(path.read_text(errors="replace"))
    ]
    assert wrong == []


def test_no_relative_path_leads_out_of_the_project() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in project_files()
        for match in UPWARD.finditer(path.read_text(errors="replace"))
        if not (path.parent / match.group()).resolve().is_relative_to(ROOT)
    ]
    assert wrong == []
