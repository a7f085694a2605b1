"""The provisioning device API over HTTPS: the rules of provisioning over MQTT, in HTTP's words."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509

from fleet import Certified, Fleet, device_csr
from fleetroot.clock import ManualClock
from fleetroot.gateway.names import PROVISIONING_VERSIONS
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning.model import RegisterRequest, RegistrationResult, Status

VERSION = "2026-11-01"
NOBODY = {"authorization": ""}


class HttpsDevice:
    """A device with a connection that is kept alive."""

    def __init__(self, fleet: Fleet, registration_id: str = "dev-1", **token: Any) -> None:
        self.fleet = fleet
        self.id = registration_id
        self.path = f"/{fleet.id_scope}/registrations/{registration_id}"
        self.token = fleet.provisioning_token(registration_id, **token).decode()

    async def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] = b"{}", **how: Any
    ) -> httpx.Response:
        how = {"params": {"api-version": VERSION}, "headers": {"authorization": self.token}} | how
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.fleet.http.request(method, path, content=content, **how)

    async def register(
        self, body: bytes | dict[str, Any] | None = None, **how: Any
    ) -> httpx.Response:
        if body is None:
            body = {"registrationId": self.id}
        return await self.ask("PUT", f"{self.path}/register", body, **how)

    async def poll(self, operation_id: str, **how: Any) -> httpx.Response:
        return await self.ask("GET", f"{self.path}/operations/{operation_id}", **how)

    async def look_up(self, body: bytes | dict[str, Any] = b"", **how: Any) -> httpx.Response:
        return await self.ask("POST", self.path, body, **how)


@pytest.fixture
def device(fleet: Fleet) -> HttpsDevice:
    return HttpsDevice(fleet)


def refused(answer: httpx.Response, code: int) -> dict[str, Any]:
    """The body of an error with its documented code and headers."""
    assert answer.status_code == code // 1000, answer.text
    assert answer.headers["x-ms-error-code"] == str(code)
    assert answer.headers["content-type"].startswith("application/json")
    body: dict[str, Any] = answer.json()
    assert body["errorCode"] == code
    return body


# --- register, poll, look up


async def test_device_registers_with_a_csr_and_connects_with_the_certificate(
    fleet: Fleet, device: HttpsDevice
) -> None:
    key, csr = device_csr("dev-1")
    answer = await device.register({"registrationId": "dev-1", "csr": csr})
    assert answer.status_code == 200
    assert answer.json()["status"] == "assigned"
    state = answer.json()["registrationState"]
    assert state["assignedHub"] == fleet.hub_host
    chain = tuple(base64.b64decode(der) for der in state["issuedCertificateChain"])
    assert len(chain) == 3
    await (await fleet.connect("dev-1", Certified(chain, key))).close()


async def test_poll_answers_what_the_registration_answered(device: HttpsDevice) -> None:
    registered = (await device.register({"csr": device_csr("dev-1")[1]})).json()
    answer = await device.poll(registered["operationId"])
    assert answer.status_code == 200
    assert answer.json() == registered


async def test_look_up_shows_the_registration_without_its_chain(device: HttpsDevice) -> None:
    registered = (await device.register({"csr": device_csr("dev-1")[1]})).json()
    answer = await device.look_up({"registrationId": "dev-1"})
    state = registered["registrationState"]
    del state["issuedCertificateChain"]
    assert (answer.status_code, answer.json()) == (200, state)


async def test_look_up_with_a_csr_is_an_invalid_argument(device: HttpsDevice) -> None:
    await device.register()
    refused(await device.look_up({"csr": device_csr("dev-1")[1]}), 400004)


async def test_look_up_before_any_registration_is_404202(device: HttpsDevice) -> None:
    refused(await device.look_up(), 404202)


async def test_answers_are_those_of_mqtt(fleet: Fleet, device: HttpsDevice) -> None:
    over_https = (await device.register()).json()
    over_mqtt = (await fleet.register("dev-1")).body
    for answer in (over_https, over_mqtt):
        for name in ("createdDateTimeUtc", "lastUpdatedDateTimeUtc", "etag", "substatus"):
            answer["registrationState"].pop(name)
        del answer["operationId"]
    assert over_https == over_mqtt


class Unfinished(Provisioning):
    """Provisioning whose work is never done at once."""

    async def register(self, request: RegisterRequest) -> RegistrationResult:
        result = await super().register(request)
        registration = replace(result.registration, status=Status.ASSIGNING)
        return replace(result, registration=registration)


async def test_what_is_not_done_is_202_with_where_and_when_to_ask(
    fleet: Fleet, device: HttpsDevice
) -> None:
    fleet.server.provisioning.__class__ = Unfinished
    answer = await device.register()
    assert answer.status_code == 202
    assert answer.json()["status"] == "assigning"
    assert answer.headers["retry-after"].isdigit()
    location = answer.headers["location"]
    assert f"/operations/{answer.json()['operationId']}?api-version={VERSION}" in location
    found = await device.ask("GET", location, params=None)
    assert found.json()["operationId"] == answer.json()["operationId"]


async def test_poll_of_what_is_not_done_is_202(fleet: Fleet, device: HttpsDevice) -> None:
    operation = (await device.register()).json()["operationId"]
    await fleet.execute("UPDATE registrations SET status = 'assigning'")
    answer = await device.poll(operation)
    assert answer.status_code == 202
    assert {"retry-after", "location"} <= set(answer.headers)


@pytest.mark.parametrize("version", PROVISIONING_VERSIONS)
async def test_every_version_is_answered_in_its_shape(device: HttpsDevice, version: str) -> None:
    csr = device_csr("dev-1")[1]
    answer = await device.register(
        {"csr": csr, "clientCertificateCsr": csr}, params={"api-version": version}
    )
    state = answer.json()["registrationState"]
    expected = {"2021-11-01-preview": "issuedClientCertificate"} | dict.fromkeys(
        ("2025-07-01-preview", "2026-11-01", "2026-11-02-preview", "2026-11-15-preview"),
        "issuedCertificateChain",
    )
    shown = {"issuedClientCertificate", "issuedCertificateChain"} & state.keys()
    assert shown == ({expected[version]} if version in expected else set())


@pytest.mark.parametrize("query", [{}, {"api-version": ""}, {"api-version": "2020-02-02"}])
@pytest.mark.parametrize("call", ["register", "poll", "look_up"])
async def test_unknown_version_is_400_and_lists_the_known(
    device: HttpsDevice, query: dict[str, str], call: str
) -> None:
    argument = "op" if call == "poll" else b"{}"
    body = refused(await getattr(device, call)(argument, params=query), 400004)
    for version in PROVISIONING_VERSIONS:
        assert version in body["message"]


# --- what SDKs send


async def test_node_sends_force_registration_and_its_content_type(device: HttpsDevice) -> None:
    answer = await device.register(
        params={"api-version": "2019-03-31", "forceRegistration": "true"},
        headers={
            "authorization": device.token,
            "content-type": "application/json; charset=utf-8",
            "accept": "application/json",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")


async def test_poll_is_a_get_with_a_body(device: HttpsDevice) -> None:
    operation = (await device.register()).json()["operationId"]
    answer = await device.ask("GET", f"{device.path}/operations/{operation}", b"{}")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "form",
    ["/{scope}/Registrations/{id}/REGISTER", "/{scope}/registrations/{id}/register/"],
)
async def test_path_matches_in_any_case_and_with_a_slash_behind(
    fleet: Fleet, device: HttpsDevice, form: str
) -> None:
    path = form.format(scope=fleet.id_scope, id="dev-1")
    assert (await device.ask("PUT", path)).status_code == 200


@pytest.mark.parametrize("written", ["a.b_c:d-e", "a.b_c%3Ad-e", "a%2Eb_c%3ad-e"])
async def test_ids_are_taken_raw_or_encoded(fleet: Fleet, written: str) -> None:
    device = HttpsDevice(fleet, "a.b_c:d-e")
    path = f"/{fleet.id_scope}/registrations/{written}/register"
    answer = await device.ask("PUT", path)
    assert answer.json()["registrationState"]["registrationId"] == "a.b_c:d-e"


@pytest.mark.parametrize("written", ["dev%2D1%2Fregister", "dev%252D1", "dev%ff1", "%00", "d%20v"])
async def test_ids_are_decoded_once_and_then_judged(fleet: Fleet, written: str) -> None:
    device = HttpsDevice(fleet)
    path = f"/{fleet.id_scope}/registrations/{written}/register"
    refused(await device.ask("PUT", path), 400004)


async def test_spellings_of_a_registration_id_are_one_device(fleet: Fleet) -> None:
    await HttpsDevice(fleet, "Dev-1").register()
    other = HttpsDevice(fleet, "DEV-1", key=fleet.device_key("Dev-1"))
    answer = await other.register()
    assert answer.json()["registrationState"]["registrationId"] == "Dev-1"


# --- who is attested


@pytest.mark.parametrize("call", ["register", "poll", "look_up"])
async def test_every_call_of_a_kept_connection_is_authorized(
    device: HttpsDevice, call: str
) -> None:
    operation = (await device.register()).json()["operationId"]
    arguments = [operation] if call == "poll" else []
    assert (await getattr(device, call)(*arguments)).status_code == 200
    body = refused(await getattr(device, call)(*arguments, headers=NOBODY), 401002)
    assert body["message"] == "Unauthorized"


async def test_token_that_expires_between_two_requests_is_401003(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    device = HttpsDevice(timed_fleet, expires_in=timedelta(minutes=1))
    assert (await device.register()).status_code == 200
    clock.advance(timedelta(minutes=1))
    refused(await device.register(), 401003)


async def test_device_that_is_disabled_between_two_requests_is_refused(
    fleet: Fleet, device: HttpsDevice
) -> None:
    await device.register()
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    refused(await device.register(), 401002)


@pytest.mark.parametrize(
    "token",
    [
        "SharedAccessSignature x",
        "Bearer {admin}",
        "SharedAccessSignature sr={other}",
        "é",
        "SharedAccessSignature " + "x" * 5000,
    ],
    ids=["malformed", "operator's", "other", "not ASCII", "long"],
)
async def test_what_is_no_token_of_the_device_is_401003(
    fleet: Fleet, device: HttpsDevice, token: str
) -> None:
    before = fleet.traces()
    token = token.format(
        admin=fleet.bootstrap["adminToken"],
        other=fleet.provisioning_token("dev-2").decode().partition("=")[2],
    )
    answer = await device.register(headers={"authorization": token.encode()})
    refused(answer, 401003)
    assert fleet.traces() == before


async def test_wrong_key_is_401003_and_leaves_nothing(fleet: Fleet) -> None:
    before = fleet.traces()
    device = HttpsDevice(fleet, key=b"k" * 32)
    refused(await device.register({"csr": device_csr("dev-1")[1]}), 401003)
    assert fleet.traces() == before


async def test_certificate_without_a_token_is_unauthorized(
    fleet: Fleet, device: HttpsDevice
) -> None:
    certified = await fleet.provision("dev-1")
    context = fleet.trust()
    certified.load_into(context)
    url = f"https://localhost:{fleet.bootstrap['httpsPort']}{device.path}/register"
    async with httpx.AsyncClient(verify=context) as client:
        refused(await client.put(url, params={"api-version": VERSION}, content=b"{}"), 401002)


async def test_unknown_id_scope_is_unauthorized(fleet: Fleet, device: HttpsDevice) -> None:
    before = fleet.traces()
    refused(await device.ask("PUT", "/0neFFFFFFFF/registrations/dev-1/register"), 401002)
    assert fleet.traces() == before


async def test_registration_id_without_an_enrollment_is_404201(
    fleet: Fleet, device: HttpsDevice
) -> None:
    await fleet.http.delete("/enrollmentGroups/default")
    refused(await device.register(), 404201)


async def test_unknown_operation_is_404202(device: HttpsDevice) -> None:
    await device.register()
    refused(await device.poll("other"), 404202)


async def test_refusal_is_reported_with_the_trace_id_that_the_device_saw(
    device: HttpsDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    body = refused(await device.register(headers=NOBODY), 401002)
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "refused" in each]
    for part in (body["trackingId"], "dev-1", "127.0.0.1", "no credential"):
        assert part in line


# --- bodies, methods, paths


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400006),
        (b"\xff\xff", 400006),
        (b"[" * 50_000, 400006),
        (b"[]", 400004),
        (b'{"registrationId": "dev-2"}', 400004),
        (b'{"csr": 5}', 400004),
        (b'{"csr": "!!!"}', 400004),
        (b"x" * (96 * 1024 + 1), 413001),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_bad_body_is_its_documented_error_and_leaves_nothing(
    fleet: Fleet, device: HttpsDevice, body: bytes, code: int
) -> None:
    before = fleet.traces()
    refused(await device.register(body), code)
    assert fleet.traces() == before


async def test_body_may_be_96_kilobytes(device: HttpsDevice) -> None:
    body = json.dumps({"payload": ""}).encode()
    body = json.dumps({"payload": "x" * (96 * 1024 - len(body))}).encode()
    assert (await device.register(body)).status_code == 200


async def test_body_without_a_length_is_bounded_while_it_comes(device: HttpsDevice) -> None:
    async def pieces() -> Any:
        for _ in range(7):
            yield bytes(16 * 1024)

    answer = await device.fleet.http.put(
        f"{device.path}/register",
        content=pieces(),
        params={"api-version": VERSION},
        headers={"authorization": device.token},
    )
    refused(answer, 413001)


async def test_device_that_leaves_before_its_body_is_here_leaves_nothing(
    fleet: Fleet, device: HttpsDevice
) -> None:
    _, writer = await asyncio.open_connection(
        "127.0.0.1", fleet.bootstrap["httpsPort"], ssl=fleet.trust(), server_hostname="localhost"
    )
    head = f"PUT {device.path}/register?api-version={VERSION} HTTP/1.1\r\nhost: x\r\n"
    head += f"authorization: {device.token}\r\ncontent-length: 20\r\n\r\n"
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(5):
        while fleet.server._http[1].state.tasks:
            await asyncio.sleep(0.01)
    assert await fleet.devices() == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/register", "PUT"),
        ("POST", "/register", "PUT"),
        ("PUT", "/operations/1", "GET"),
        ("GET", "", "POST"),
        ("DELETE", "", "POST"),
    ],
)
async def test_other_method_is_405(
    device: HttpsDevice, method: str, path: str, allowed: str
) -> None:
    answer = await device.ask(method, device.path + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "path", ["/registrations", "//registrations/dev-1/nothing", "/registrations/dev-1/register/x"]
)
async def test_other_path_is_404(fleet: Fleet, device: HttpsDevice, path: str) -> None:
    assert (await device.ask("PUT", f"/{fleet.id_scope}{path}")).status_code == 404


@pytest.mark.parametrize("raw", [b"\xe9", b"\xff\xfe", b"\x01", b"%zz", b"a" * 3000])
async def test_path_that_cannot_be_is_refused_and_not_an_error(
    fleet: Fleet, device: HttpsDevice, raw: bytes
) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", fleet.bootstrap["httpsPort"], ssl=fleet.trust(), server_hostname="localhost"
    )
    path = f"/{fleet.id_scope}/registrations/".encode() + raw + b"/register?api-version=2026-11-01"
    head = b"PUT " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    writer.write(head)
    async with asyncio.timeout(5):
        status = (await reader.readline()).split()[1]
    assert status in {b"400", b"404"}
    writer.close()


@pytest.mark.parametrize("path", ["/enrollments/registrations/x", "/registrations/registrations/x"])
async def test_words_of_the_service_api_are_no_id_scopes(device: HttpsDevice, path: str) -> None:
    assert (await device.ask("POST", path)).status_code == 404


async def test_failure_that_passes_says_when_to_come_back(
    fleet: Fleet, device: HttpsDevice
) -> None:
    await fleet.execute("DELETE FROM linked_hubs")
    answer = await device.register()
    refused(answer, 503001)
    assert answer.headers["retry-after"].isdigit()


async def test_failure_that_nobody_foresaw_is_500_and_the_connection_lives(
    fleet: Fleet, device: HttpsDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(fleet.server.provisioning, "register", broken)
        body = refused(await device.register(), 500001)
    assert "ZeroDivision" not in json.dumps(body)
    assert (await device.register()).status_code == 200


async def test_issued_chain_is_a_chain(device: HttpsDevice) -> None:
    answer = await device.register({"csr": device_csr("dev-1")[1]})
    encoded = answer.json()["registrationState"]["issuedCertificateChain"]
    leaf, issuing, root = (x509.load_der_x509_certificate(base64.b64decode(d)) for d in encoded)
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)


async def test_who_is_not_attested_gets_one_answer_to_a_connection(fleet: Fleet) -> None:
    wrong = HttpsDevice(fleet, key=b"x" * 64)
    answer = await wrong.register()
    assert (answer.status_code, answer.headers["connection"]) == (401, "close")
    assert "connection" not in (await HttpsDevice(fleet).register()).headers
