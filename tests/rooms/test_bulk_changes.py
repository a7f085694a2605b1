"""Bulk changes of enrollments beside changes by others: an item that was overtaken is not done, and
the others are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from fleetroot.audit import SYSTEM
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    EnrollmentNotFound,
    EtagMismatch,
    FleetrootError,
)
from fleetroot.provisioning import services
from fleetroot.provisioning.bulk import BulkMode, NotDone, WantedEnrollment
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from workbench import Workbench

INDIVIDUAL = EnrollmentKind.INDIVIDUAL
WANTED = WantedEnrollment(EnrollmentSettings(device_id="wanted"))


async def change(
    bench: Workbench, mode: BulkMode, *ids: str, wanted: WantedEnrollment | None = WANTED
) -> dict[str, type[FleetrootError]]:
    """What was not done, and why."""
    found: list[NotDone] = await bench.administration.change_many(
        bench.made.service, INDIVIDUAL, mode, dict.fromkeys(ids, wanted), by=SYSTEM
    )
    return {each.id: type(each.error) for each in found}


def put(bench: Workbench, id_: str, if_match: str | None = None) -> Callable[[], Awaitable[object]]:
    return lambda: bench.administration.put(
        bench.made.service,
        INDIVIDUAL,
        id_,
        EnrollmentSettings(device_id="other"),
        if_match=if_match,
        by=SYSTEM,
    )


def delete(bench: Workbench, id_: str) -> Callable[[], Awaitable[object]]:
    return lambda: bench.administration.delete(bench.made.service, INDIVIDUAL, id_, by=SYSTEM)


async def device_id(bench: Workbench, id_: str) -> str | None:
    found = await bench.administration.get(bench.made.service, INDIVIDUAL, id_)
    return found.enrollment.settings.device_id


async def test_item_that_somebody_else_creates_first_is_not_created(bench: Workbench) -> None:
    bench.store.before_write.append(put(bench, "dev-1"))
    not_done = await change(bench, BulkMode.CREATE, "dev-1", "dev-2")
    assert not_done == {"dev-1": AlreadyExists}
    assert await device_id(bench, "dev-1") == "other"
    assert await device_id(bench, "dev-2") == "wanted"


@pytest.mark.parametrize("mode", [BulkMode.UPDATE, BulkMode.UPDATE_IF_MATCH])
async def test_item_that_somebody_else_changes_first_is_not_changed(
    bench: Workbench, mode: BulkMode
) -> None:
    await put(bench, "dev-1")()
    found = await bench.administration.get(bench.made.service, INDIVIDUAL, "dev-1")
    wanted = WantedEnrollment(WANTED.settings, etag=found.enrollment.etag)
    bench.store.before_write.append(put(bench, "dev-1", "*"))
    assert await change(bench, mode, "dev-1", wanted=wanted) == {"dev-1": EtagMismatch}
    assert await device_id(bench, "dev-1") == "other"


async def test_item_that_somebody_else_deletes_first_does_not_come_back(bench: Workbench) -> None:
    for mode, wanted in ((BulkMode.UPDATE, WANTED), (BulkMode.DELETE, None)):
        await put(bench, "dev-1")()
        bench.store.before_write.append(delete(bench, "dev-1"))
        not_done = await change(bench, mode, "dev-1", wanted=wanted)
        assert not_done == {"dev-1": EnrollmentNotFound}
        with pytest.raises(EnrollmentNotFound):
            await device_id(bench, "dev-1")


async def test_service_that_goes_meanwhile_takes_no_enrollment(bench: Workbench) -> None:
    namespace = await bench.registry.namespace("default")
    service = await bench.administration.create_service(
        namespace, "works", host_name="works.example", hub_ids=[], by=SYSTEM
    )
    bench.store.before_write.append(
        lambda: bench.store.store.write(lambda tx: services.remove(tx, service))
    )
    with pytest.raises(Conflict):
        await bench.administration.change_many(
            service, INDIVIDUAL, BulkMode.CREATE, {"dev-1": WANTED, "dev-2": WANTED}, by=SYSTEM
        )
    page, _ = await bench.administration.page(service, INDIVIDUAL, after="", limit=10)
    assert page == []
