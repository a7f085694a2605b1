"""`fleetroot device`: this machine as a device, against Fleetroot or Azure.

What operators ask about devices is in `devices`.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fleetroot.cli.lazy import LazyGroup
from fleetroot.cli.output import json_option, print_fields, print_json, when

if TYPE_CHECKING:
    from fleetroot.agent.report import Event

_MAX_FILE_BYTES = 1024 * 1024  # of CAs; a key is far shorter


_OPERATORS = {
    "list": "devices:list_",
    "create": "devices:create",
    "show": "devices:show",
    "update": "devices:update",
    "timeline": "devices:timeline",
    "revoke": "devices:revoke",
    "disable": "devices:disable_",
    "enable": "devices:enable",
    "delete": "devices:delete",
    "explain": "explain:explain_device",
}


@click.group(cls=LazyGroup, places=_OPERATORS)
def device() -> None:
    """Be a device (provision, run), or look after devices as their operator.

    What an operator asks is under `fleetroot devices`, too.
    """


def _from_bootstrap(
    context: click.Context, _parameter: click.Parameter, path: Path | None
) -> str | None:
    """Fills the options that a server's bootstrap file knows; returns its group's key."""
    if path is None:
        return None
    try:
        there = json.loads(_read(path, "bootstrap"))
        context.default_map = {
            "host": there["hostname"],
            "mqtt_port": there["mqttPort"],
            "id_scope": there["provisioning"]["idScope"],
            "ca": there["serverCaFile"],
        }
        group = there["enrollmentGroup"]
        if group is None and not context.params.get("symmetric_key"):
            click.echo(f"{path} names no enrollment group: it was deleted", err=True)
        return str(group["primaryKey"]) if group else None
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} is not a bootstrap file") from error


@device.command()
@click.option(
    "--bootstrap",
    "bootstrap_key",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=_from_bootstrap,
    help="A server's bootstrap.json: fills --host, --mqtt-port, --id-scope and --ca, and without "
    "another key derives the device's from the group's. For a server of your own.",
)
@click.option("--host", required=True, help="Provisioning service, by the name it shows in TLS.")
@click.option("--mqtt-port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option("--id-scope", required=True)
@click.option("--registration-id", required=True)
@click.option(
    "--symmetric-key",
    envvar="FLEETROOT_SYMMETRIC_KEY",
    help="Base64. Others can see a command's options: prefer FLEETROOT_SYMMETRIC_KEY or a file.",
)
@click.option("--symmetric-key-file", type=click.Path(path_type=Path), help="File that holds it.")
@click.option("--group-key", is_flag=True, help="The key is a group's: derive the device's own.")
@click.option("--forget-key", is_flag=True, help="Keep no key; `run` cannot provision again.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path),
    envvar="FLEETROOT_CA",
    help="Server CA to trust (PEM).  [default: the system's]",
)
@click.option(
    "--key-type",
    type=click.Choice(["EC-P256", "EC-P384", "EC-P521"]),
    default="EC-P384",
    show_default=True,
    help="Of the keys that the device makes.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The device's folder.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds to go on trying while the service is away or busy.",
)
@json_option
@click.pass_context
def provision(
    context: click.Context,
    bootstrap_key: str | None,
    host: str,
    mqtt_port: int,
    id_scope: str,
    registration_id: str,
    symmetric_key: str | None,
    symmetric_key_file: Path | None,
    group_key: bool,
    forget_key: bool,
    ca: Path | None,
    key_type: str,
    out: Path,
    timeout: float,
    as_json: bool,
) -> None:
    """Make a key, have it certified, and keep both in a folder.

    The key is made here and never leaves. A folder that has a device in it gets the new one in one
    step: whatever happens meanwhile, it holds the old or the new.
    """
    from fleetroot import sas
    from fleetroot.agent.backoff import Backoff
    from fleetroot.agent.bell import Bell
    from fleetroot.agent.device import Onboarding
    from fleetroot.agent.errors import AgentError
    from fleetroot.agent.provisioner import Provisioner
    from fleetroot.agent.report import Happening, Reporter
    from fleetroot.agent.state import DeviceFolder
    from fleetroot.clock import SystemClock
    from fleetroot.errors import InvalidArgument
    from fleetroot.ids import check_registration_id
    from fleetroot.pki import KeyType

    if symmetric_key_file is not None:
        if context.get_parameter_source("symmetric_key") is ParameterSource.COMMANDLINE:
            raise click.UsageError("give --symmetric-key or --symmetric-key-file, not both")
        symmetric_key = _read(symmetric_key_file, "symmetric key").strip()
    if not symmetric_key and bootstrap_key is not None:
        symmetric_key, group_key = bootstrap_key, True
    if not symmetric_key:
        raise click.UsageError("give --symmetric-key-file, FLEETROOT_SYMMETRIC_KEY or the option")
    try:
        check_registration_id(registration_id)
        key = sas.decode_key(symmetric_key)
    except InvalidArgument as error:
        raise click.ClickException(error.message) from None
    onboarding = Onboarding(
        host=host,
        port=mqtt_port,
        id_scope=id_scope,
        registration_id=registration_id,
        ca=None if ca is None else _read(ca, "CA"),
        key_type=KeyType(key_type),
        symmetric_key=sas.derive_device_key(key, registration_id) if group_key else key,
    )

    def show(event: Event) -> None:
        if event.happening is Happening.WAITING and not as_json:
            click.echo(event.as_line())

    clock = SystemClock()
    provisioner = Provisioner(onboarding, clock, Bell(), Reporter(clock, show))
    try:
        folder = DeviceFolder.create(out)
        with folder.locked():
            made = provisioner.provision(timeout, Backoff())
            folder.store(made.without_key() if forget_key else made)
    except AgentError as error:
        raise click.ClickException(error.message) from None
    described = made.credential.described()
    if as_json:
        print_json(
            {
                "registrationId": registration_id,
                "deviceId": made.device_id,
                "assignedHub": made.hub,
                "mqttPort": mqtt_port,
                "folder": str(out),
                "certificate": described,
            }
        )
        return
    print_fields(
        {
            "Device": made.device_id,
            "Hub": made.hub,
            "Certificate": described["sha256"],
            "Serial number": described["serialNumber"],
            "From": when(described["notBefore"]),
            "Until": when(described["notAfter"]),
            "Folder": str(out),
        }
    )


@device.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    required=True,
    help="The device's folder, as `provision` made it.",
)
@click.option(
    "--telemetry-interval", type=click.FloatRange(0.1), help="Seconds between heartbeats."
)
@click.option(
    "--renew-at",
    type=click.FloatRange(0.05, 0.9),
    help="Fraction of a certificate's life after which it is renewed, give or take 5 percent of it."
    "  [default: 2/3]",
)
@click.option("--renew-now", is_flag=True, help="Renew on the first connection, due or not.")
@click.option(
    "--max-wait",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Longest wait between attempts, in seconds.",
)
@click.option(
    "--hub-address",
    metavar="HOST[:PORT]",
    help="Dial this instead of the hub's name, which TLS and the hub still hear.",
)
@click.option("--once", is_flag=True, help="Connect, report, renew if it is time, and exit.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, and nothing else.")
def run(
    directory: Path,
    telemetry_interval: float | None,
    renew_at: float | None,
    renew_now: bool,
    max_wait: float,
    hub_address: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Connect with the operational certificate and stay connected, until SIGTERM or SIGINT.

    Reports the certificate's dates in the device's twin, renews it in time, and provisions again
    when the hub refuses it.
    """
    from fleetroot.agent.bell import Bell
    from fleetroot.agent.errors import AgentError, Stopped
    from fleetroot.agent.report import Reporter
    from fleetroot.agent.runner import RENEW_AT, Runner, Settings
    from fleetroot.agent.state import DeviceFolder
    from fleetroot.clock import SystemClock

    settings = Settings(
        renew_at=RENEW_AT if renew_at is None else renew_at,
        telemetry_interval=telemetry_interval,
        longest_wait=max_wait,
        hub_address=None if hub_address is None else _parse_address(hub_address),
        renew_now=renew_now,
    )

    def show(event: Event) -> None:
        click.echo(json.dumps(event.as_object()) if as_json else event.as_line())

    clock, bell = SystemClock(), Bell()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bell.stop())
    folder = DeviceFolder(directory)
    try:
        with folder.locked():
            runner = Runner(folder, settings, clock, bell, Reporter(clock, show))
            if once:
                runner.run_once()
            else:
                runner.run()
    except AgentError as error:
        raise click.ClickException(error.message) from None
    except Stopped:
        return


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode()
    except OSError as error:
        raise click.ClickException(
            f"cannot read the {what} file {path}: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise click.ClickException(f"the {what} file {path} is not text") from None


def _parse_address(text: str) -> tuple[str, int | None]:
    """`HOST`, `HOST:PORT`, `[IPV6]:PORT`, or an IPv6 address alone."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text.strip("[]"), None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise click.UsageError(f"{text} is not HOST or HOST:PORT")
    return host.strip("[]"), int(port)
