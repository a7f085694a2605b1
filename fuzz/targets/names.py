"""The user names of CONNECT."""

from __future__ import annotations

from urllib.parse import quote

from fleetroot.errors import InvalidArgument
from fleetroot.gateway.names import HubName, ProvisioningName, parse_name
from fuzz.reading import text

TOKENS = (
    b"/registrations/",
    b"/api-version=",
    b"/?api-version=",
    b"%3A",
    b"2019-10-01",
    b"&",
    b"?",
)


def check(data: bytes) -> None:
    """A user name is refused as an invalid argument, or names parts that stand in it and that make
    the same name again.
    """
    username = text(data)
    try:
        name = parse_name(username)
    except InvalidArgument:
        return
    version = f"api-version={quote(name.api_version or '', safe='')}"
    match name:
        case ProvisioningName():
            assert username.startswith(f"{name.id_scope}/")
            assert 0 < len(name.id_scope) <= 64
            assert 0 < len(name.registration_id) <= 256
            registration_id = quote(name.registration_id, safe="")
            if len(registration_id) > 256:  # the limit is on what was sent
                return
            again = f"{name.id_scope}/registrations/{registration_id}/{version}"
        case HubName():
            parts = [name.host_name, name.device_id, *filter(None, [name.module_id])]
            assert username.startswith("/".join(parts))
            assert all("/" not in part and 0 < len(part) <= 256 for part in parts)
            assert "?" not in (name.module_id or "")
            model = f"&model-id={quote(name.model_id, safe='')}" if name.model_id else ""
            again = f"{'/'.join(parts)}/?{version}{model}"
    if len(again) > 2048:
        return
    assert parse_name(again) == name, "a name that is not itself"


def seeds() -> dict[str, bytes]:
    """What the SDKs send."""
    return {
        "dps-python": b"0ne00000000/registrations/dev-1/api-version=2019-03-31"
        b"&ClientVersion=azure-iot-device-provisioning-py%2F2.14.0",
        "dps-csr": b"0ne00000000/registrations/dev-1/api-version=2026-11-01",
        "dps-encoded": b"0ne0/registrations/a%3Ab/api-version=2025-07-01-preview",
        "hub-python": b"hub.example/dev-1/?api-version=2019-10-01"
        b"&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%28python%2F3.11%29",
        "hub-node": b"hub.example/dev-1/?api-version=2021-04-12&model-id=dtmi:com:x;1",
        "hub-module": b"hub.example/dev-1/mod/?api-version=2025-08-01-preview",
        "hub-no-slash": b"hub.example/dev-1?DeviceClientType=x",
        "question-mark": b"hub.example/dev?1/?api-version=2018-06-30",
        "not-ascii": "hub/d\u00e9v/?api-version=\u0662".encode(),
    }
