"""The OpenAPI document that the server serves: who reads it, and that it leaves nothing out."""

from __future__ import annotations

import re

import httpx
from fastapi.routing import iter_route_contexts
from test_open_routes import anonymous
from test_roles import bearer

import api_document
from fleet import Fleet
from fleetroot.access import Role


async def test_whoever_has_a_token_reads_it_and_nobody_else(fleet: Fleet) -> None:
    other = await fleet.http.put("/fleetroot/namespaces/other", json={"credential": False})
    async with await bearer(fleet, Role.READER, other.json()["id"]) as client:
        answer = await client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json()["paths"].keys() == api_document.document()["paths"].keys()
    async with anonymous(fleet) as client:
        assert (await client.get("/openapi.json")).status_code == 401


async def test_console_port_describes_what_it_serves(fleet: Fleet) -> None:
    token = f"Bearer {fleet.bootstrap['adminToken']}"
    async with anonymous(fleet, "consolePort", authorization=token) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert "/fleetroot/status" in paths
    assert "/metrics" not in paths


def test_every_route_is_described() -> None:
    served = {
        (method, context.path)
        for context in iter_route_contexts(api_document.application().routes)
        for method in context.methods or ()
    }
    assert len(served) > 50
    assert served == set(api_document.operations())


def test_every_operation_has_a_name_of_its_own_that_says_where_it_is() -> None:
    names = [operation["operationId"] for operation in api_document.operations().values()]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), name


def test_every_name_in_a_path_is_described() -> None:
    for (_, path), operation in api_document.operations().items():
        described = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path)), path


def test_what_asks_for_no_token_is_known() -> None:
    open_to_all = {
        path
        for (_, path), operation in api_document.operations().items()
        if not operation.get("security") or {} in operation["security"]
    }
    assert open_to_all == {"/healthz", "/metrics"}


def test_every_answer_with_json_has_a_type() -> None:
    for operation in api_document.operations().values():
        for status, answer in operation["responses"].items():
            shown = answer.get("content", {}).get("application/json")
            if shown is not None and operation["operationId"] != "server_openapi":
                assert "$ref" in shown["schema"], (operation["operationId"], status)


def test_no_answer_is_described_that_only_the_framework_gives() -> None:
    for operation in api_document.operations().values():
        assert "422" not in operation["responses"]


async def test_answer_that_is_not_described_is_noticed(fleet: Fleet) -> None:
    request = httpx.Request("GET", "https://localhost/fleetroot/status")
    for undescribed in (httpx.Response(418), httpx.Response(200, json={"version": 1})):
        undescribed.request = request
        try:
            await api_document.check(undescribed)
        except (AssertionError, ValueError):
            continue
        raise AssertionError("it passed")
