"""What of a webhook's answer counts."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.custody import MasterKey, MasterKeyKind, MasterKeySource, Sealer
from fleetroot.hub.directory import Directory
from fleetroot.provisioning.custom_allocation import Unusable, read_answer
from fleetroot.provisioning.model import LinkedHub
from fleetroot.provisioning.pending import Decision

HUBS = [LinkedHub("a", "a.example"), LinkedHub("b", "b.example")]
DIRECTORY = Directory(Sealer(MasterKey(bytes(32), MasterKeySource(MasterKeyKind.ENVIRONMENT))))

texts = st.text(st.characters(codec="utf-8"), max_size=10)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=8,
)
twins = st.fixed_dictionaries(
    {}, optional={"tags": values, "properties": values | st.fixed_dictionaries({"desired": values})}
)
answers = st.fixed_dictionaries(
    {"iotHubHostName": st.sampled_from(["a.example", "B.EXAMPLE", "c.example"]) | values},
    optional={"initialTwin": twins | values, "payload": values, "x": values},
)


def read(body: Any) -> Decision:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_answer(text, HUBS, DIRECTORY)


def test_hub_is_found_in_any_spelling() -> None:
    assert read({"iotHubHostName": "B.Example"}) == Decision(hub_id="b")
    assert read({"iotHubHostname": "a.example"}) == Decision(hub_id="a")


def test_twin_and_payload_are_kept_as_json() -> None:
    twin = {"tags": {"a": 1}, "properties": {"desired": {"b": {"c": None}}}}
    found = read({"iotHubHostName": "a.example", "initialTwin": twin, "payload": [1, "ñ"]})
    assert orjson.loads(found.initial_twin or "") == twin
    assert orjson.loads(found.payload or "") == [1, "ñ"]


def test_null_is_as_if_nothing_was_said() -> None:
    twin = {"tags": None, "properties": {"desired": None}}
    found = read({"iotHubHostName": "a.example", "initialTwin": twin, "payload": None})
    assert found == Decision(hub_id="a", initial_twin="{}")
    assert read({"iotHubHostName": "a.example", "initialTwin": None}).initial_twin is None


@pytest.mark.parametrize(
    ("body", "code", "why"),
    [
        (b"", 400207, "is not JSON"),
        (b"{", 400207, "is not JSON"),
        (b'{"a":NaN}', 400207, "is not JSON"),
        (b"[" * 5000, 400207, "is not JSON"),
        ([1], 400207, "is no JSON object"),
        ({}, 400208, "no hub named"),
        ({"iotHubHostName": None}, 400208, "no hub named"),
        ({"iotHubHostName": ""}, 400208, "no hub named"),
        ({"iotHubHostName": "evil.example"}, 400207, "may not go to"),
        ({"iotHubHostName": "a"}, 400207, "may not go to"),
        ({"iotHubHostName": ["a.example"]}, 400207, "may not go to"),
        ({"initialTwin": [1]}, 400207, "initialTwin: it must be an object"),
        ({"initialTwin": {"more": 1}}, 400207, "initialTwin: it may have tags and properties"),
        ({"initialTwin": {"tags": 1}}, 400207, "initialTwin: tags must be an object"),
        ({"initialTwin": {"tags": {"$x": 1}}}, 400207, "initialTwin: "),
        (
            {"initialTwin": {"tags": dict.fromkeys("abc", "x" * 4000)}},
            400207,
            "initialTwin: tags: at most",
        ),
        ({"initialTwin": {"properties": {"reported": {}}}}, 400207, "may have desired"),
        ({"initialTwin": {"properties": {"desired": "x"}}}, 400207, "desired must be an object"),
        ({"payload": "x" * 65536}, 400207, "payload is over 65536 bytes"),
        (
            b'{"iotHubHostName":"a.example","payload":' + b"[" * 300 + b"]" * 300 + b"}",
            400207,
            "nested too deeply",
        ),
    ],
)
def test_answer_that_does_not_count_says_why(body: Any, code: int, why: str) -> None:
    if isinstance(body, dict) and body and "iotHubHostName" not in body:
        body = {"iotHubHostName": "a.example", **body}
    with pytest.raises(Unusable) as refused:
        read(body)
    assert refused.value.code == code
    assert why in refused.value.why


@given(answers | values)
def test_any_answer_is_a_decision_about_one_of_the_hubs_or_does_not_count(body: Any) -> None:
    try:
        found = read(body)
    except Unusable:
        return
    assert found.hub_id in {"a", "b"}
    assert not found.approved
    if found.initial_twin is not None:
        DIRECTORY.check_initial_twin(found.initial_twin)
    assert (found.payload is None) == (body.get("payload") is None)
