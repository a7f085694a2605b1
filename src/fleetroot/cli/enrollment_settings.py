"""The options that say what an enrollment is, and the JSON that they make."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson

from fleetroot.cli.enrollment_places import GROUP, Kind

F = TypeVar("F", bound=Callable[..., Any])

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
_MAX_FILE: Final = 256 * 1024  # bytes
_ALLOCATIONS: Final = ("hashed", "geoLatency", "static", "custom")
_REPROVISION: Final = {  # updateHubAssignment, migrateDeviceData
    "keep": (False, False),
    "migrate": (True, True),
    "reset": (True, False),
}
# What `--unset` takes away, by its name in JSON.
UNSET: Final = {
    "policy": "credentialPolicyName",
    "device-id": "deviceId",
    "hubs": "iotHubs",
    "allocation": "allocationPolicy",
    "webhook": "customAllocationDefinition",
    "initial-twin": "initialTwin",
    "expiry": "expiryDateTimeUtc",
}


def setting_options(kind: Kind) -> Callable[[F], F]:
    """The options of `create` and `update`."""
    options = [
        click.option("--primary-key-file", type=_FILE, help="Key, base64; - is the input."),
        click.option("--secondary-key-file", type=_FILE),
        click.option("--certificate", type=_FILE, help=_certificate_help(kind)),
        click.option("--secondary-certificate", type=_FILE, help="Another that is as good."),
        click.option("--policy", help="The policy that issues."),
        click.option("--no-policy", is_flag=True, help="Issue nothing: devices work as they are."),
        click.option(
            "--hub", "hubs", multiple=True, help="Host name of a linked hub; again: more."
        ),
        click.option("--allocation", type=click.Choice(_ALLOCATIONS)),
        click.option("--webhook", help="URL that allocates, with --allocation custom."),
        click.option("--webhook-api-version", help="What the webhook is asked in."),
        click.option(
            "--reprovision",
            type=click.Choice(list(_REPROVISION)),
            help="A device that comes again keeps its hub, or is assigned anew and its twin"
            " migrates or is reset.",
        ),
        click.option("--initial-twin", type=_FILE, help="JSON: tags, properties.desired."),
        click.option("--expires", metavar="TIME", help="ISO 8601; nobody provisions from then on."),
        click.option("--quarantine/--no-quarantine", default=None, help="New devices wait."),
        click.option("--iot-edge/--no-iot-edge", default=None),
    ]
    if kind is GROUP:
        options[4:4] = [
            click.option("--ca-reference", help="Name of a CA certificate that was uploaded."),
            click.option("--secondary-ca-reference", help="Another that is as good."),
        ]
    else:
        options[4:4] = [
            click.option("--endorsement-key", help="Of the TPM: TPM2B_PUBLIC, base64."),
            click.option("--device-id", help="Device id, where it is not the registration id."),
        ]
    return lambda function: reduce(lambda made, option: option(made), reversed(options), function)


def apply(body: dict[str, Any], kind: Kind, given: dict[str, Any]) -> None:
    """Puts what the options say in `body`; what they do not say stays.

    Raises:
        click.UsageError: they contradict each other.
    """
    if given["policy"] and given["no_policy"]:
        raise click.UsageError("give --policy or --no-policy, not both")
    attestation = _attestation(kind, given)
    if attestation is not None:
        body["attestation"] = attestation
    if given["no_policy"]:
        body.pop("credentialPolicyName", None)
    plain = {
        "credentialPolicyName": given["policy"],
        "deviceId": given.get("device_id"),
        "iotHubs": list(given["hubs"]) or None,
        "allocationPolicy": given["allocation"],
        "expiryDateTimeUtc": _time(given["expires"]),
        "quarantine": given["quarantine"],
    }
    body |= {name: value for name, value in plain.items() if value is not None}
    if given["webhook"] or given["webhook_api_version"]:
        webhook = body.setdefault("customAllocationDefinition", {})
        webhook["webhookUrl"] = given["webhook"] or webhook.get("webhookUrl", "")
        version = given["webhook_api_version"] or webhook.get("apiVersion")
        if not version:
            raise click.UsageError("--webhook needs --webhook-api-version")
        webhook["apiVersion"] = version
    if given["reprovision"]:
        updates, migrates = _REPROVISION[given["reprovision"]]
        body["reprovisionPolicy"] = {"updateHubAssignment": updates, "migrateDeviceData": migrates}
    if given["initial_twin"]:
        body["initialTwin"] = _json(given["initial_twin"])
    if given["iot_edge"] is not None:
        body["capabilities"] = {"iotEdge": given["iot_edge"]}


def reprovision_word(policy: dict[str, bool]) -> str:
    """The word of `--reprovision` for what an enrollment says."""
    if not policy["updateHubAssignment"]:
        return "keep"
    return "migrate" if policy["migrateDeviceData"] else "reset"


def _certificate_help(kind: Kind) -> str:
    of = "the CA that signs the devices'" if kind is GROUP else "the device"
    return f"Certificate of {of}, PEM or DER."


def _attestation(kind: Kind, given: dict[str, Any]) -> dict[str, Any] | None:
    """What attestation the options say; None: nothing."""
    keys = _two("primaryKey", given["primary_key_file"], given["secondary_key_file"], _text)
    certificates = _two(
        "primary", given["certificate"], given["secondary_certificate"], _certificate
    )
    references = _two(
        "primary", given.get("ca_reference"), given.get("secondary_ca_reference"), str
    )
    endorsement = given.get("endorsement_key")
    if sum(map(bool, (keys, certificates, references, endorsement))) > 1:
        raise click.UsageError("give keys, certificates, CA references or an endorsement key")
    if keys:
        return {"type": "symmetricKey", "symmetricKey": keys}
    if certificates:
        return {"type": "x509", "x509": {kind.certificates: certificates}}
    if references:
        return {"type": "x509", "x509": {"caReferences": references}}
    if endorsement:
        return {"type": "tpm", "tpm": {"endorsementKey": endorsement}}
    return None


def _two(primary: str, first: Any, second: Any, read: Callable[[Any], Any]) -> dict[str, Any]:
    given = {primary: first, primary.replace("primary", "secondary"): second}
    return {name: read(value) for name, value in given.items() if value}


def _read(path: Path) -> bytes:
    try:
        with click.open_file(str(path), "rb") as file:
            content: bytes = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from error
    if len(content) > _MAX_FILE:
        raise click.ClickException(f"{path} is longer than {_MAX_FILE} bytes")
    return content


def _text(path: Path) -> str:
    try:
        return _read(path).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path} is not base64") from error


def _certificate(path: Path) -> dict[str, str]:
    content = _read(path)
    is_pem = content.lstrip().startswith(b"-----")
    text = content.decode("ascii", "replace") if is_pem else base64.b64encode(content).decode()
    return {"certificate": text}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise click.ClickException(f"{path} is not JSON: {error.msg}") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{path} is not a JSON object")
    return found


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError("--expires must be a time, as 2027-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise click.UsageError("--expires must say its time zone, as 2027-01-31T00:00:00Z")
    return moment.isoformat()
