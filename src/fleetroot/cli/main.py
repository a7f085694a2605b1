"""The root of the command line, and where every failure becomes an exit code."""

from __future__ import annotations

import sys

import click

from fleetroot import __version__
from fleetroot.cli.lazy import LazyGroup

_COMMANDS = {
    "up": "up:up",
    "status": "status:status",
    "devices": "devices:devices",
    "certificates": "certificates:certificates",
    "crl": "crls:crl",
    "incident": "incidents:incident",
    "namespace": "namespaces:namespace",
    "credential": "namespaces:credential",
    "ca": "authorities:ca",
    "policy": "policies:policy",
    "hub": "hubs:hub",
    "job": "jobs:job",
    "provisioning-service": "provisioning_services:provisioning_service",
    "quarantine": "quarantine:quarantine",
    "enrollment": "enrollments:enrollment",
    "enrollment-group": "enrollments:enrollment_group",
    "registration": "registrations:registration",
    "events": "events:events",
    "device": "device:device",
    "explain": "explain:explain",
    "twin": "twins:twin",
    "query": "queries:query",
    "token": "tokens:token",
    "oidc-issuer": "oidc_issuers:oidc_issuer",
    "approval": "approvals:approval",
    "audit": "audit:audit",
    "master-key": "master_key:master_key",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "mark-restored": "backup:mark_restored",
}


@click.group(
    cls=LazyGroup,
    places=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(__version__, prog_name="fleetroot")
def fleetroot() -> None:
    """Identity for IoT fleets: certificate authority, registry, provisioning and gateway."""


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
