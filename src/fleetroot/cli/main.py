"""The root of the command line, and where every failure becomes an exit code."""

from __future__ import annotations

import sys

import click

from fleetroot import __version__
from fleetroot.cli.approvals import approval
from fleetroot.cli.audit import audit
from fleetroot.cli.authorities import ca
from fleetroot.cli.backup import backup, mark_restored, restore
from fleetroot.cli.certificates import certificates
from fleetroot.cli.crls import crl
from fleetroot.cli.device import device
from fleetroot.cli.devices import devices
from fleetroot.cli.enrollments import enrollments
from fleetroot.cli.events import events
from fleetroot.cli.explain import explain, explain_device, registration
from fleetroot.cli.master_key import master_key
from fleetroot.cli.namespaces import credential, namespace
from fleetroot.cli.oidc_issuers import oidc_issuer
from fleetroot.cli.policies import policy
from fleetroot.cli.status import status
from fleetroot.cli.tokens import token
from fleetroot.cli.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88})
@click.version_option(__version__, prog_name="fleetroot")
def fleetroot() -> None:
    """Identity for IoT fleets: certificate authority, registry, provisioning and gateway."""


device.add_command(explain_device)
for command in (
    up,
    status,
    devices,
    certificates,
    crl,
    namespace,
    credential,
    ca,
    policy,
    enrollments,
    registration,
    events,
    device,
    explain,
    token,
    oidc_issuer,
    approval,
    audit,
    master_key,
    backup,
    restore,
    mark_restored,
):
    fleetroot.add_command(command)


def main() -> None:
    """Runs the command line and exits."""
    try:
        fleetroot.main(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"fleetroot: {error.format_message()}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(0)
