"""The JSON bodies of devices: a registration, a certificate request, a patch of a twin."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, NoReturn

import orjson

from fleetroot.errors import InvalidArgument, MalformedJson
from fleetroot.gateway.hub_bodies import read_credential_request
from fleetroot.gateway.names import CsrField
from fleetroot.gateway.registration_bodies import read_registration
from fleetroot.hub.twins import MAX_PROPERTIES_BYTES, check_section, merge, parse_patch

TOKENS = (
    b'{"id":"d","csr":"',
    b'"replace":"*"',
    b'"registrationId":"d"',
    b'"clientCertificateCsr":',
    b'"payload":{}',
    b'"tpm":{"endorsementKey":"AAAA","storageRootKey":"AAAA"}',
    b"null",
    b"NaN",
    b"[[[[[[",
    b"\\ud800",
    b"1e999",
    b"\xef\xbb\xbf",
)
DOCUMENT: dict[str, Any] = {"a": {"b": 1, "c": [1, {"d": None}]}, "e": "f"}


def check(data: bytes) -> None:
    """Three readers agree on what JSON is, and what they let in is of the form they promise."""
    parsed, is_json = reference(data)
    check_registration(data, parsed, is_json=is_json)
    check_credential_request(data, parsed, is_json=is_json)
    check_patch(data, parsed, is_json=is_json)


def reference(data: bytes) -> tuple[Any, bool]:
    """What RFC 8259 reads in it, and whether it reads anything: UTF-8 without a mark, no NaN, no
    lone surrogates, no number beyond a double. Integers beyond 64 bits are the nearest double.
    """
    try:
        parsed = json.loads(
            data.decode(),
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
        json.dumps(parsed, ensure_ascii=False).encode()
    except ValueError:
        return None, False
    return parsed, True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    json.dumps(pairs, ensure_ascii=False).encode()  # of a name that comes twice, the first one too
    return dict(pairs)


def _refuse(_constant: str) -> NoReturn:
    raise ValueError


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _integer(digits: str) -> int | float:
    value = int(digits)
    return value if -(1 << 63) <= value < 1 << 64 else _finite(digits)


def check_registration(data: bytes, parsed: Any, *, is_json: bool) -> None:
    """A DeviceRegistration of each generation of the API."""
    for field in CsrField:
        try:
            asked = read_registration(data, "d", field)
        except MalformedJson:
            assert not is_json
            assert data.strip()
            continue
        except InvalidArgument:
            assert is_json
            continue
        if asked.payload is not None:
            assert json.loads(asked.payload) == json.loads(orjson.dumps(parsed["payload"]))
        if asked.tpm is not None:
            told = parsed["tpm"]
            assert base64.b64decode(told["endorsementKey"]) == asked.tpm.endorsement
            root = told.get("storageRootKey")
            assert (base64.b64decode(root) if root is not None else None) == asked.tpm.storage_root
        csr = asked.csr
        if csr is None:
            continue
        assert field is not CsrField.NONE
        assert csr.text == parsed[field.value]
        assert csr.text
        assert csr.pem_allowed == (field is CsrField.CLIENT_CERTIFICATE_CSR)


def check_credential_request(data: bytes, parsed: Any, *, is_json: bool) -> None:
    """What renews a certificate."""
    try:
        wish = read_credential_request(data)
    except MalformedJson:
        assert not is_json
        return
    except InvalidArgument as error:
        assert is_json or not data.strip()
        assert len(error.message) < 200
        return
    assert parsed.keys() <= {"id", "csr", "replace"}
    assert (wish.device_id, wish.csr) == (parsed["id"], parsed["csr"])
    assert wish.replace == parsed.get("replace")
    again = {"id": wish.device_id, "csr": wish.csr, "replace": wish.replace}
    assert read_credential_request(json.dumps(again).encode()) == wish


def check_patch(data: bytes, parsed: Any, *, is_json: bool) -> None:
    """A patch of reported properties: merging twice is merging once, and what comes of it is a
    section of a twin that can be written and read.
    """
    try:
        patch = parse_patch(data)
    except MalformedJson:
        assert not is_json
        return
    except InvalidArgument:
        assert is_json
        return
    assert patch == parsed
    before = orjson.dumps(DOCUMENT)
    merged = merge(DOCUMENT, patch)
    assert orjson.dumps(DOCUMENT) == before, "merging changed what it was given"
    assert merge(merged, patch) == merged
    assert orjson.loads(orjson.dumps(merged)) == merged
    check_section("reported", merged, 2 * MAX_PROPERTIES_BYTES)
    assert merge(merged, dict.fromkeys(merged)) == {}


def seeds() -> dict[str, bytes]:
    """Bodies as the SDKs write them, and as they are refused."""
    return {
        "registration": b'{"registrationId": "d", "payload": {"a": 1}}',
        "registration-csr": b'{"registrationId":"D","csr":"MIH"}',
        "registration-preview": b'{"clientCertificateCsr": "-----BEGIN CERTIFICATE REQUEST-----"}',
        "request": b'{"id":"d","csr":"MIH"}',
        "request-replace": b'{"id": "d", "csr": "MIH", "replace": "a1b2-c3d4"}',
        "request-any": b'{"id":"d","csr":"x","replace":"*"}',
        "request-unknown": b'{"id":"d","csr":"x","x":1}',
        "patch": b'{"a":{"b":null,"c":[1,{"x":1.5}]},"g":true,"n":4503599627370495}',
        "patch-deep": b'{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":1}}}}}}}}}',
        "patch-key": b'{"a.b":1,"$x":2}',
        "array": b"[1]",
        "empty": b" ",
        "not-a-number": b'{"a":NaN}',
        "surrogate-overwritten": b'{"":"\\ud800","":1}',
        "big-integer": b'{"a":123456789012345678901234567890}',
    }
