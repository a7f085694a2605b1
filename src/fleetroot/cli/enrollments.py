"""`fleetroot enrollment` and `fleetroot enrollment-group`: who may provision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fleetroot import sas
from fleetroot.cli.client import Client, asks_server, may_ask_server
from fleetroot.cli.enrollment_export import add_export
from fleetroot.cli.enrollment_import import add_import
from fleetroot.cli.enrollment_places import GROUP, INDIVIDUAL, Kind, service_option
from fleetroot.cli.enrollment_settings import UNSET, apply, reprovision_word, setting_options
from fleetroot.cli.output import (
    json_option,
    print_fields,
    print_json,
    print_table,
    when,
    yes_no,
)
from fleetroot.errors import InvalidArgument


@click.group()
def enrollment() -> None:
    """Enrollments of single devices: create, list, change, delete, import and export them."""


@click.group("enrollment-group")
def enrollment_group() -> None:
    """Enrollments of many devices: create, list, change, delete, import and export them."""


def _add_commands(group: click.Group, kind: Kind) -> None:
    """The commands that both groups have."""
    _add_create(group, kind)
    _add_list(group, kind)
    _add_show(group, kind)
    _add_update(group, kind)
    _add_status(group, kind, "enable", "enabled", "Let devices provision under it again.")
    _add_status(group, kind, "disable", "disabled", "Refuse its devices; they keep what they have.")
    _add_roll_key(group, kind)
    _add_delete(group, kind)
    add_import(group, kind)
    add_export(group, kind)


def _add_create(group: click.Group, kind: Kind) -> None:
    @group.command(help=f"Create an {kind.noun}: with new symmetric keys, if no option says else.")
    @click.argument("enrollment_id")
    @service_option
    @setting_options(kind)
    @click.option("--disabled", is_flag=True, help="Refuse its devices until it is enabled.")
    @json_option
    @asks_server
    def create(
        client: Client,
        /,
        enrollment_id: str,
        service: str,
        disabled: bool,
        as_json: bool,
        **given: Any,
    ) -> None:
        body: dict[str, Any] = {"attestation": {"type": "symmetricKey"}}
        if not given["no_policy"]:
            body["credentialPolicyName"] = "default"
        if disabled:
            body["provisioningStatus"] = "disabled"
        apply(body, kind, given)
        made = client.put(kind.path(service, enrollment_id), body)
        _print(_with_keys(client, kind, service, made), kind, as_json)


def _add_list(group: click.Group, kind: Kind) -> None:
    @group.command("list", help=f"List {kind.noun}s, by id.")
    @service_option
    @click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
    @click.option("--after", default="", help="List those behind this id.")
    @json_option
    @asks_server
    def list_(client: Client, service: str, limit: int, after: str, as_json: bool) -> None:
        found: list[dict[str, Any]] = []
        more: str | None = after
        while more is not None and len(found) < limit:
            page = client.get(
                kind.path(service), kind=kind.query, after=more, limit=min(limit - len(found), 1000)
            )
            found += page["value"]
            more = page["next"]
        if as_json:
            print_json(found)
            return
        rows = [
            (
                each[kind.id_name],
                each["attestation"]["type"],
                yes_no(each["provisioningStatus"] == "enabled"),
                each.get("credentialPolicyName", "-"),
                when(each["lastUpdatedDateTimeUtc"]),
            )
            for each in found
        ]
        columns = (kind.noun.capitalize(), "Attests by", "Enabled", "Policy", "Changed")
        print_table(columns, rows, f"no {kind.noun}s")


def _add_show(group: click.Group, kind: Kind) -> None:
    @group.command(help=f"Show an {kind.noun}.")
    @click.argument("enrollment_id")
    @service_option
    @click.option("--keys", is_flag=True, help="With its symmetric keys.")
    @json_option
    @asks_server
    def show(client: Client, enrollment_id: str, service: str, keys: bool, as_json: bool) -> None:
        found = client.get(kind.path(service, enrollment_id))
        _print(_with_keys(client, kind, service, found) if keys else found, kind, as_json)


def _add_update(group: click.Group, kind: Kind) -> None:
    @group.command(help=f"Change an {kind.noun}: what no option says stays as it is.")
    @click.argument("enrollment_id")
    @service_option
    @setting_options(kind)
    @click.option("--unset", multiple=True, type=click.Choice(list(UNSET)), help="Take it away.")
    @json_option
    @asks_server
    def update(
        client: Client,
        /,
        enrollment_id: str,
        service: str,
        unset: tuple[str, ...],
        as_json: bool,
        **given: Any,
    ) -> None:
        def change(body: dict[str, Any]) -> None:
            for name in unset:
                body.pop(UNSET[name], None)
            apply(body, kind, given)

        _print(_changed(client, kind, service, enrollment_id, change), kind, as_json)


def _add_status(group: click.Group, kind: Kind, verb: str, status: str, text: str) -> None:
    @group.command(verb, help=text)
    @click.argument("enrollment_id")
    @service_option
    @json_option
    @asks_server
    def set_status(client: Client, enrollment_id: str, service: str, as_json: bool) -> None:
        def change(body: dict[str, Any]) -> None:
            body["provisioningStatus"] = status

        _print(_changed(client, kind, service, enrollment_id, change), kind, as_json)


def _add_roll_key(group: click.Group, kind: Kind) -> None:
    @group.command("roll-key", help=_ROLL_KEY)
    @click.argument("enrollment_id")
    @service_option
    @click.option("--swap", is_flag=True, help="Exchange the two keys instead.")
    @json_option
    @asks_server
    def roll_key(
        client: Client, enrollment_id: str, service: str, swap: bool, as_json: bool
    ) -> None:
        found = client.get(kind.path(service, enrollment_id))
        keys = client.post(kind.path(service, enrollment_id, below="/keys"))
        primary, secondary = keys["primaryKey"], keys["secondaryKey"]
        if swap:
            primary, secondary = secondary, primary
        else:
            secondary = sas.encode_key(sas.new_key())
        rolled = {"primaryKey": primary, "secondaryKey": secondary}
        found["attestation"] = {"type": "symmetricKey", "symmetricKey": rolled}
        made = client.put(kind.path(service, enrollment_id), found, if_match=found["etag"])
        made["attestation"]["symmetricKey"] = rolled
        _print(made, kind, as_json)


def _add_delete(group: click.Group, kind: Kind) -> None:
    @group.command(help=f"Delete an {kind.noun}; what its devices have, they keep.")
    @click.argument("enrollment_id")
    @service_option
    @json_option
    @asks_server
    def delete(client: Client, enrollment_id: str, service: str, as_json: bool) -> None:
        client.delete(kind.path(service, enrollment_id))
        if as_json:
            print_json({"deleted": enrollment_id})
        else:
            click.echo(f"{enrollment_id}: deleted")


_ROLL_KEY = """Draw the secondary key anew, or exchange the two keys.

    To change the key of devices without a pause: roll the secondary, give it to the devices, see
    with `registration list --slot primary` who still uses the other, exchange the two, and roll
    the secondary again, which ends the old key.
    """

_add_commands(enrollment, INDIVIDUAL)
_add_commands(enrollment_group, GROUP)


@enrollment_group.command("compute-device-key")
@click.argument("enrollment_id", metavar="GROUP")
@click.argument("registration_id")
@service_option
@click.option("--secondary", is_flag=True, help="From the group's secondary key.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="Compute from this key of the group (base64), without a server; - is the input.",
)
@json_option
@may_ask_server
def compute_device_key(
    client: Callable[[], Client],
    enrollment_id: str,
    registration_id: str,
    service: str,
    secondary: bool,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Compute the key of a device of a symmetric-key group."""
    if key_file is not None:
        with click.open_file(str(key_file)) as file:
            text = file.read(4096).strip()
    else:
        keys = client().post(GROUP.path(service, enrollment_id, below="/keys"))
        text = keys["secondaryKey" if secondary else "primaryKey"]
    try:
        key = sas.encode_key(sas.derive_device_key(sas.decode_key(text), registration_id))
    except InvalidArgument as error:
        raise click.ClickException(error.message) from error
    if as_json:
        print_json({"registrationId": registration_id, "key": key})
    else:
        click.echo(key)


def _with_keys(client: Client, kind: Kind, service: str, found: dict[str, Any]) -> dict[str, Any]:
    if found["attestation"]["type"] == "symmetricKey":
        path = kind.path(service, found[kind.id_name], below="/keys")
        found["attestation"]["symmetricKey"] = client.post(path)
    return found


def _changed(
    client: Client,
    kind: Kind,
    service: str,
    enrollment_id: str,
    change: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The enrollment after a change of the version that was read; its keys stay."""
    found = client.get(kind.path(service, enrollment_id))
    change(found)
    made: dict[str, Any] = client.put(
        kind.path(service, enrollment_id), found, if_match=found["etag"]
    )
    return made


def _print(found: dict[str, Any], kind: Kind, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    fields = {
        kind.noun.capitalize(): found[kind.id_name],
        "Enabled": yes_no(found["provisioningStatus"] == "enabled"),
        "Policy": found.get("credentialPolicyName", "-"),
        **_attestation_fields(found["attestation"]),
    }
    if "deviceId" in found:
        fields["Device id"] = found["deviceId"]
    fields |= {
        "Allocation": found.get("allocationPolicy", "as the service does"),
        "Hubs": ", ".join(found.get("iotHubs", ())) or "all that are linked",
        "Comes again": reprovision_word(found["reprovisionPolicy"]),
    }
    if webhook := found.get("customAllocationDefinition"):
        fields["Webhook"] = f"{webhook['webhookUrl']} ({webhook['apiVersion']})"
    if found["quarantine"]:
        fields["Quarantine"] = "new devices wait"
    if "expiryDateTimeUtc" in found:
        fields["Expires"] = when(found["expiryDateTimeUtc"])
    print_fields(fields | {"Etag": found["etag"]})


def _attestation_fields(attestation: dict[str, Any]) -> dict[str, str]:
    fields = {"Attests by": attestation["type"]}
    if keys := attestation.get("symmetricKey"):
        fields |= {"Primary key": keys["primaryKey"], "Secondary key": keys["secondaryKey"]}
    x509 = attestation.get("x509", {})
    for slot in ("primary", "secondary"):
        if name := x509.get("caReferences", {}).get(slot):
            fields[f"{slot.capitalize()} CA"] = name
    for certificates in ("clientCertificates", "signingCertificates"):
        for slot, certificate in x509.get(certificates, {}).items():
            thumbprint = certificate.get("info", {}).get("sha256Thumbprint", "given")
            fields[f"{slot.capitalize()} certificate"] = thumbprint
    return fields
