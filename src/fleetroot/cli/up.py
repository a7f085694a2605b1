"""`fleetroot up`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of everything that is kept.  [default: data]",
)
@click.option(
    "--database-url",
    help="postgresql://… ; with a password rather as FLEETROOT_DATABASE_URL.  [default: SQLite]",
)
@click.option("--bind", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--hostname", help="Name by which clients dial this server.  [default: localhost]")
@click.option("--mqtt-port", type=int, help="MQTT over TLS; 0: any.  [default: 8883]")
@click.option("--https-port", type=int, help="HTTPS; 0: any.  [default: 8443]")
@click.option("--console-port", type=int, help="Console and its API; 0: any.  [default: 8444]")
@click.option(
    "--http-port", type=int, help="CA certificates, in the clear; 0: any.  [default: 8080]"
)
@click.option("--pki-url", help="Public URL of the plain port, kept from the first start on.")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML).")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]"
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="[default: text]")
def up(**given: Any) -> None:
    """Start everything in one process, on SQLite in the data folder or on PostgreSQL.

    The first start makes a namespace, a root and an issuing CA, a policy, a hub, a provisioning
    service and an enrollment group, all called "default". Every option can come from the
    environment as well (FLEETROOT_MQTT_PORT) or from the settings file (mqtt_port).
    """
    # Here, because the other commands start faster without it.
    import uvloop
    from pydantic import ValidationError

    from fleetroot import app, logs
    from fleetroot.custody import MasterKeyUnusable, WrongMasterKey
    from fleetroot.errors import FleetrootError
    from fleetroot.settings import Settings

    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        what = {"extra_forbidden": "there is no such setting"}.get(first["type"], first["msg"])
        raise click.UsageError(f"{where}: {what.removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    os.umask(0o077)  # everything in the data folder is private unless it is said otherwise
    logs.configure(settings.log_level, settings.log_format)
    try:
        uvloop.run(app.serve(settings, _say_ready))
    except (FleetrootError, MasterKeyUnusable, WrongMasterKey) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from error


def _say_ready(server: Any) -> None:
    settings, ports = server.settings, server.ports
    host, data = settings.hostname, settings.data
    lines = [
        f"Fleetroot is ready on {settings.bind} as {host}.",
        f"  MQTT       {host}:{ports['mqttPort']}  (provisioning and hub, TLS)",
        f"  HTTPS      https://{host}:{ports['httpsPort']}",
        f"  Console    https://{host}:{ports['consolePort']}",
        f"  HTTP       http://{host}:{ports['httpPort']}  (CA certificates)",
        f"  Trust      {data / 'server-ca.pem'}",
        f"  Bootstrap  {data / 'bootstrap.json'}  (keys and token: keep it private)",
    ]
    click.echo("\n".join(lines))
