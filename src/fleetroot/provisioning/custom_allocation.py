"""What a webhook is asked about a device, and what of its answer counts.

Source: Azure DPS, "Understand custom allocation policies": the objects AllocationRequest and
AllocationResponse, and the error codes 400207 to 400209 that devices are told.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from fleetroot.clock import Clock, iso8601
from fleetroot.errors import ErrorCode, FleetrootError, InvalidArgument
from fleetroot.ids import canonical
from fleetroot.provisioning import allocation
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentKind,
    LinkedHub,
    Webhook,
)
from fleetroot.provisioning.pending import Decision, PendingRegistration
from fleetroot.provisioning.waiting import Refusal
from fleetroot.provisioning.webhook_addresses import WebhookUrl, parse_url
from fleetroot.provisioning.webhook_client import (
    Watch,
    WebhookClient,
    WebhookFailed,
    WebhookOutcome,
)
from fleetroot.provisioning.webhook_secrets import SIGNATURE_HEADER, WebhookSecretStore
from fleetroot.registry.assignment import HubDirectory

MAX_PAYLOAD_BYTES: Final = 64 * 1024
_UNAUTHORIZED: Final = 401
_FAILED: Final = ErrorCode.CUSTOM_ALLOCATION_FAILED


class _Request(NamedTuple):
    """A device of which an enrollment's webhook is to decide."""

    candidate: Candidate
    enrollment: Enrollment
    waiting: PendingRegistration


class CustomAllocation:
    """Asks the webhooks of enrollments."""

    def __init__(
        self,
        client: WebhookClient,
        secrets: WebhookSecretStore,
        hub_directory: HubDirectory,
        clock: Clock,
        watch: Watch = lambda _outcome, _seconds: None,
    ) -> None:
        """`watch` is told of every answer; the client tells what failed before there was one."""
        self._watch = watch
        self._client = client
        self._secrets = secrets
        self._hub_directory = hub_directory
        self._clock = clock

    async def decide(
        self, candidate: Candidate, enrollment: Enrollment, waiting: PendingRegistration
    ) -> Decision | Refusal:
        """See `waiting.Allocator.decide`."""
        request = _Request(candidate, enrollment, waiting)
        try:
            hubs = allocation.candidates(candidate.configuration, enrollment.settings)
            url = self._url(enrollment.settings.webhook)
        except FleetrootError as error:
            return Refusal(_FAILED, "Custom allocation failed", error.reason)
        body = _body(request, [hub.host_name for hub in hubs])
        secrets = await self._secrets.of(candidate.configuration.service)

        def headers() -> Mapping[str, str]:
            return {SIGNATURE_HEADER: secrets.signature(body, self._clock.now())}

        try:
            answer = await self._client.post(url, body, headers)
        except WebhookFailed as failed:
            return _refusal(failed)
        try:
            decision = read_answer(answer.body, hubs, self._hub_directory)
        except Unusable as unusable:
            no_hub = unusable.code is ErrorCode.CUSTOM_ALLOCATION_NO_HUB
            outcome = WebhookOutcome.REFUSED if no_hub else WebhookOutcome.BAD_ANSWER
            self._watch(outcome, answer.seconds)
            message = f"Custom allocation failed: {unusable.why}"
            return Refusal(unusable.code, message, f"{url.host}: {unusable.why}")
        self._watch(WebhookOutcome.ASSIGNED, answer.seconds)
        return decision

    def _url(self, webhook: Webhook | None) -> WebhookUrl:
        """Raises:
        InvalidArgument: the webhook may not be called, now or any more.
        """
        if webhook is None:
            raise InvalidArgument("the enrollment has no webhook any more")
        parsed = parse_url(webhook.url, self._client.rules)
        joined = "&" if "?" in parsed.target else "?"
        version = quote(webhook.api_version, safe="")
        return replace(parsed, target=f"{parsed.target}{joined}api-version={version}")


class Unusable(Exception):
    """An answer that does not count.

    Attributes:
        why: for the device and the operator.
        code: for the device.
    """

    def __init__(self, why: str, code: ErrorCode = _FAILED) -> None:
        super().__init__(why)
        self.why = why
        self.code = code


def _refusal(failed: WebhookFailed) -> Refusal:
    """What a device is told; where the webhook is, and how it fails, is not its business."""
    if failed.status == _UNAUTHORIZED:
        code = ErrorCode.CUSTOM_ALLOCATION_UNAUTHORIZED
        return Refusal(code, "Custom allocation failed: unauthorized", failed.reason)
    message = "Custom allocation failed"
    if failed.status is not None:
        message += f" with status code: {failed.status}"
    return Refusal(_FAILED, message, failed.reason)


def read_answer(body: bytes, hubs: Sequence[LinkedHub], hub_directory: HubDirectory) -> Decision:
    """What an AllocationResponse decides about a device that may go to one of `hubs`.

    Raises:
        Unusable: nothing.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unusable("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise Unusable("the answer is no JSON object")
    host = answer.get("iotHubHostName", answer.get("iotHubHostname"))
    if host is None or host == "":
        raise Unusable("no hub named", ErrorCode.CUSTOM_ALLOCATION_NO_HUB)
    key = canonical(host) if isinstance(host, str) else None
    hub = next((each for each in hubs if each.host_name == key), None)
    if hub is None:
        raise Unusable("it names a hub that the device may not go to")
    try:
        return Decision(
            hub_id=hub.id,
            initial_twin=_initial_twin(answer.get("initialTwin"), hub_directory),
            payload=_payload(answer.get("payload")),
        )
    except orjson.JSONEncodeError:
        raise Unusable("it is nested too deeply") from None


def _initial_twin(twin: Any, hub_directory: HubDirectory) -> str | None:
    if twin is None:
        return None
    try:
        text = _twin_text(twin)
        hub_directory.check_initial_twin(text)
    except InvalidArgument as error:
        raise Unusable(f"initialTwin: {error.message}") from None
    return text


def _payload(payload: Any) -> str | None:
    if payload is None:
        return None
    text = orjson.dumps(payload)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise Unusable(f"payload is over {MAX_PAYLOAD_BYTES} bytes")
    return text.decode()


def _twin_text(twin: Any) -> str:
    """Raises:
    InvalidArgument: it is not of the form of a twin to begin with.
    """
    properties = _section(twin, "", ("tags", "properties")).get("properties")
    desired = _section(properties, "properties", ("desired",)).get("desired")
    parts = {
        "tags": _section(twin["tags"], "tags") if twin.get("tags") is not None else None,
        "properties": {"desired": _section(desired, "desired")} if desired is not None else None,
    }
    return orjson.dumps({name: part for name, part in parts.items() if part is not None}).decode()


def _section(value: Any, name: str, allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name or 'it'} must be an object")
    if allowed and not value.keys() <= set(allowed):
        raise InvalidArgument(f"{name or 'it'} may have {' and '.join(allowed)}, and nothing else")
    return value


# --- what is asked


def _body(request: _Request, hosts: list[str]) -> bytes:
    is_group = request.enrollment.kind is EnrollmentKind.GROUP
    return orjson.dumps(
        {
            "enrollmentGroup" if is_group else "individualEnrollment": _enrollment(request),
            "deviceRuntimeContext": _context(request),
            "linkedHubs": hosts,
        }
    )


def _context(request: _Request) -> dict[str, Any]:
    before, settings = request.candidate.registration, request.enrollment.settings
    context: dict[str, Any] = {"registrationId": request.waiting.registration_id}
    match settings.attestation:
        case Attestation.SYMMETRIC_KEY:
            context["symmetricKey"] = {}
        case Attestation.X509:
            info = before.certificate_info if before else None
            context["x509"] = orjson.loads(info) if info else {}
        case Attestation.TPM:
            keys = settings.tpm
            context["tpm"] = {"endorsementKey": _base64(keys.endorsement)} if keys else {}
            if keys and keys.storage_root:
                context["tpm"]["storageRootKey"] = _base64(keys.storage_root)
    if request.waiting.payload is not None:
        context["payload"] = orjson.Fragment(request.waiting.payload)
    hub = request.candidate.configuration.hubs.get(before.hub_id or "") if before else None
    if before is not None and hub is not None:
        context["currentIotHubHostName"] = hub.host_name
        context["currentDeviceId"] = before.device_id
    return context


def _enrollment(request: _Request) -> dict[str, Any]:
    """The enrollment without its keys."""
    enrollment, settings = request.enrollment, request.enrollment.settings
    is_group = enrollment.kind is EnrollmentKind.GROUP
    configuration = request.candidate.configuration
    linked, policies = configuration.hubs, configuration.policies
    webhook, policy = settings.webhook, policies.get(settings.policy_id or "")
    shown = {
        "enrollmentGroupId" if is_group else "registrationId": enrollment.id,
        "deviceId": settings.device_id,
        "attestation": {"type": settings.attestation.value},
        "capabilities": {"iotEdge": settings.iot_edge},
        "provisioningStatus": "enabled" if settings.enabled else "disabled",
        "reprovisionPolicy": {
            "updateHubAssignment": settings.update_hub_assignment,
            "migrateDeviceData": settings.migrate_device_data,
        },
        "allocationPolicy": settings.allocation.value if settings.allocation else None,
        "iotHubs": [linked[id_].host_name for id_ in settings.hub_ids if id_ in linked] or None,
        "customAllocationDefinition": webhook and {"apiVersion": webhook.api_version},
        "initialTwin": orjson.loads(settings.initial_twin) if settings.initial_twin else None,
        "optionalDeviceInformation": orjson.loads(settings.device_information)
        if settings.device_information
        else None,
        "credentialPolicyName": policy.name if policy else None,
        "etag": enrollment.etag,
        "createdDateTimeUtc": iso8601(enrollment.created_at),
        "lastUpdatedDateTimeUtc": iso8601(enrollment.updated_at),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
