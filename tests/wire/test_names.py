"""The user names of CONNECT: which service, which device, which generation of the API."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet import Fleet, refusal
from fleetroot.errors import InvalidArgument
from fleetroot.gateway.mqtt import ConnackCode, Connect
from fleetroot.gateway.names import HubName, ProvisioningName, parse_name


@pytest.mark.parametrize(
    ("username", "name"),
    [
        (
            "0ne1/registrations/dev-1/api-version=2019-03-31&ClientVersion=azsdk%2F1",
            ProvisioningName("0ne1", "dev-1", "2019-03-31"),
        ),
        (
            "0ne1/registrations/a%3Ab/api-version=2019-03-31",
            ProvisioningName("0ne1", "a:b", "2019-03-31"),
        ),
        (
            "hub.example/dev-1/?api-version=2019-10-01&DeviceClientType=x%20y",
            HubName("hub.example", "dev-1", None, "2019-10-01"),
        ),
        (
            "hub.example/dev-1/?api-version=2021-04-12&model-id=dtmi:com:x;1",
            HubName("hub.example", "dev-1", None, "2021-04-12", "dtmi:com:x;1"),
        ),
        (
            "hub.example/dev-1/?model-id=dtmi%3Acom%3Ax_1%3B1.2",
            HubName("hub.example", "dev-1", None, None, "dtmi:com:x_1;1.2"),
        ),
        (
            "hub.example/dev-1/mod/?api-version=2021-04-12",
            HubName("hub.example", "dev-1", "mod", "2021-04-12"),
        ),
        ("hub.example/dev-1/?DeviceClientType=x", HubName("hub.example", "dev-1", None, None)),
    ],
)
def test_a_user_name_names_its_service(username: str, name: object) -> None:
    assert parse_name(username) == name


parts = st.text(st.characters(codec="utf-8", exclude_characters="/?"), min_size=1, max_size=30)
versions = st.sampled_from(["2019-03-31", "2026-11-01", "x y", "\u0662"])


@given(parts, st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), versions)
def test_the_name_of_a_device_that_provisions_survives_its_spelling(
    id_scope: str, registration_id: str, version: str
) -> None:
    encoded, asked = quote(registration_id, safe=""), quote(version)
    username = f"{id_scope}/registrations/{encoded}/api-version={asked}&ClientVersion=x%2F1"
    assert parse_name(username) == ProvisioningName(id_scope, registration_id, version)


@pytest.mark.parametrize(
    "model",
    [
        "dtmi",
        "dtmi:",
        "dtmi:1;1",
        "dtmi:a_;1",
        "dtmi:a::b;1",
        "dtmi:a;0",
        "dtmi:ä;1",
        "dtmi:" + "a" * 128,
    ],
)
def test_model_that_is_no_dtmi_is_refused(model: str) -> None:
    with pytest.raises(InvalidArgument, match="model-id"):
        parse_name(f"hub.example/dev-1/?model-id={quote(model)}")


@given(parts, parts, st.none() | parts, versions, st.booleans())
def test_the_name_of_a_device_that_works_is_made_of_its_parts(
    host: str, device_id: str, module_id: str | None, version: str, slash: bool
) -> None:
    path = "/".join(filter(None, [host, device_id, module_id]))
    username = f"{path}{'/' * slash}?DeviceClientType=x&api-version={quote(version)}&y"
    assert parse_name(username) == HubName(host, device_id, module_id, version)


queries = st.lists(
    st.sampled_from(["api-version", "=", "&", "%", "%2D", "2d", "+", ";", "v", "\u0662"])
    | st.characters(exclude_characters="\n"),
    max_size=20,
).map("".join)


@given(queries)
@example("&api-version=&=1&api%2Dversion=1%2B+1&api-version=2")
def test_the_query_of_a_name_is_a_query_as_the_web_has_it(query: str) -> None:
    values = parse_qs(query).get("api-version", [None])
    assert parse_name(f"hub/dev/?{query}") == HubName("hub", "dev", None, values[0])


@given(st.text(max_size=200))
def test_arbitrary_text_is_a_name_or_an_invalid_argument(text: str) -> None:
    for candidate in (text, f"hub/dev/?{text}", f"s/registrations/d/api-version={text}"):
        try:
            parse_name(candidate)
        except InvalidArgument:
            continue


@given(st.integers(min_value=0, max_value=200))
def test_a_query_of_many_fields_is_a_name_or_an_invalid_argument(count: int) -> None:
    try:
        parse_name("hub/dev/?" + "&".join(["a=1"] * count))
    except InvalidArgument:
        assert count > 32


@pytest.mark.parametrize("username", ["", "/", "hub", "hub/dev", "a" * 3000])
async def test_a_user_name_of_no_service_is_bad_credentials(fleet: Fleet, username: str) -> None:
    code = await refusal(fleet.attach(Connect("dev-1", username=username)))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_a_user_name_with_too_many_fields_is_bad_credentials(fleet: Fleet) -> None:
    username = f"{fleet.hub_host}/dev-1/?" + "&".join(["a=1"] * 50)
    code = await refusal(fleet.attach(Connect("dev-1", username=username)))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD
