"""The inventory: who gets in, and how a certificate is found again."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import NotFound
from fleetroot.registry import inventory, policies
from fleetroot.registry.issuance import CsrText, DeviceChanged
from fleetroot.registry.model import Certificate, Device, Origin
from fleetroot.storage import Query
from fleetroot.storage.unit import ConstraintViolated
from workbench import PKI_URL, Recorder, Workbench

# --- the condition


async def test_certificate_of_an_unchanged_device_is_recorded(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    assert await record(device)
    [certificate] = await bench.inventory("dev-1")
    assert certificate.generation == device.generation


async def test_certificate_of_an_earlier_generation_is_not_recorded(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    assert not await record(replace(device, generation=uuid4()))
    assert await bench.inventory("dev-1") == []


async def test_certificate_of_a_disabled_device_is_not_recorded(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    await bench.registry.set_enabled(bench.made.namespace, "dev-1", False, by=SYSTEM)
    assert not await record(device)
    assert await bench.inventory("dev-1") == []


async def test_certificate_of_a_device_that_is_not_registered_is_not_recorded(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    assert not await record(replace(device, device_key="dev-2", device_id="dev-2"))
    assert await bench.inventory("dev-2") == []


async def test_certificate_of_another_namespaces_device_is_not_recorded(
    record: Recorder, device: Device
) -> None:
    assert not await record(replace(device, namespace_id=str(uuid4())))


async def test_device_that_was_disabled_and_enabled_again_gets_certificates(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    for enabled in (False, True):
        await bench.registry.set_enabled(bench.made.namespace, "dev-1", enabled, by=SYSTEM)
    assert await record(device)


async def test_issuance_of_a_changed_device_says_so_and_keeps_nothing(
    bench: Workbench, device: Device
) -> None:
    policy = await bench.store.read(lambda tx: policies.get(tx, bench.made.policy.id))
    csr = bench.issuance.read_request(policy, CsrText(device_csr("dev-1")[1]), "dev-1").verify()
    issuer = await bench.issuance.issuer(policy)
    leaf = bench.issuance.sign(issuer, device, csr, bench.clock.now(), by=SYSTEM)
    await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)
    now = bench.clock.now()
    with pytest.raises(DeviceChanged):
        await bench.store.write(lambda tx: bench.issuance.record(tx, [leaf], Origin.RENEWAL, now))
    assert await bench.inventory("dev-1") == []


async def test_one_certificate_is_recorded_once(record: Recorder, device: Device) -> None:
    await record(device, sha256=bytes(32))
    with pytest.raises(ConstraintViolated):
        await record(device, sha256=bytes(32))


async def test_a_ca_never_uses_a_serial_number_twice(record: Recorder, device: Device) -> None:
    await record(device, serial=7)
    with pytest.raises(ConstraintViolated):
        await record(device, serial=7)


# --- finding


async def issued(bench: Workbench) -> Certificate:
    await bench.provision("dev-1")
    [certificate] = await bench.inventory("dev-1")
    return certificate


async def test_certificate_is_found_by_its_fingerprint(bench: Workbench) -> None:
    certificate = await issued(bench)
    found = await bench.registry.certificate(bench.made.namespace, certificate.sha256.hex())
    assert found == certificate


async def test_certificate_is_found_by_its_serial_number(bench: Workbench) -> None:
    certificate = await issued(bench)
    found = await bench.registry.certificate(bench.made.namespace, certificate.serial)
    assert found == certificate


@pytest.mark.parametrize("digits", [8, 9, 16, 63])
async def test_certificate_is_found_by_the_first_digits_of_its_fingerprint(
    bench: Workbench, digits: int
) -> None:
    certificate = await issued(bench)
    prefix = certificate.sha256.hex()[:digits]
    assert await bench.registry.certificate(bench.made.namespace, prefix) == certificate


async def test_colons_capitals_and_leading_zeros_do_not_matter(bench: Workbench) -> None:
    certificate = await issued(bench)
    fingerprint = certificate.sha256.hex(":").upper()
    serial = "00:" + certificate.serial.upper()
    for name in (fingerprint, serial):
        assert await bench.registry.certificate(bench.made.namespace, name) == certificate


async def test_prefix_of_two_certificates_names_neither(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    for last in (1, 2):
        await record(device, sha256=bytes.fromhex("c0ffee00") + bytes(27) + bytes([last]))
    with pytest.raises(NotFound, match="more than one"):
        await bench.registry.certificate(bench.made.namespace, "c0ffee00")


async def test_longer_prefix_tells_the_two_apart(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    for last in (1, 2):
        await record(device, sha256=bytes.fromhex("c0ffee00") + bytes([last]) + bytes(27))
    found = await bench.registry.certificate(bench.made.namespace, "c0ffee0002")
    assert found.sha256[4] == 2


@pytest.mark.parametrize("fill", ["0", "f"])
async def test_prefix_reaches_the_ends_of_its_range(
    bench: Workbench, record: Recorder, device: Device, fill: str
) -> None:
    await record(device, sha256=bytes.fromhex("c0ffee00".ljust(64, fill)))
    found = await bench.registry.certificate(bench.made.namespace, "c0ffee00")
    assert found.sha256.hex() == "c0ffee00".ljust(64, fill)


async def test_certificate_of_another_namespace_is_neither_found_nor_in_the_way(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    other = await bench.namespaces.create(
        "other", subscription_id="s", resource_group="g", pki_url=PKI_URL, by=SYSTEM
    )
    await record(device, sha256=bytes.fromhex("c0ffee00".ljust(64, "0")))
    with pytest.raises(NotFound, match="no certificate"):
        await bench.registry.certificate(other, "c0ffee00")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "g" * 16,
        "0x12345678",
        "1234_5678",
        "+12345678",
        "-12345678",
        " 12345678 ",
        "\N{ARABIC-INDIC DIGIT ONE}" * 8,
        "a" * 65,
        "%",
        "1234567",
        "0",
        ":",
    ],
)
async def test_what_is_no_serial_number_and_no_fingerprint_is_not_found(
    bench: Workbench, name: str
) -> None:
    await issued(bench)
    with pytest.raises(NotFound):
        await bench.registry.certificate(bench.made.namespace, name)


# --- pages


async def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    for _ in range(7):
        await record(device)
    pages, before = [], None
    while page := await bench.registry.certificates(bench.made.namespace, before=before, limit=3):
        pages.append(len(page))
        before = page[-1].id
    everything = await bench.registry.certificates(bench.made.namespace)
    assert pages == [3, 3, 1]
    assert [c.id for c in everything] == sorted((c.id for c in everything), reverse=True)


async def test_page_of_a_device_has_no_other_devices_certificates(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    await record(device)
    await bench.provision("dev-2")
    page = await bench.registry.certificates(bench.made.namespace, device_id="DEV-1")
    assert [c.device_id for c in page] == ["dev-1"]


async def test_totals_count_devices_and_certificates(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    await record(device)
    await record(device)
    assert await bench.registry.totals() == (1, 2)


async def test_recorded_certificate_comes_back_by_its_fingerprint_alone(
    bench: Workbench, record: Recorder, device: Device
) -> None:
    await record(device, sha256=b"\xff" * 32)
    found = await bench.store.read(lambda tx: inventory.find(tx, b"\xff" * 32))
    assert found is not None
    assert found.sha256 == b"\xff" * 32


@pytest.mark.sqlite(reason="the plan is SQLite's")
@pytest.mark.parametrize("query", [inventory._LATEST, inventory._BY_PREFIX, inventory._OF_DEVICE])
def test_page_of_a_million_is_not_sorted(bench: Workbench, query: Query[Certificate]) -> None:
    with bench.sql() as connection:
        sql = str(query._source.compile(dialect=connection.dialect))  # type: ignore[union-attr]
        values = (None,) * sql.count("?")
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall())
    assert "SEARCH certificates" in plan
    assert "TEMP B-TREE" not in plan
