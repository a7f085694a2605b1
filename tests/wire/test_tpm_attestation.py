"""TPM attestation: the challenge, and what comes of every answer to it.

`tests/model_tpm.py` answers most challenges; a TPM (swtpm, with tpm2-tools) those at the end.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from fleet import Certified, Fleet, device_csr, refusal
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import ConnackCode
from fleetroot.provisioning.tpm_attestation import PERIOD_SECONDS
from model_tpm import STORAGE_ROOT, ModelTpm, TpmRefused, public_area, rsa_key
from swtpm import Swtpm, needs_swtpm, running_tpm

VERSION = "2026-11-01"
PERIOD = timedelta(seconds=PERIOD_SECONDS)


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


class TpmDevice:
    """A device with a TPM, over HTTPS."""

    def __init__(self, fleet: Fleet, tpm: ModelTpm | Swtpm, registration_id: str = "dev-1") -> None:
        self.fleet = fleet
        self.tpm = tpm
        self.id = registration_id
        self.path = f"/{fleet.id_scope}/registrations/{registration_id}"

    @property
    def told(self) -> dict[str, str]:
        """What it tells of its TPM."""
        return {
            "endorsementKey": encoded(self.tpm.endorsement_key),
            "storageRootKey": encoded(self.tpm.storage_root_key),
        }

    async def enroll(self, **how: Any) -> httpx.Response:
        """An enrollment of its endorsement key."""
        tpm = {"endorsementKey": encoded(self.tpm.endorsement_key)} | how.pop("tpm", {})
        headers = {"if-match": "*"} if how.pop("again", False) else {}
        body = {"attestation": {"type": "tpm", "tpm": tpm}} | how
        return await self.fleet.http.put(f"/enrollments/{self.id}", json=body, headers=headers)

    async def ask(
        self, method: str, path: str, token: str | None = None, body: Any = None
    ) -> httpx.Response:
        return await self.fleet.http.request(
            method,
            self.path + path,
            params={"api-version": VERSION},
            headers={"authorization": token or ""},
            content=json.dumps(body or {}).encode(),
        )

    async def register(self, token: str | None = None, **body: Any) -> httpx.Response:
        body = {"registrationId": self.id, "tpm": self.told} | body
        return await self.ask("PUT", "/register", token, body)

    async def take_challenge(self) -> None:
        """Registers without a token, and gives the challenge to the TPM."""
        answer = await self.register()
        assert answer.status_code == 401, answer.text
        await self.activate(answer.json()["authenticationKey"], "registration")

    async def activate(self, key: str, name: str) -> None:
        await asyncio.to_thread(self.tpm.activate, base64.b64decode(key), name)

    async def token(
        self, resource: str | None = None, *, key: str = "registration", key_name: str = ""
    ) -> str:
        """A token that the TPM signs."""
        named = quote(resource or self.path[1:], safe="")
        expiry = int((self.fleet.server.clock.now() + timedelta(days=365)).timestamp())
        signed = f"{named}\n{expiry}".encode()
        signature = quote(encoded(await asyncio.to_thread(self.tpm.sign, signed, key)), safe="")
        token = f"SharedAccessSignature sr={named}&sig={signature}&se={expiry}"
        return f"{token}&skn={key_name}" if key_name else token

    async def provision(self, **body: Any) -> dict[str, Any]:
        """All of it, and the key for the hub is in the TPM; the state of the registration."""
        await self.take_challenge()
        answer = await self.register(await self.token(key_name="registration"), **body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "assigned"
        state: dict[str, Any] = answer.json()["registrationState"]
        await self.activate(state["tpm"]["authenticationKey"], "hub")
        return state

    async def hub_token(self) -> bytes:
        resource = f"{self.fleet.hub_host}/devices/{self.id}"
        return (await self.token(resource, key="hub")).encode()


@pytest.fixture
async def device(fleet: Fleet) -> TpmDevice:
    """A device that is enrolled, and no more."""
    device = TpmDevice(fleet, ModelTpm())
    assert (await device.enroll()).status_code == 200
    return device


@pytest.fixture
async def timed_device(timed_fleet: Fleet) -> TpmDevice:
    device = TpmDevice(timed_fleet, ModelTpm())
    assert (await device.enroll()).status_code == 200
    return device


def refused(answer: httpx.Response, code: int) -> str:
    """The message of an error."""
    assert answer.headers["x-ms-error-code"] == str(code), answer.text
    assert "authenticationKey" not in answer.json()
    return str(answer.json()["message"])


async def storage_root(device: TpmDevice) -> str | None:
    """As the enrollment has it."""
    found = (await device.fleet.http.get(f"/enrollments/{device.id}")).json()
    return found["attestation"]["tpm"].get("storageRootKey")


# --- the challenge


async def test_a_device_without_a_token_is_challenged(device: TpmDevice) -> None:
    answer = await device.register()
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["www-authenticate"] == "SharedAccessSignature"
    assert set(answer.json()) == {"message", "keyName", "authenticationKey"}
    assert answer.json()["keyName"] == "registration"


async def test_a_challenge_is_no_refusal_and_leaves_nothing(device: TpmDevice) -> None:
    before, counted = device.fleet.traces(), await device.fleet.refusals()
    rows = device.fleet.rows("enrollments")
    await device.register()
    assert (device.fleet.traces(), await device.fleet.refusals()) == (before, counted)
    assert device.fleet.rows("enrollments") == rows


async def test_the_tpm_registers_and_connects_with_the_key_it_is_given(device: TpmDevice) -> None:
    state = await device.provision()
    assert state["assignedHub"] == device.fleet.hub_host
    assert state["substatus"] == "initialAssignment"
    assert "symmetricKey" not in state
    async with await device.fleet.connect("dev-1", token=await device.hub_token()):
        pass


async def test_polls_and_look_ups_are_attested_and_give_the_same_key(device: TpmDevice) -> None:
    await device.take_challenge()
    token = await device.token()
    registered = (await device.register(token)).json()
    await device.activate(registered["registrationState"]["tpm"]["authenticationKey"], "hub")
    polled = await device.ask("GET", f"/operations/{registered['operationId']}", token)
    found = await device.ask("POST", "", token)
    for name, state in (("polled", polled.json()["registrationState"]), ("found", found.json())):
        await device.activate(state["tpm"]["authenticationKey"], name)
        assert device.tpm.sign(b"message", name) == device.tpm.sign(b"message", "hub")
    refused(await device.ask("GET", f"/operations/{registered['operationId']}"), 401002)
    refused(await device.ask("POST", ""), 401002)
    hub = await device.token(key="hub")
    refused(await device.ask("GET", f"/operations/{registered['operationId']}", hub), 401003)


async def test_a_registration_that_is_repeated_changes_no_key(device: TpmDevice) -> None:
    await device.take_challenge()
    token = await device.token()
    first = (await device.register(token)).json()["registrationState"]["tpm"]
    again = (await device.register(token)).json()["registrationState"]["tpm"]
    assert first != again
    await device.activate(first["authenticationKey"], "first")
    async with await device.fleet.connect(
        "dev-1",
        token=(await device.token(f"{device.fleet.hub_host}/devices/dev-1", key="first")).encode(),
    ) as mqtt:
        await device.provision()
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")
    assert device.tpm.sign(b"message", "first") == device.tpm.sign(b"message", "hub")


async def test_with_a_policy_the_identity_is_pinned_to_it_and_the_key_opens_nothing(
    fleet: Fleet,
) -> None:
    device = TpmDevice(fleet, ModelTpm())
    await device.enroll(credentialPolicyName="default")
    await device.provision()
    token = await device.hub_token()
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED


async def test_with_a_csr_the_device_connects_with_its_certificate(fleet: Fleet) -> None:
    device = TpmDevice(fleet, ModelTpm())
    await device.enroll(credentialPolicyName="default")
    key, csr = device_csr("dev-1")
    state = await device.provision(csr=csr)
    chain = tuple(base64.b64decode(der) for der in state["issuedCertificateChain"])
    async with await fleet.connect("dev-1", Certified(chain, key)):
        assert len(await fleet.certificates("dev-1")) == 1


async def test_a_csr_in_the_first_call_is_not_read_before_the_proof(device: TpmDevice) -> None:
    assert "authenticationKey" in (await device.register(csr="junk")).json()
    await device.take_challenge()
    assert refused(await device.register(await device.token(), csr="junk"), 400004)


# --- whom it is not for


async def test_who_does_not_know_the_endorsement_key_learns_nothing(fleet: Fleet) -> None:
    """Not whether there is an enrollment, nor of what kind; also where there is no group."""
    assert (await fleet.http.delete("/enrollmentGroups/default")).status_code == 204
    enrolled = TpmDevice(fleet, ModelTpm(), "with-a-tpm")
    await enrolled.enroll()
    await fleet.enroll("with-a-key")
    answers = []
    for name in ("with-a-tpm", "with-a-key", "unknown"):
        stranger = TpmDevice(fleet, ModelTpm(rsa_key(3)), name)
        answer = await stranger.register()
        body = answer.json()
        del body["trackingId"], body["timestampUtc"]
        headers = {k: v for k, v in answer.headers.items() if k not in ("x-ms-request-id", "date")}
        answers.append((answer.status_code, headers, body))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401
    counted = await fleet.refusals()
    reasons = ("another TPM", "TPM where another attestation is due", "no enrollment")
    assert all(counted[reason] == 1 for reason in reasons)


async def test_a_challenge_to_one_tpm_is_not_opened_by_another(device: TpmDevice) -> None:
    blob = (await device.register()).json()["authenticationKey"]
    other = TpmDevice(device.fleet, ModelTpm(rsa_key(3), rsa_key(2)))
    with pytest.raises(TpmRefused):
        await other.activate(blob, "registration")


async def test_a_storage_root_key_outside_the_tpm_gets_no_key(device: TpmDevice) -> None:
    """A program that has the endorsement key's TPM at hand, and a storage root key of its own, is
    challenged over a name that the TPM does not have."""
    program = TpmDevice(device.fleet, ModelTpm(rsa_key(1), rsa_key(3)))
    blob = (await program.register()).json()["authenticationKey"]
    with pytest.raises(TpmRefused):
        await device.activate(blob, "registration")


@pytest.mark.parametrize(
    "changed",
    [
        {"endorsementKey": encoded(ModelTpm(rsa_key(3)).endorsement_key)},
        {"endorsementKey": ""},
    ],
    ids=["another", "empty"],
)
async def test_another_endorsement_key_with_a_good_token_is_refused(
    device: TpmDevice, changed: dict[str, str]
) -> None:
    await device.take_challenge()
    before, rows = device.fleet.traces(), device.fleet.rows("enrollments")
    answer = await device.register(await device.token(), tpm=device.told | changed)
    refused(answer, 401003)
    assert (await device.fleet.refusals())["another TPM"] == 1
    assert (device.fleet.traces(), device.fleet.rows("enrollments")) == (before, rows)


async def test_another_storage_root_key_than_the_challenged_is_refused(device: TpmDevice) -> None:
    await device.take_challenge()
    token = await device.token()
    other = encoded(public_area(rsa_key(3)))
    refused(await device.register(token, tpm=device.told | {"storageRootKey": other}), 401003)
    assert await storage_root(device) is None
    assert (await device.register(token)).status_code == 200


@pytest.mark.parametrize(
    ("root", "why"),
    [
        (None, "required"),
        (b"", "cut off"),
        (public_area(rsa_key(1), attributes=STORAGE_ROOT & ~2), "restricted"),
    ],
)
async def test_a_storage_root_key_that_is_none_is_an_invalid_argument(
    device: TpmDevice, root: bytes | None, why: str
) -> None:
    told = device.told | {"storageRootKey": None if root is None else encoded(root)}
    message = refused(await device.register(tpm=told), 400004)
    assert message.startswith("tpm.storageRootKey: ")
    assert why in message


async def test_tokens_are_held_to_scope_time_and_key_name(device: TpmDevice) -> None:
    await device.take_challenge()
    other = await device.token(f"{device.fleet.id_scope}/registrations/dev-2")
    refused(await device.register(other), 401003)
    refused(await device.register(await device.token(key_name="device")), 401003)
    assert (await device.register(await device.token(key_name="registration"))).status_code == 200


async def test_a_token_without_a_challenge_is_refused(device: TpmDevice) -> None:
    token = device.fleet.provisioning_token("dev-1").decode()
    refused(await device.register(token), 401003)
    refused(await device.ask("PUT", "/register", token), 401003)
    assert (await device.fleet.refusals())["TPM not challenged"] == 1


async def test_a_disabled_enrollment_is_said_to_the_tpm_alone(device: TpmDevice) -> None:
    await device.enroll(provisioningStatus="disabled", again=True)
    await device.take_challenge()
    message = refused(await device.register(await device.token()), 401002)
    assert message == "The enrollment is disabled"


async def test_over_mqtt_it_is_refused_and_the_operator_is_told(device: TpmDevice) -> None:
    await device.provision()
    answer = await device.fleet.register("dev-1", token=(await device.token()).encode())
    assert (answer.status, answer.error_code) == (401, 401002)
    assert answer.body["message"] == "TPM attestation is over HTTPS only"
    stranger = await device.fleet.register("dev-1")
    unknown = await device.fleet.register("dev-2", token=device.fleet.provisioning_token("x"))
    for answer in (stranger, unknown):
        assert (answer.error_code, answer.body["message"]) == (401003, "Unauthorized")
    assert (await device.fleet.refusals())["TPM over another wire than HTTPS"] == 2


# --- time, and what changes


async def test_a_key_that_was_given_out_signs_for_its_period_and_one_more(
    timed_device: TpmDevice, clock: ManualClock
) -> None:
    into = clock.now().timestamp() % PERIOD_SECONDS
    await timed_device.take_challenge()
    token = await timed_device.token()
    assert (await timed_device.register(token)).status_code == 200
    clock.advance(2 * PERIOD - timedelta(seconds=into + 1))
    assert (await timed_device.register(token)).status_code == 200
    clock.advance(timedelta(seconds=1))
    refused(await timed_device.register(token), 401003)
    await timed_device.take_challenge()
    assert (await timed_device.register(await timed_device.token())).status_code == 200


async def test_the_storage_root_key_is_kept_with_the_first_registration(device: TpmDevice) -> None:
    await device.take_challenge()
    assert await storage_root(device) is None
    await device.register(await device.token())
    assert await storage_root(device) == device.told["storageRootKey"]
    page = await device.fleet.http.get(
        "/fleetroot/audit/entries", params={"subject": "enrollment/dev-1"}
    )
    kept = page.json()["value"][0]
    assert kept["action"] == "enrollment.keepStorageRootKey"
    assert kept["details"] == {"sha256": sha256(device.tpm.storage_root_key).hexdigest()}


async def test_a_cleared_tpm_comes_back_and_what_was_given_before_ends(device: TpmDevice) -> None:
    await device.provision()
    await device.take_challenge()  # whose key is of the secret that is in force now
    token, hub_token = await device.token(), await device.hub_token()
    told = device.told
    mqtt = await device.fleet.connect("dev-1", token=hub_token)
    device.tpm.clear()  # type: ignore[union-attr]
    await device.provision()
    await mqtt.wait_closed()
    assert await storage_root(device) == device.told["storageRootKey"] != told["storageRootKey"]
    refused(await device.register(token, tpm=told), 401003)
    code = await refusal(device.fleet.connect("dev-1", token=hub_token))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD
    async with await device.fleet.connect("dev-1", token=await device.hub_token()):
        pass


async def test_a_challenge_of_before_the_tpm_was_cleared_opens_nothing(device: TpmDevice) -> None:
    """Also one that was never answered."""
    await device.take_challenge()
    token, told = await device.token(), device.told
    device.tpm.clear()  # type: ignore[union-attr]
    await device.provision()
    refused(await device.register(token, tpm=told), 401003)
    assert await storage_root(device) == device.told["storageRootKey"]


async def test_two_first_registrations_at_once_both_come_in(device: TpmDevice) -> None:
    await device.take_challenge()
    token = await device.token()
    answers = await asyncio.gather(*(device.register(token) for _ in range(4)))
    assert [each.status_code for each in answers] == [200] * 4
    keys = set()
    for number, each in enumerate(answers):
        state = each.json()["registrationState"]
        await device.activate(state["tpm"]["authenticationKey"], str(number))
        keys.add(device.tpm.sign(b"message", str(number)))
    assert len(keys) == 1


async def test_an_enrollment_of_another_tpm_ends_the_keys_of_the_first(device: TpmDevice) -> None:
    await device.provision()
    token = await device.token()
    other = TpmDevice(device.fleet, ModelTpm(rsa_key(3), rsa_key(2)))
    assert (await other.enroll(again=True)).status_code == 200
    refused(await device.register(token), 401003)
    refused(await device.register(token, tpm=None), 401003)
    refused(await device.register(), 401002)
    assert await storage_root(device) is None
    await other.provision()


async def test_an_enrollment_that_was_deleted_and_made_again_has_other_keys(
    device: TpmDevice,
) -> None:
    await device.provision()
    token = await device.token()
    await device.fleet.http.delete("/enrollments/dev-1")
    await device.enroll(tpm={"storageRootKey": device.told["storageRootKey"]})
    refused(await device.register(token), 401003)


async def test_an_enrollment_that_is_written_again_keeps_keys_and_storage_root(
    device: TpmDevice,
) -> None:
    await device.provision()
    token = await device.token()
    await device.enroll(again=True, initialTwin={"tags": {"line": 4}})
    assert await storage_root(device) == device.told["storageRootKey"]
    assert (await device.register(token)).status_code == 200


async def test_another_storage_root_key_of_the_operators_ends_the_keys_of_before(
    device: TpmDevice,
) -> None:
    await device.provision()
    await device.take_challenge()  # whose key is of the secret that is in force now
    token = await device.token()
    await device.enroll(again=True, tpm={"storageRootKey": encoded(public_area(rsa_key(3)))})
    refused(await device.register(token), 401003)
    await device.provision()


# --- the enrollment API


@pytest.mark.parametrize(
    ("tpm", "why"),
    [
        ({"endorsementKey": "junk!"}, "endorsementKey: is not base64"),
        ({"endorsementKey": "AAAA"}, "endorsementKey: "),
        ({"storageRootKey": "AAAA"}, "storageRootKey: "),
        (
            {"endorsementKey": encoded(public_area(rsa_key(1), attributes=0x00040072))},
            "endorsementKey: is not a restricted decryption key",
        ),
    ],
)
async def test_an_enrollment_with_a_key_that_is_none_is_refused(
    fleet: Fleet, tpm: dict[str, str], why: str
) -> None:
    answer = await TpmDevice(fleet, ModelTpm()).enroll(tpm=tpm)
    assert answer.status_code == 400
    assert f"attestation.tpm.{why}" in answer.text
    assert fleet.rows("enrollments")[1:] == []


async def test_a_group_does_not_attest_by_tpms(fleet: Fleet) -> None:
    tpm = {"endorsementKey": encoded(ModelTpm().endorsement_key)}
    body = {"attestation": {"type": "tpm", "tpm": tpm}}
    answer = await fleet.http.put("/enrollmentGroups/line-4", json=body)
    assert answer.status_code == 400
    assert "individual" in answer.text


async def test_an_enrollment_shows_public_keys_and_no_secret(device: TpmDevice) -> None:
    answer = await device.fleet.http.get("/enrollments/dev-1")
    attestation = answer.json()["attestation"]
    assert attestation == {
        "type": "tpm",
        "tpm": {"endorsementKey": device.told["endorsementKey"]},
    }


# --- with a TPM


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with running_tpm(tmp_path / "tpm") as tpm:
        yield tpm


@pytest.fixture
async def real_device(fleet: Fleet, tpm: Swtpm) -> TpmDevice:
    await asyncio.to_thread(tpm.make_keys)
    device = TpmDevice(fleet, tpm)
    assert (await device.enroll()).status_code == 200
    return device


@needs_swtpm
async def test_a_tpm_provisions_and_connects(real_device: TpmDevice) -> None:
    state = await real_device.provision()
    assert state["status"] == "assigned"
    async with await real_device.fleet.connect("dev-1", token=await real_device.hub_token()):
        pass


@needs_swtpm
async def test_a_tpm_provisions_under_a_policy_with_a_csr(fleet: Fleet, tpm: Swtpm) -> None:
    await asyncio.to_thread(tpm.make_keys, endorsement="ecc", storage_root="ecc256")
    device = TpmDevice(fleet, tpm)
    await device.enroll(credentialPolicyName="default")
    key, csr = device_csr("dev-1")
    state = await device.provision(csr=csr)
    chain = tuple(base64.b64decode(der) for der in state["issuedCertificateChain"])
    async with await fleet.connect("dev-1", Certified(chain, key)):
        pass


@needs_swtpm
async def test_a_tpm_that_was_cleared_comes_back(real_device: TpmDevice) -> None:
    await real_device.provision()
    assert isinstance(real_device.tpm, Swtpm)
    before = (await real_device.register()).json()["authenticationKey"]
    await asyncio.to_thread(real_device.tpm.clear)
    with pytest.raises(TpmRefused):
        await real_device.activate(before, "registration")
    await real_device.provision()
    async with await real_device.fleet.connect("dev-1", token=await real_device.hub_token()):
        pass
