"""The JSON bodies of devices, for any JSON at all."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.errors import (
    ErrorCode,
    FleetrootError,
    InvalidArgument,
    MalformedJson,
    error_of_code,
)
from fleetroot.gateway.error_bodies import error_body
from fleetroot.gateway.hub_bodies import read_credential_request
from fleetroot.gateway.names import CsrField
from fleetroot.gateway.registration_bodies import MAX_BODY_BYTES, read_registration
from fleetroot.hub.model import REPLACE_ANY, CredentialWish
from fleetroot.hub.twins import merge, parse_patch
from fleetroot.provisioning.model import TpmKeys

NOW = datetime(2026, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"), max_size=10)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(-1e9, 1e9) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["id", "csr", "replace", "registrationId", "clientCertificateCsr", "x"])
bodies = st.dictionaries(fields, values | st.sampled_from(["d", "D", "*", "a1b2"]), max_size=5)
requests = st.fixed_dictionaries(
    {"id": st.just("d"), "csr": st.just("MIH")},
    optional={"replace": values | st.sampled_from(["*", "a1b2"]), "x": values},
)
request_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{2,34}[A-Za-z0-9]", fullmatch=True)


@given(bodies | values, st.sampled_from(CsrField))
def test_a_registration_gives_its_csr_or_names_the_field(body: Any, field: CsrField) -> None:
    try:
        csr = read_registration(orjson.dumps(body), "d", field).csr
    except InvalidArgument:
        wrong_id = isinstance(body, dict) and body.get("registrationId") not in (None, "d", "D")
        wrong_csr = isinstance(body, dict) and field.value in body
        assert wrong_id or wrong_csr or not isinstance(body, dict)
        return
    expected = None if field is CsrField.NONE else body.get(field.value)
    assert (csr.text if csr else None) == expected


@given(st.binary(max_size=100), st.sampled_from(CsrField))
def test_arbitrary_bytes_are_a_registration_or_a_refusal(body: bytes, field: CsrField) -> None:
    try:
        read_registration(body, "d", field)
    except MalformedJson:
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(body)
    except InvalidArgument:
        orjson.loads(body)


@given(values.filter(lambda value: value is not None))
def test_a_registration_gives_its_payload_as_json(payload: Any) -> None:
    asked = read_registration(orjson.dumps({"payload": payload}), "d", CsrField.NONE)
    assert asked.payload is not None
    assert orjson.loads(asked.payload) == payload


def test_a_payload_that_is_nested_too_deeply_is_named() -> None:
    body = b'{"payload":' + b"[" * 300 + b"]" * 300 + b"}"
    with pytest.raises(InvalidArgument, match="payload: is nested too deeply"):
        read_registration(body, "d", CsrField.CSR)


@given(st.binary(max_size=400), st.none() | st.binary(max_size=400))
def test_a_registration_gives_the_keys_of_its_tpm(endorsement: bytes, root: bytes | None) -> None:
    told = {"endorsementKey": base64.b64encode(endorsement).decode(), "storageRootKey": None}
    if root is not None:
        told["storageRootKey"] = base64.b64encode(root).decode()
    asked = read_registration(orjson.dumps({"tpm": told}), "d", CsrField.CSR)
    assert asked.tpm == TpmKeys(endorsement, root)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ("AAAA", "tpm:"),
        ({}, "tpm.endorsementKey:"),
        ({"endorsementKey": 7}, "tpm.endorsementKey:"),
        ({"endorsementKey": "AA\n=="}, "tpm.endorsementKey:"),
        ({"endorsementKey": "\u00e9"}, "tpm.endorsementKey:"),
        ({"endorsementKey": "A" * 4100}, "tpm.endorsementKey:"),
        ({"endorsementKey": "AAAA", "storageRootKey": []}, "tpm.storageRootKey:"),
    ],
)
def test_keys_of_a_tpm_that_are_none_are_named(told: Any, field: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}"):
        read_registration(orjson.dumps({"tpm": told}), "d", CsrField.CSR)


def test_a_registration_is_bounded_before_it_is_read() -> None:
    with pytest.raises(FleetrootError) as refused:
        read_registration(b"[" * (MAX_BODY_BYTES + 1), "d", CsrField.CSR)
    assert refused.value.code is ErrorCode.TOO_LARGE


@given(bodies | requests)
def test_a_certificate_request_is_of_its_form_or_names_the_field(body: dict[str, Any]) -> None:
    try:
        wish = read_credential_request(orjson.dumps(body))
    except InvalidArgument as error:
        refused = error
    else:
        expected = {"replace": None, **body}
        assert {"id": wish.device_id, "csr": wish.csr, "replace": wish.replace} == expected
        return
    assert refused.message.partition(":")[0] in {"id", "csr", "replace", *body}


@given(values.filter(lambda value: not isinstance(value, dict)))
def test_a_certificate_request_that_is_no_object_is_an_invalid_argument(body: Any) -> None:
    with pytest.raises(InvalidArgument, match="must be a JSON object"):
        read_credential_request(orjson.dumps(body))


@given(texts, texts.filter(bool), st.none() | st.just(REPLACE_ANY) | request_ids)
def test_a_certificate_request_survives_the_wire(
    device_id: str, csr: str, replace: str | None
) -> None:
    body = json.dumps({"id": device_id, "csr": csr, "replace": replace}).encode()
    assert read_credential_request(body) == CredentialWish(device_id, csr, replace)


@given(st.dictionaries(texts, values, max_size=4), st.dictionaries(texts, values, max_size=4))
def test_merging_a_patch_twice_is_merging_it_once(
    document: dict[str, Any], patch: dict[str, Any]
) -> None:
    merged = merge(document, patch)
    assert merge(merged, patch) == merged
    assert all(merged[key] is not None for key in patch.keys() & merged.keys())


@given(st.dictionaries(texts, values, max_size=4))
def test_a_patch_that_is_taken_is_what_was_sent(patch: dict[str, Any]) -> None:
    try:
        assert parse_patch(orjson.dumps(patch)) == patch
    except InvalidArgument:
        return


@given(st.text(), st.sampled_from(ErrorCode), st.dictionaries(st.text(), st.text(), max_size=3))
def test_an_error_is_ascii_json_whatever_it_says(
    message: str, code: ErrorCode, info: dict[str, str]
) -> None:
    body = error_body(error_of_code(code, message, info=info), NOW)
    assert body.isascii()
    read = json.loads(body)
    assert (read["errorCode"], read["message"], read.get("info", {})) == (code, message, info)


LONG, CONTROLS = "A" * 20_000, ["\x00", "a\nb", "\x7f"]
NO_TEXT: list[Any] = [7, True, [], {}]


@pytest.mark.parametrize(
    ("field", "carries", "values"),
    [
        ("registrationId", CsrField.CSR, [*NO_TEXT, "", LONG, *CONTROLS, "other"]),
        ("csr", CsrField.CSR, [*NO_TEXT, "", LONG]),
        ("clientCertificateCsr", CsrField.CLIENT_CERTIFICATE_CSR, [*NO_TEXT, "", LONG]),
        ("tpm", CsrField.CSR, [7, True, [], "text"]),
        ("tpm.endorsementKey", CsrField.CSR, [None, *NO_TEXT, LONG, *CONTROLS, "AA"]),
        ("tpm.storageRootKey", CsrField.CSR, [*NO_TEXT, LONG, *CONTROLS, "AA"]),
    ],
)
def test_a_field_of_a_registration_that_cannot_be_is_named(
    field: str, carries: CsrField, values: list[Any]
) -> None:
    """One reader serves MQTT, WebSocket and HTTPS; a payload is as long as the body may be."""
    above, _, below = field.partition(".")
    for value in values:
        of = {"endorsementKey": "AAAA", below: value} if below else value
        with pytest.raises(InvalidArgument, match=f"^{field}:") as refused:
            read_registration(orjson.dumps({above: of}), "d", carries)
        assert 400 <= refused.value.code.status < 500


@pytest.mark.parametrize(
    "body", [b'{"csr":"\\ud800"}', b'{"payload":NaN}', b"[" * 2000, b'{"payload":"\xff"}']
)
def test_a_registration_that_is_not_json_is_refused_as_that(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        read_registration(body, "d", CsrField.CSR)
