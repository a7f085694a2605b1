"""The OpenAPI document of the HTTPS port, and whether an answer is as it says."""

from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jsonschema_rs
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from fleetroot.api.applications import https_application
from fleetroot.api.description import document as describe
from fleetroot.api.services import Services
from fleetroot.gateway.refusals import Refusals

Operation = dict[str, Any]


@cache
def application() -> FastAPI:
    """The routes alone: nothing behind them."""
    nothing = cast("Services", SimpleNamespace(version="0", clock=None))
    return https_application(nothing, cast("Refusals", None), 1, CollectorRegistry())


@cache
def document() -> dict[str, Any]:
    return describe(application())


def operations() -> dict[tuple[str, str], Operation]:
    """By method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


async def check(answer: httpx.Response) -> None:
    """Asserts that an answer is one that the document has; answers to what it does not have pass.

    As a hook of httpx it sees what every test asks.
    """
    operation = _operation(answer.request.method, answer.request.url.path)
    if operation is None:
        return
    called = operation["operationId"]
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{called} answers {answer.status_code}: {await answer.aread()!r}"
    content = described.get("content", {})
    if not content:
        assert not await answer.aread(), f"{called} answers with a body"
        return
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    assert media_type in {each.partition(";")[0] for each in content}, (called, media_type)
    if media_type == "application/json":
        await answer.aread()
        _validator(called, str(answer.status_code)).validate(answer.json())


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    found = [
        (re.compile(re.sub(r"{\w+}", "[^/]+", path) + "/?", re.IGNORECASE), path)
        for path in document()["paths"]
    ]
    return sorted(found, key=lambda each: each[1].count("{"))


def _operation(method: str, path: str) -> Operation | None:
    for pattern, template in _templates():
        if pattern.fullmatch(path):
            return cast("Operation | None", document()["paths"][template].get(method.lower()))
    return None


@cache
def _validator(operation_id: str, status: str) -> Any:
    [operation] = [o for o in operations().values() if o["operationId"] == operation_id]
    schema = operation["responses"][status]["content"]["application/json"]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": document()["components"]})
