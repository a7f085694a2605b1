"""All settings, in one model.

A setting comes from, in this order: the command line, the environment (`FLEETROOT_MQTT_PORT`), the
file that `FLEETROOT_CONFIG` or `--config` names (TOML, `mqtt_port = 8883`), its default.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

# RFC 1123 §2.1 and RFC 1035 §2.3.4.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_TOKEN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_DATABASE_SCHEMES = ("postgresql://", "postgres://")
_PLAIN_URL = re.compile(r"http://[A-Za-z0-9.\-\[\]:]+(?:/[A-Za-z0-9._~/\-]*)?", re.ASCII)


class TokenSettings(BaseModel):
    """A PKCS#11 token that keys may be kept in; its PIN is in a file or here."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    module: Path
    label: str = Field(min_length=1, max_length=32)
    pin: SecretStr | None = None
    pin_file: Path | None = None
    threads: int = Field(default=4, gt=0, le=64)
    timeout_seconds: float = Field(default=5.0, gt=0)
    retry_seconds: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _has_one_pin(self) -> TokenSettings:
        if (self.pin is None) == (self.pin_file is None):
            raise ValueError("a token needs pin or pin_file")
        return self


class Settings(BaseSettings):
    """How a server is set up. Times are in seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETROOT_",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a secret in the wrong place
    )

    config: Path | None = None
    data: Path = Path("data")
    # postgresql://user:password@host:port/database; without one, SQLite in the data folder.
    database_url: SecretStr | None = None

    bind: str = "127.0.0.1"
    hostname: str = "localhost"
    # What host names of new hubs and provisioning services end in; the hostname, if it is a name.
    services_domain: str | None = None
    mqtt_port: int = Field(default=8883, ge=0, le=65535)
    https_port: int = Field(default=8443, ge=0, le=65535)
    console_port: int = Field(default=8444, ge=0, le=65535)
    http_port: int = Field(default=8080, ge=0, le=65535)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    # Embedded in every certificate for ever, so chosen on the first start and kept.
    pki_url: str | None = None
    # Revocations that come within this time share a signing of the list.
    crl_batch_seconds: float = Field(default=2.0, ge=0)
    subscription_id: str = "00000000-0000-0000-0000-000000000000"
    resource_group: str = "fleetroot"

    # Within what a policy may choose how long its leaves live.
    leaf_validity_min_days: float = Field(default=7.0, ge=0.001, le=1000)
    leaf_validity_max_days: float = Field(default=90.0, ge=0.001, le=1000)
    # What ends within so many days is in the status, the metrics and the log.
    expiry_warning_days: float = Field(default=30.0, ge=0)

    # Where the master key is; see `custody.master` for what is tried in which order.
    master_key_file: Path | None = None
    master_key: SecretStr | None = None
    passphrase: SecretStr | None = None

    # PKCS#11 tokens by the name that is kept with a key; see docs/custody.md.
    tokens: dict[str, TokenSettings] = {}
    authority_keys: str = "software"  # where keys of new CAs are made: software, or a token's name

    # A certificate of the operator's own, instead of one of the server CA's (PEM files).
    server_certificate: Path | None = None
    server_key: Path | None = None

    # What needs a second person.
    second_person_for: tuple[
        Literal["revoke-issuer", "delete-authority", "revoke-incident", "backup"], ...
    ] = ()

    # Whom custom allocation may call, and for how long; see docs/allocation.md.
    webhook_plain_http: bool = False
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    webhook_ca: Path | None = None
    webhook_seconds: float = Field(default=10.0, gt=0, le=50)
    webhook_tries: int = Field(default=3, gt=0, le=5)

    event_retention_hours: float = Field(default=24.0, gt=0)
    event_retention_count: int = Field(default=1_000_000, gt=0)
    event_retention_megabytes: int = Field(default=1024, gt=0)
    # Of cloud-to-device messages; see docs/cloud-to-device.md.
    command_hours: float = Field(default=1.0, gt=0, le=48)
    command_queue_depth: int = Field(default=50, gt=0, le=10_000)
    command_deliveries: int = Field(default=10, gt=0, le=100)
    feedback_hours: float = Field(default=1.0, gt=0, le=48)
    # Of direct methods; see docs/methods.md.
    method_calls_per_device: int = Field(default=20, gt=0, le=10_000)
    method_calls: int = Field(default=10_000, gt=0)
    # Of jobs; see docs/jobs.md.
    job_devices_per_second: float = Field(default=200.0, gt=0, le=10_000)
    job_devices_at_once: int = Field(default=64, gt=0, le=1000)
    job_days: float = Field(default=30.0, gt=0)
    query_seconds: float = Field(default=30.0, gt=0, le=600)
    query_groups: int = Field(default=1000, gt=0, le=100_000)
    # Whether a connection ends with the certificate that opened it; one by a token always does.
    end_expired_connections: bool = True
    lease_seconds: float = Field(default=10.0, gt=0)
    drain_seconds: float = Field(default=5.0, ge=0)

    # What peers may ask; see docs/limits.md.
    max_connections: int = Field(default=100_000, gt=0)
    max_handshakes: int = Field(default=2048, gt=0)
    max_handshakes_per_source: int = Field(default=64, gt=0)
    max_strangers_per_source: int = Field(default=1024, gt=0)
    uncapped_sources: tuple[IPv4Network | IPv6Network, ...] = ()
    failures_per_source: int = Field(default=500, gt=0)
    failures_per_source_per_second: float = Field(default=20.0, gt=0)
    first_flight_seconds: float = Field(default=5.0, gt=0)
    handshake_seconds: float = Field(default=15.0, gt=0)
    handshake_wait_seconds: float = Field(default=10.0, gt=0)
    handshake_bytes: int = Field(default=32 * 1024, ge=4096)
    handshake_steps: int = Field(default=32, ge=8)
    connect_seconds: float = Field(default=10.0, gt=0)
    connect_bytes: int = Field(default=16 * 1024, ge=4096)
    packet_bytes: int = Field(default=320 * 1024, ge=4096)
    keep_alive_seconds: float = Field(default=1767.0, gt=0)
    unattested_seconds: float = Field(default=60.0, gt=0)
    failed_attestations: int = Field(default=10, gt=0)
    max_waiting: int = Field(default=256, gt=0)
    write_buffer_bytes: int = Field(default=1024 * 1024, ge=64 * 1024)
    connects_per_device: int = Field(default=30, gt=0)
    connects_per_device_per_second: float = Field(default=1.0, gt=0)
    requests_per_source: int = Field(default=5000, gt=0)
    requests_per_source_per_second: float = Field(default=500.0, gt=0)
    registrations_per_scope: int = Field(default=20_000, gt=0)
    registrations_per_scope_per_second: float = Field(default=2000.0, gt=0)
    registrations_per_device: int = Field(default=60, gt=0)
    registrations_per_device_per_second: float = Field(default=1.0, gt=0)
    certificates_per_device: int = Field(default=60, gt=0)
    certificates_per_device_per_second: float = Field(default=0.2, gt=0)
    polls_per_device: int = Field(default=60, gt=0)
    polls_per_device_per_second: float = Field(default=2.0, gt=0)
    trials_per_source: int = Field(default=10_000, gt=0)
    trials_per_source_per_second: float = Field(default=1000.0, gt=0)
    http_head_bytes: int = Field(default=32 * 1024, ge=4096)
    http_head_seconds: float = Field(default=10.0, gt=0)
    http_body_bytes: int = Field(default=1024 * 1024, ge=96 * 1024)
    http_body_seconds: float = Field(default=30.0, gt=0)
    http_keep_alive_seconds: int = Field(default=30, gt=0)
    refusals_kept: int = Field(default=5000, gt=0)
    refusal_lines_per_second: float = Field(default=20.0, gt=0)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @field_validator("hostname")
    @classmethod
    def _is_host_name(cls, value: str) -> str:
        """It is embedded in certificates for ever, so it is checked before anything is made."""
        name = value.strip().lower()
        if not _HOST_NAME.fullmatch(name):
            try:
                ip_address(name)
            except ValueError:
                raise ValueError("not a host name or address") from None
        return name

    @field_validator("services_domain")
    @classmethod
    def _is_domain(cls, value: str | None) -> str | None:
        if value is None:
            return None
        name = value.strip().lower()
        if not _HOST_NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal():
            raise ValueError("not a host name")
        return name

    @field_validator("database_url")
    @classmethod
    def _is_of_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(_DATABASE_SCHEMES):
            raise ValueError("must be postgresql://user:password@host:port/database")
        return value

    @field_validator("pki_url")
    @classmethod
    def _is_plain_http(cls, value: str | None) -> str | None:
        """RFC 5280 §4.2.1.13 and §4.2.2.1 count on access without TLS, which would need the very
        certificates that are asked about.
        """
        if value is not None and not _PLAIN_URL.fullmatch(value):
            raise ValueError("must be http://host[:port][/path]")
        return value.rstrip("/") if value else None

    @model_validator(mode="after")
    def _both_or_none(self) -> Settings:
        if (self.server_certificate is None) != (self.server_key is None):
            raise ValueError("server_certificate and server_key go together")
        return self

    @model_validator(mode="after")
    def _tokens_are_named(self) -> Settings:
        for name in self.tokens:
            if not _TOKEN_NAME.fullmatch(name) or name == "software":
                raise ValueError(f"a token cannot be named {name}")
        if self.authority_keys != "software" and self.authority_keys not in self.tokens:
            raise ValueError(f"authority_keys: there is no token {self.authority_keys}")
        return self

    @model_validator(mode="after")
    def _leaf_validity_is_a_range(self) -> Settings:
        if self.leaf_validity_min_days > self.leaf_validity_max_days:
            raise ValueError("leaf_validity_min_days is over leaf_validity_max_days")
        return self

    @model_validator(mode="after")
    def _webhooks_come_to_an_end(self) -> Settings:
        """A node has two minutes to get a decision."""
        if self.webhook_seconds * self.webhook_tries > 50:
            raise ValueError("webhook_seconds times webhook_tries is over 50")
        return self

    @model_validator(mode="after")
    def _first_flight_is_part_of_handshake(self) -> Settings:
        if self.first_flight_seconds > self.handshake_seconds:
            raise ValueError("first_flight_seconds is over handshake_seconds")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line's values, then the environment, then the file that either names."""
        named: dict[str, Any] = {**env_settings(), **init_settings()}
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if (config := named.get("config")) is not None:
            path = Path(config)
            if not path.is_file():
                raise ValueError(f"there is no settings file {path}")
            sources = (*sources, TomlConfigSettingsSource(settings_cls, path))
        return sources
