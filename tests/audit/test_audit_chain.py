"""What checkpoints hold a log to: each way of tampering with one, by an export that was changed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleetroot.audit import SYSTEM, Action, Entry, append, chain
from fleetroot.audit.chain import Findings, Verifier
from fleetroot.audit.checkpoints import LONGEST_TRANSACTION, settled
from fleetroot.audit.export import NotALine, checkpoint_line, parse_line
from fleetroot.audit.model import Checkpoint, LoggedEntry
from workbench import Workbench

Lines = list[bytes]


async def lived_in(bench: Workbench) -> Lines:
    """An export with three checkpoints, and two entries behind the last."""
    for batch in range(3):
        await write(bench, [f"device/{batch}-{n}" for n in range(5)])
        await bench.audit_log.write()
    await write(bench, ["device/late-1", "device/late-2"])
    return (await export(bench)).splitlines()


async def write(bench: Workbench, subjects: list[str]) -> None:
    for subject in subjects:
        entry = Entry(bench.clock.now(), SYSTEM, Action.REVOKE_DEVICE, subject)
        await bench.store.write(lambda tx, entry=entry: append(tx, entry))


async def export(bench: Workbench) -> bytes:
    return b"".join([chunk async for chunk in bench.audit_log.export()])


def verified(lines: Lines, key: ec.EllipticCurvePublicKey, expected: str | None = None) -> Findings:
    verifier = Verifier(key, expected=expected)
    for line in lines:
        parsed = parse_line(line)
        if isinstance(parsed, LoggedEntry):
            verifier.entry(parsed)
        else:
            verifier.checkpoint(parsed)
    return verifier.finish()


def checkpoints(lines: Lines) -> list[int]:
    return [index for index, line in enumerate(lines) if b'"signature"' in line]


async def test_log_that_nobody_touched_is_verified(bench: Workbench) -> None:
    lines = await lived_in(bench)
    found = verified(lines, bench.audit_log.public_key)
    assert found.wrong == []
    assert found.checkpoints == 3
    assert found.open_entries == 2
    assert found.entries == len(lines) - 3 - 2


async def test_checkpoints_that_are_written_beside_each_other_are_one_chain(
    bench: Workbench,
) -> None:
    """As at a stop, whose last call finds another one still under way."""
    await write(bench, [f"device/{n}" for n in range(5)])
    await asyncio.gather(*(bench.audit_log.write() for _ in range(4)))
    lines = (await export(bench)).splitlines()
    found = verified(lines, bench.audit_log.public_key)
    assert (found.wrong, len(checkpoints(lines))) == ([], 1)


async def test_log_of_thousands_is_verified(bench: Workbench) -> None:
    entries = [
        Entry(bench.clock.now(), SYSTEM, Action.REVOKE_DEVICE, f"device/{n}") for n in range(4500)
    ]
    await bench.store.write(lambda tx: [append(tx, entry) for entry in entries] and None)
    await bench.audit_log.write()
    found = verified((await export(bench)).splitlines(), bench.audit_log.public_key)
    assert (found.wrong, found.open_entries, found.checkpoints) == ([], 0, 10)


def change_entry(lines: Lines) -> None:
    lines[1] = lines[1].replace(b'"actor":"fleetroot"', b'"actor":"somebody"')


def remove_entry(lines: Lines) -> None:
    del lines[2]


def repeat_entry(lines: Lines) -> None:
    lines.insert(2, lines[2])


def swap_entries(lines: Lines) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def remove_checkpoint(lines: Lines) -> None:
    del lines[checkpoints(lines)[1]]


def remove_first_checkpoint_with_its_entries(lines: Lines) -> None:
    del lines[: checkpoints(lines)[0] + 1]


def remove_middle_checkpoint_with_its_entries(lines: Lines) -> None:
    first, second, _ = checkpoints(lines)
    del lines[first + 1 : second + 1]


def move_checkpoint_forward(lines: Lines) -> None:
    first = checkpoints(lines)[0]
    lines.insert(first - 1, lines.pop(first))


def change_statement(lines: Lines) -> None:
    index = checkpoints(lines)[2]
    lines[index] = lines[index].replace(b'"count":5', b'"count":6')


def change_signature(lines: Lines) -> None:
    index = checkpoints(lines)[2]
    parsed = json.loads(lines[index])
    raw = bytearray(base64.b64decode(parsed["signature"]))
    raw[-1] ^= 1
    lines[index] = lines[index].replace(parsed["signature"].encode(), base64.b64encode(bytes(raw)))


def insert_entry_behind_its_checkpoint(lines: Lines) -> None:
    first = checkpoints(lines)[0]
    lines.insert(first + 1, lines[first - 1])


@pytest.mark.parametrize(
    "tamper",
    [
        change_entry,
        remove_entry,
        repeat_entry,
        swap_entries,
        remove_checkpoint,
        remove_first_checkpoint_with_its_entries,
        remove_middle_checkpoint_with_its_entries,
        move_checkpoint_forward,
        change_statement,
        change_signature,
        insert_entry_behind_its_checkpoint,
    ],
)
async def test_log_that_was_changed_between_checkpoints_is_not(
    bench: Workbench, tamper: Callable[[Lines], None]
) -> None:
    lines = await lived_in(bench)
    tamper(lines)
    assert verified(lines, bench.audit_log.public_key).wrong != []


async def test_log_that_another_key_signed_is_not(bench: Workbench) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert len(verified(await lived_in(bench), other).wrong) == 3


async def test_log_that_was_cut_off_is_seen_by_who_kept_a_checkpoint(bench: Workbench) -> None:
    lines = await lived_in(bench)
    key = bench.audit_log.public_key
    kept = verified(lines, key).head
    assert verified(lines, key, kept).wrong == []
    cut = lines[: checkpoints(lines)[1] + 1]
    assert verified(cut, key).wrong == []  # which is what the command says it cannot show
    assert verified(cut, key, kept).wrong != []


async def test_checkpoint_stops_before_a_number_that_may_still_come(bench: Workbench) -> None:
    now = bench.clock.now()
    entries = [LoggedEntry(seq, now, b"{}") for seq in (1, 2, 4, 5)]
    assert [entry.seq for entry in settled(entries, 0, now)] == [1, 2]
    later = now + LONGEST_TRANSACTION
    assert [entry.seq for entry in settled(entries, 0, later)] == [1, 2, 4, 5]


def test_exported_checkpoint_is_the_one_that_was_signed() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = chain.sign(key, [LoggedEntry(1, now, b"{}")], None, now)
    assert parse_line(checkpoint_line(made)) == made
    assert isinstance(made, Checkpoint)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"7", b"{}", b'{"seq":1}', b'{"checkpoint":7}', b"\xff", b"x" * 70_000]
)
def test_line_that_no_export_has_is_refused(line: bytes) -> None:
    with pytest.raises(NotALine):
        parse_line(line)
