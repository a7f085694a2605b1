"""Where the operator API has the enrollments, enrollment groups and registrations of a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from fleetroot.cli.client import quoted

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Kind:
    """Enrollments or enrollment groups.

    Attributes:
        query: the kind, as the API names it.
        id_name: what holds the id in JSON.
        certificates: what holds the certificates of X.509 attestation in JSON.
    """

    query: str
    noun: str
    id_name: str
    certificates: str

    def path(self, service: str, enrollment_id: str | None = None, *, below: str = "") -> str:
        """The path of one, or of all."""
        one = f"/{quoted(enrollment_id)}" if enrollment_id is not None else ""
        return f"{_root(service)}/enrollments{one}{below}?kind={self.query}"

    def call(self, service: str, name: str) -> str:
        """The path of a call that is about all of them."""
        return f"{_root(service)}/{name}?kind={self.query}"


INDIVIDUAL = Kind("individual", "enrollment", "registrationId", "clientCertificates")
GROUP = Kind("group", "enrollment group", "enrollmentGroupId", "signingCertificates")


def service_option(function: F) -> F:
    """`--service`."""
    return click.option(
        "--service", default="default", show_default=True, help="Provisioning service."
    )(function)


def registration_path(service: str, registration_id: str | None = None) -> str:
    """The path of one registration, or of all."""
    one = f"/{quoted(registration_id)}" if registration_id is not None else ""
    return f"{_root(service)}/registrations{one}"


def _root(service: str) -> str:
    return f"/fleetroot/provisioning-services/{quoted(service)}"
