"""The benchmark's rows, each group run once over with as little as it takes: they come out, and
what they compare is compared. How large a figure is, only `make bench` says.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from bench import (
    attestation,
    commands,
    connect,
    enrollments,
    herd,
    imports,
    large,
    messages,
    methods,
    pace,
    pages,
    pkcs11,
    processes,
    queries,
    rest,
    revocation,
    room,
    wire,
)
from bench.credentials import Attestation, stored_id, stored_key
from bench.enrollment_store import enrollment_store
from bench.measure import Row, Scale, Spread, ratio, take_turns
from bench.processes import DATABASE_FILE, mosquitto_program
from bench.store import large_store

from fleetroot.custody import MasterKeyConfig, Sealer, load_master_key
from fleetroot.provisioning.enrollments import key_name
from fleetroot.provisioning.model import EnrollmentKind
from softhsm import needs_softhsm

TINY = Scale(
    curves=("P-256",),
    rounds=1,
    batch=8,
    herd=150,
    behind_nat=80,
    idle=10,
    listeners=5,
    messages=60,
    stored=300,
    few=150,
    revoked=(20, 40),
)


def sane(rows: list[Row]) -> list[Row]:
    """The rows, each with a figure, and no ratio that cannot be."""
    assert all(row.what and row.measured for row in rows)
    assert all(0.001 < row.ratio.median < 100 for row in rows if row.ratio is not None)
    return rows


@pytest.mark.parametrize("rows", [room.rows, wire.mqtt_rows, wire.https_rows])
def test_issuing_is_compared_with_its_crypto_floor(rows: Callable[[Scale], list[Row]]):
    assert all(row.ratio and "floor" in row.beside for row in sane(rows(TINY)))


def test_attestations_are_compared_with_their_floor_over_every_wire_that_has_them():
    found = sane(attestation.rows(TINY, [Attestation.CHAIN, Attestation.TPM]))
    assert all(row.ratio and "floor" in row.beside for row in found)
    wires = Counter(row.what.rpartition(", ")[2] for row in found)
    assert wires == {"MQTT": 1, "WebSocket": 1, "HTTPS": 2}


def test_connections_are_compared_with_the_bare_handshake_and_mosquitto():
    bare, mosquitto = sane(connect.rows(TINY))
    assert "bare TLS" in bare.beside
    assert bare.ratio
    assert "mosquitto" in mosquitto.beside
    assert bool(mosquitto.ratio) == (mosquitto_program() is not None)


def test_without_mosquitto_its_rows_say_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "mosquitto_program", lambda: None)
    theirs = [row for row in connect.rows(TINY) if "mosquitto" in row.beside]
    assert {(row.beside, row.ratio) for row in theirs} == {("mosquitto: not installed", None)}


@needs_softhsm
def test_signatures_in_a_token_are_compared_with_the_bare_token():
    [row] = sane(pkcs11.rows(TINY))
    assert row.ratio
    assert "bare SoftHSM" in row.beside


def test_onboardings_are_timed_at_full_and_at_half_load():
    assert [" / s" in row.measured for row in sane(pace.rows(TINY))] == [True, False]


def test_every_device_of_a_herd_is_provisioned_and_each_behind_a_nat():
    arrived, _, behind_nat, _ = sane(herd.rows(TINY))
    assert arrived.measured.startswith("150 in after ")
    assert "refused: none" in arrived.beside
    assert behind_nat.measured.startswith("80 in after ")
    assert "too-many-failures" not in behind_nat.beside


def test_start_up_and_idle_memory_are_measured():
    start, memory, pings = sane(rest.rows(TINY))
    assert (start.goal, memory.goal) == ("3 s", "64 KB")
    assert bool(pings.ratio) == (mosquitto_program() is not None)


def test_methods_are_called_one_by_one_and_together_and_of_many() -> None:
    alone, together, many = sane(methods.rows(TINY))
    assert "1 at a time" in alone.what
    assert "16 at a time" in together.what
    assert "5 devices" in many.what


def test_messages_to_devices_are_compared_with_those_of_mosquitto():
    one, many = sane(commands.rows(TINY))
    assert (one.what[-10:], many.what[-9:]) == ("one device", "5 devices")
    assert bool(one.ratio and many.ratio) == (mosquitto_program() is not None)


def test_messages_and_patches_of_devices_are_measured():
    one, many, *patches = sane(messages.rows(TINY))
    assert (one.what[-10:], many.what[-9:]) == ("one device", "5 devices")
    assert bool(one.ratio and many.ratio) == (mosquitto_program() is not None)
    assert [row.what[:16] for row in patches] == ["reported patches"] * 2


def test_revocation_is_measured():
    signed, cached, *lists = sane(revocation.rows(TINY))
    assert "bare" in signed.beside
    assert "bare" in cached.beside
    assert [row.what for row in lists] == [f"revocation lists, {n} revoked" for n in (20, 40)]


def test_imports_are_compared_with_sealing_and_inserting():
    assert [bool(row.ratio) for row in sane(imports.rows(TINY))] == [True, True, True]


def test_many_enrollments_are_compared_with_few(tmp_path: Path):
    found = sane(enrollments.rows(TINY, tmp_path))
    assert [bool(row.ratio) for row in found] == [True, True, True]
    assert all("150 enrolled" in row.beside for row in found)


def test_a_large_store_is_compared_with_a_new_one(tmp_path: Path):
    assert len([row for row in sane(large.rows(TINY, tmp_path)) if row.ratio]) == 5


def test_queries_over_a_large_hub_are_compared_with_those_over_a_small_one(tmp_path: Path):
    found = sane(queries.rows(TINY, tmp_path))
    assert [bool(row.ratio) for row in found] == [True, True, True, True]


def test_pages_of_a_large_store_are_compared_with_those_of_a_small_one(tmp_path: Path):
    found = sane(pages.rows(TINY, tmp_path))
    assert [bool(row.ratio) for row in found] == [True, True, True, True]
    assert all("150 stored" in row.beside for row in found)


def test_a_large_store_is_made_once_and_kept(tmp_path: Path):
    database = large_store(tmp_path, 50) / DATABASE_FILE
    assert rows_of(database) == dict.fromkeys(
        ("devices", "certificates", "identities", "twins", "registrations"), 51
    )
    made = database.stat().st_mtime_ns
    assert large_store(tmp_path, 50) / DATABASE_FILE == database
    assert database.stat().st_mtime_ns == made


def test_each_of_many_enrollments_has_keys_of_its_own_that_the_server_opens(tmp_path: Path):
    data = enrollment_store(tmp_path, 3)
    master = Sealer(load_master_key(MasterKeyConfig(), data))
    with closing(sqlite3.connect(data / DATABASE_FILE)) as connection:
        found = connection.execute(
            "SELECT service_id, enrollment_id, sealed_primary FROM enrollments"
            " WHERE kind = 'individual'"
        ).fetchall()
    assert {id_ for _, id_, _ in found} == {stored_id(number) for number in range(3)}
    for service, id_, sealed in found:
        name = key_name(service, EnrollmentKind.INDIVIDUAL, id_, "primary")
        assert master.open(name, sealed) == stored_key(id_)


def rows_of(database: Path) -> dict[str, int]:
    tables = ("devices", "certificates", "identities", "twins", "registrations")
    with closing(sqlite3.connect(database)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables
        }


def test_sides_take_turns_and_the_round_that_warms_up_is_dropped():
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return len(order)

    costs = take_turns(2, lambda: side("a"), lambda: side("b"))
    assert "".join(order) == "abbaab"
    assert costs == [[4, 5], [3, 6]]


def test_a_ratio_is_taken_round_by_round():
    assert ratio([1, 2, 3], [2, 2, 2]) == Spread(1.0, 0.5, 1.5)
