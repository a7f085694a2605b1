"""The provisioning device API over HTTPS: a request as the server hands it over, and its answer."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import orjson

from fleetroot.api.device_registrations import DevicePath, DeviceRegistrations, parse_path
from fleetroot.clock import ManualClock
from fleetroot.errors import EnrollmentNotFound
from fleetroot.gateway.reasons import ADVICE
from fleetroot.gateway.refusals import Refusals
from fleetroot.provisioning.model import (
    EnrollmentKind,
    OnboardingCredential,
    RegisterRequest,
    Registration,
    RegistrationResult,
    Status,
)
from fuzz.reading import splits

MAX_BYTES = 1024
TOKENS = (
    b"/registrations/",
    b"/register",
    b"/operations/",
    b"?api-version=",
    b"2021-06-01",
    b"%2F",
    b"%00",
    b"authorization: SharedAccessSignature sr=",
    b"&sig=",
    b"&se=",
    b'{"registrationId":"d"}',
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = {
    ("PUT", "register"): {200, 202, 400, 401, 404, 413},
    ("GET", "operations"): {200, 202, 400, 401, 404, 413},
    ("POST", ""): {200, 400, 401, 404, 413},
}


class Room:
    """A provisioning room that knows one device, and notes who is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def register(self, request: RegisterRequest) -> RegistrationResult:
        return self._result(request.id_scope, request.registration_id, "")

    async def operation(
        self,
        id_scope: str,
        registration_id: str,
        _credential: OnboardingCredential,
        operation_id: str,
        _peer: str | None = None,
    ) -> RegistrationResult:
        return self._result(id_scope, registration_id, operation_id)

    async def registration(
        self,
        id_scope: str,
        registration_id: str,
        _credential: OnboardingCredential,
        _peer: str | None = None,
    ) -> RegistrationResult:
        return self._result(id_scope, registration_id, "")

    def _result(self, id_scope: str, registration_id: str, operation_id: str) -> RegistrationResult:
        self.asked.append((id_scope, registration_id, operation_id))
        if registration_id == "nobody":
            raise EnrollmentNotFound("no such enrollment")
        status = Status.ASSIGNING if registration_id == "later" else Status.ASSIGNED
        registration = Registration(
            service_id="s",
            registration_id=registration_id,
            enrollment_kind=EnrollmentKind.GROUP,
            enrollment_id="g",
            operation_id="o.1",
            status=status,
            substatus=None,
            hub_id="h",
            device_id=registration_id,
            certificate_sha256=None,
            etag="e",
            created_at=NOW,
            updated_at=NOW,
        )
        return RegistrationResult(registration, "hub.example", None)


def check(data: bytes) -> None:
    """A request has one answer, however its body came: of a documented status, in JSON, as long as
    it says; and the room is asked for what stands in the path, decoded once.
    """
    line, _, rest = data.partition(b"\n")
    head, _, body = rest.partition(b"\n\n")
    method, _, target = line.partition(b" ")
    raw_path, _, query = target.partition(b"?")
    path = parse_path(raw_path)
    if path is None:
        return
    headers = [
        (name.strip().lower(), value.strip())
        for name, _, value in (field.partition(b":") for field in head.split(b"\n"))
        if name.strip().lower() != b"content-length"  # the server has seen to it
    ]
    scope = {
        "method": method.decode("latin-1"),
        "path": raw_path.decode("latin-1"),
        "query_string": query,
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
    }
    answer = Answer(path, scope, [body])
    answer.check(raw_path)
    for pieces in splits(body[:64]):
        assert Answer(path, scope, [*pieces, body[64:]]) == answer, "another split, another answer"


class Answer:
    """What one request was answered."""

    def __init__(self, path: DevicePath, scope: dict[str, Any], pieces: list[bytes]) -> None:
        self.path, self.method = path, scope["method"]
        self.room, self.counted = Room(), list[tuple[str, str]]()
        self.sent: list[dict[str, Any]] = []
        clock = ManualClock(NOW)
        refusals = Refusals(self._count, clock)
        api = DeviceRegistrations(self.room, refusals, clock)  # type: ignore[arg-type]
        pending = messages(pieces)

        async def receive() -> dict[str, Any]:
            return next(pending)

        async def send(message: Any) -> None:
            self.sent.append(message)

        run(api.answer(path, scope, receive, send))

    def _count(self, kind: str, reason: str) -> None:
        self.counted.append((kind, reason))

    @property
    def head(self) -> dict[bytes, bytes]:
        """Its headers."""
        return dict(self.sent[0]["headers"])

    def __eq__(self, other: object) -> bool:
        """Trace ids differ."""
        return isinstance(other, Answer) and (
            (self.sent[0]["status"], self.room.asked, self.counted)
            == (other.sent[0]["status"], other.room.asked, other.counted)
        )

    __hash__ = None  # type: ignore[assignment]

    def check(self, raw_path: bytes) -> None:
        """What holds of every answer."""
        assert [m["type"] for m in self.sent] == ["http.response.start", "http.response.body"]
        status, body = self.sent[0]["status"], self.sent[1]["body"]
        expected = STATUSES.get((self.method, self.path.call.lower()), {405})
        assert status in expected, f"{status} is not documented"
        assert int(self.head[b"content-length"]) == len(body)
        assert b"\n" not in b"".join(self.head.values()), "a header that is two"
        answer = orjson.loads(body)
        assert body.isascii(), "an answer that the SDKs cannot decode"
        assert (status >= 400) == ("errorCode" in answer)
        assert len(self.counted) == (status >= 400), "a refusal that is not counted once"
        assert all(reason in ADVICE for _, reason in self.counted)
        if self.room.asked:
            parts = raw_path.decode("ascii", "replace").split("/")
            operation = unquote(parts[5]) if self.path.call == "operations" else ""
            assert self.room.asked == [(unquote(parts[1]), unquote(parts[3]), operation)]


def messages(pieces: list[bytes]) -> Iterator[dict[str, Any]]:
    """A body as ASGI gives it."""
    for number, piece in enumerate(pieces, 1):
        yield {"type": "http.request", "body": piece, "more_body": number < len(pieces)}


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs what never has to wait."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something that nobody sends")


def seeds() -> dict[str, bytes]:
    """What the SDKs send, and what they do not."""
    token = (
        b"authorization: SharedAccessSignature sr=0ne0%2Fregistrations%2Fdev-1&sig="
        b"bm90IGEgc2lnbmF0dXJlIGJ1dCAzMiBieXRlcyBsb25n&se=1900000000&skn=registration\n"
    )
    at = b"/0ne0/registrations/dev-1"
    v = b"?api-version=2021-06-01"
    return {
        "register": b"PUT "
        + at
        + b"/register"
        + v
        + b"\n"
        + token
        + b'\n{"registrationId":"dev-1"}',
        "register-force": b"PUT " + at + b"/register" + v + b"&forceRegistration=true\n\n\n",
        "poll": b"GET " + at + b"/operations/o.1" + v + b"\n" + token + b"\n{}",
        "look-up": b"POST " + at + v + b"\n" + token + b"\n{}",
        "csr": b"PUT " + at + b'/register?api-version=2026-11-01\n\n\n{"csr":"AAAA"}',
        "pem-csr": b"PUT " + at + b"/register?api-version=2025-07-01-preview\n\n\n"
        b'{"clientCertificateCsr":"-----BEGIN CERTIFICATE REQUEST-----"}',
        "later": b"PUT /0ne0/registrations/later/register" + v + b"\n\n\n",
        "nobody": b"PUT /0ne0/registrations/nobody/register" + v + b"\n\n\n",
        "encoded": b"PUT /0ne0/registrations/a%2Fb%0D%0Ac/REGISTER/" + v + b"\n\n\n",
        "not-utf-8": b"PUT /%ff/registrations/%c3/register" + v + b"\n\n\n",
        "wrong-method": b"DELETE " + at + b"/register" + v + b"\n\n\n",
        "no-version": b"PUT " + at + b"/register\n\n\n[1]",
        "another-path": b"GET /devices/dev-1?api-version=2021-04-12\n\n\n",
    }
