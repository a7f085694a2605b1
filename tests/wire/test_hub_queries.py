"""Queries over the hub's service API."""

from __future__ import annotations

from typing import Any

import pytest

from fleet import Fleet

EVERYTHING = "SELECT * FROM devices"


@pytest.fixture
async def devices(fleet: Fleet) -> Fleet:
    """Five devices, of which two are at one site."""
    for number in range(5):
        await fleet.provision(f"dev-{number}")
        body = {"tags": {"site": "Zürich" if number < 2 else "Basel", "row": number}}
        answer = await fleet.http.patch(f"/twins/dev-{number}", json=body)
        assert answer.status_code == 200, answer.text
    return fleet


async def ask(fleet: Fleet, query: str, **headers: str) -> Any:
    answer = await fleet.http.post("/devices/query", json={"query": query}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def refused(fleet: Fleet, body: Any, status: int = 400, **headers: str) -> str:
    answer = await fleet.http.post("/devices/query", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return str(answer.json()["Message"])


async def test_twins_are_found_as_they_are_read(devices: Fleet) -> None:
    answer = await ask(devices, f"{EVERYTHING} WHERE tags.site = 'Zürich' AND tags.row > 0")
    assert answer.headers["x-ms-item-type"] == "Twin"
    assert "x-ms-continuation" not in answer.headers
    assert answer.json() == [(await devices.http.get("/twins/dev-1")).json()]


async def test_values_are_selected_and_left_out_where_there_are_none(devices: Fleet) -> None:
    await devices.http.patch("/twins/dev-3", json={"tags": {"row": None}})
    answer = await ask(
        devices,
        "SELECT deviceId, tags.row AS place, properties.desired.$version, certificate.status"
        " FROM devices WHERE tags.site = 'Basel'",
    )
    assert answer.headers["x-ms-item-type"] == "Raw"
    rest = {"$version": 1, "status": "valid"}
    assert answer.json() == [
        {"deviceId": "dev-2", "place": 2, **rest},
        {"deviceId": "dev-3", **rest},
        {"deviceId": "dev-4", "place": 4, **rest},
    ]


async def test_counts_by_group(devices: Fleet) -> None:
    answer = await ask(
        devices, "SELECT tags.site AS site, COUNT() AS devices FROM devices GROUP BY tags.site"
    )
    assert answer.json() == [{"site": "Basel", "devices": 3}, {"site": "Zürich", "devices": 2}]


async def test_pages_are_gone_through_in_an_order(devices: Fleet) -> None:
    query, found = "SELECT tags.row AS r FROM devices ORDER BY tags.row DESC", []
    headers = {"x-ms-max-item-count": "2"}
    while True:
        answer = await ask(devices, query, **headers)
        found.append([each["r"] for each in answer.json()])
        if "x-ms-continuation" not in answer.headers:
            break
        headers["x-ms-continuation"] = answer.headers["x-ms-continuation"]
    assert found == [[4, 3], [2, 1], [0]]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "query"),
        ("SELECT", "ends too early"),
        ("SELECT * FROM devices WHERE tags.site == 'x'", "at 40"),
        ("SELECT * FROM devices WHERE nothing = 1", "nothing is nothing to search for"),
        ("SELECT nothing FROM devices", "no nothing to show"),
        ("SELECT * FROM devices.jobs", "devices.modules"),
        ("DROP TABLE twins", "not understood"),
        ("SELECT * FROM devices WHERE " + "NOT " * 100 + "tags.a", "deep"),
        ("x" * 9000, "query"),
    ],
)
async def test_query_that_is_none_is_refused(devices: Fleet, query: str, why: str) -> None:
    message = await refused(devices, {"query": query})
    assert message.startswith("ErrorCode:ArgumentInvalid;")
    assert why in message


@pytest.mark.parametrize("body", [{}, {"query": 1}, [], {"query": None}])
async def test_body_that_is_none_is_refused(devices: Fleet, body: Any) -> None:
    await refused(devices, body)


async def test_token_of_another_query_is_refused(devices: Fleet) -> None:
    first = await ask(devices, EVERYTHING, **{"x-ms-max-item-count": "1"})
    token = first.headers["x-ms-continuation"]
    other = {"query": f"{EVERYTHING} WHERE tags.row = 1"}
    message = await refused(devices, other, **{"x-ms-continuation": token})
    assert "not a token of this query" in message
