"""`fleetroot policy`."""

from __future__ import annotations

from typing import IO, Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, when

_DAYS = click.FloatRange(0, 1000, min_open=True)
_HOURS = click.FloatRange(0, 24_000, min_open=True)
_LEAF_KEY_TYPES = (
    *("EC-P256", "EC-P384", "EC-P521", "RSA-2048", "RSA-3072", "RSA-4096"),
    *("ML-DSA-44", "ML-DSA-65", "ML-DSA-87"),
)
KEY_TYPES = tuple(name for name in _LEAF_KEY_TYPES if name != "RSA-2048")


@click.group()
def policy() -> None:
    """Create, list, show, update and delete policies; renew, revoke and activate their CAs."""


def _leaf_options(function: Any) -> Any:
    for option in (
        click.option("--days", type=_DAYS, help="Validity of leaf certificates."),
        click.option("--hours", type=_HOURS, help="The same, in hours."),
        click.option(
            "--leaf-key-type",
            "leaf_key_types",
            multiple=True,
            type=click.Choice(_LEAF_KEY_TYPES),
            help="A key type that leaves may have; may be given more than once.",
        ),
    ):
        function = option(function)
    return function


@policy.command()
@click.argument("name")
@namespace_option
@_leaf_options
@click.option(
    "--key-type",
    type=click.Choice(KEY_TYPES),
    default="EC-P384",
    show_default=True,
    help="Key type of its CAs.",
)
@click.option("--subject", help="Subject of its CAs: `CN=Plant 7,O=Example`, or a common name.")
@click.option("--bring-your-own-root", is_flag=True, help="Its CAs are signed by another's root.")
@json_option
@asks_server
def create(
    client: Client,
    name: str,
    namespace: str,
    days: float | None,
    hours: float | None,
    leaf_key_types: tuple[str, ...],
    key_type: str,
    subject: str | None,
    bring_your_own_root: bool,
    as_json: bool,
) -> None:
    """Create a policy, with its first CA or with the request for one."""
    authority = {
        "keyType": key_type,
        "subject": subject,
        "bringYourOwnRoot": {"enabled": bring_your_own_root},
    }
    body = {
        "certificate": {
            "certificateAuthorityConfiguration": authority,
            "leafCertificateConfiguration": _leaf(days, hours, leaf_key_types),
        }
    }
    _print(client.put(_path(namespace, name), body), as_json)


@policy.command("list")
@namespace_option
@json_option
@asks_server
def list_(client: Client, namespace: str, as_json: bool) -> None:
    """List the policies of a namespace."""
    found = client.get(f"/fleetroot/namespaces/{quoted(namespace)}/policies")["value"]
    if as_json:
        print_json(found)
        return
    rows = []
    for each in found:
        ca, leaf = _parts(each)
        rows.append(
            (
                each["name"],
                ca["bringYourOwnRoot"]["status"],
                ca["keyType"],
                f"{leaf['validityPeriodInDays']:g} days",
                when(ca.get("validityNotAfter")),
            )
        )
    print_table(("Policy", "Status", "CA key", "Leaves", "CA until"), rows, "no policies")


@policy.command()
@click.argument("name")
@namespace_option
@click.option("--csr", is_flag=True, help="Print only the request that waits, as PEM.")
@json_option
@asks_server
def show(client: Client, name: str, namespace: str, csr: bool, as_json: bool) -> None:
    """Show one policy."""
    found = client.get(_path(namespace, name))
    if not csr:
        _print(found, as_json)
        return
    request = _parts(found)[0]["bringYourOwnRoot"].get("certificateSigningRequest")
    if request is None:
        raise click.ClickException(f"the policy {found['name']} waits for no certificate")
    click.echo(request, nl=False)


@policy.command()
@click.argument("name")
@namespace_option
@_leaf_options
@click.option("--if-match", help="Only if this is still its etag.")
@json_option
@asks_server
def update(
    client: Client,
    name: str,
    namespace: str,
    days: float | None,
    hours: float | None,
    leaf_key_types: tuple[str, ...],
    if_match: str | None,
    as_json: bool,
) -> None:
    """Change what a policy says of leaves, from now on."""
    leaf = _leaf(days, hours, leaf_key_types)
    if not leaf:
        raise click.UsageError("give --days, --hours or --leaf-key-type")
    body = {"certificate": {"leafCertificateConfiguration": leaf}}
    _print(client.patch(_path(namespace, name), body, if_match=if_match), as_json)


@policy.command()
@click.argument("name")
@namespace_option
@json_option
@asks_server
def delete(client: Client, name: str, namespace: str, as_json: bool) -> None:
    """Delete a policy: it issues nothing any more; what it issued works until it expires."""
    client.delete(_path(namespace, name))
    if as_json:
        print_json({"deleted": name})
    else:
        click.echo(f"{name}: deleted")


@policy.command("revoke-issuer")
@click.argument("name")
@namespace_option
@json_option
@asks_server
def revoke_issuer(client: Client, name: str, namespace: str, as_json: bool) -> None:
    """Revoke every CA of a policy, and put a new one in their place.

    Every certificate that they issued stops working at once; devices provision again.
    """
    _print(client.post(f"{_path(namespace, name)}/revokeIssuer"), as_json)


@policy.command("renew-issuer")
@click.argument("name")
@namespace_option
@json_option
@asks_server
def renew_issuer(client: Client, name: str, namespace: str, as_json: bool) -> None:
    """Let another CA follow before it is due; what the old one issued works until it expires."""
    _print(client.post(f"{_path(namespace, name)}/renewIssuer"), as_json)


@policy.command()
@click.argument("name")
@click.argument("chain", type=click.File())
@namespace_option
@json_option
@asks_server
def activate(client: Client, name: str, chain: IO[str], namespace: str, as_json: bool) -> None:
    """Give a policy the chain that was signed for its request.

    CHAIN is a file of PEM certificates: the issuing CA first, then each one's issuer.
    """
    body = {"certificateChain": chain.read()}
    _print(client.post(f"{_path(namespace, name)}/activateBringYourOwnRoot", body), as_json)


def _path(namespace: str, name: str) -> str:
    return f"/fleetroot/namespaces/{quoted(namespace)}/policies/{quoted(name)}"


def _leaf(days: float | None, hours: float | None, key_types: tuple[str, ...]) -> dict[str, Any]:
    if days is not None and hours is not None:
        raise click.UsageError("give --days or --hours, not both")
    leaf: dict[str, Any] = {}
    if days is not None:
        leaf["validityPeriodInDays"] = days
    if hours is not None:
        leaf["validityPeriodInHours"] = hours
    if key_types:
        leaf["keyTypes"] = list(key_types)
    return leaf


def _parts(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    certificate = found["certificate"]
    return (
        certificate["certificateAuthorityConfiguration"],
        certificate["leafCertificateConfiguration"],
    )


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    ca, leaf = _parts(found)
    root = ca["bringYourOwnRoot"]
    fields = {
        "Policy": found["name"],
        "Status": root["status"],
        "Root": "of another" if root["enabled"] else "the namespace's",
        "CA subject": ca["subject"] or "-",
        "CA key": ca["keyType"],
        "CA": ca.get("issuingAuthority", "-"),
        "CA until": when(ca.get("validityNotAfter")),
        "Leaves": f"{leaf['validityPeriodInDays']:g} days, {', '.join(leaf['keyTypes'])}",
        "Etag": found["etag"],
    }
    print_fields(fields)
    if "certificateSigningRequest" in root:
        click.echo(
            f"\nA request waits for the {root['signedBy']} to sign it: "
            f"fleetroot policy show {found['name']} --csr"
        )
