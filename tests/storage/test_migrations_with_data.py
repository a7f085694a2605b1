"""Migrations of a database that was lived in, up and down, on the database of the test run."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

import database
from corporation import Corporation
from fleet import Fleet, device_csr
from fleetroot.access import Grant, OidcIssuer, Role
from fleetroot.access.access import Access
from fleetroot.access.approvals import Guarded
from fleetroot.audit import SYSTEM
from fleetroot.errors import ApprovalNeeded, Unavailable
from fleetroot.hub.cloud_to_device import Ack
from fleetroot.hub.identity_administration import IdentityAdministration
from fleetroot.hub.model import CertificateProof, Channel, CredentialWish, Message
from fleetroot.hub.service_twins import SectionChange, TwinChange
from fleetroot.hub.wanted_identities import WantedIdentity
from fleetroot.pki import (
    IssuingProfile,
    KeyType,
    PkiUrls,
    RootProfile,
    generate_key,
    parse_subject,
    read_authority_request,
    to_pem,
)
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.provisioning.regions import DescribedRegion, Regions
from fleetroot.provisioning.webhook_secrets import WebhookSecretStore
from fleetroot.registry.device_resources import Description, DeviceResources
from fleetroot.registry.incidents import Scope
from fleetroot.registry.ocsp_responders import OcspResponders
from fleetroot.registry.publishing import RevocationPublisher
from fleetroot.registry.revocation_jobs import RevocationJobs
from fleetroot.registry.service_resources import Owner, ServiceKind
from fleetroot.registry.third_party_lists import ThirdPartyLists
from fleetroot.registry.uploaded_certificates import UploadedCertificates
from fleetroot.storage import migrate
from fleetroot.storage.schema import metadata
from workbench import Wire, Workbench

SCRIPTS = ScriptDirectory.from_config(migrate.configuration())
HEAD = SCRIPTS.get_current_head()
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()]  # the newest first

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "next", {head!r}

def upgrade():
    op.create_table("later", sa.Column("id", sa.BigInteger(), primary_key=True))
    with op.batch_alter_table("devices") as devices:
        devices.add_column(sa.Column("later", sa.Text(), nullable=True))
    {then}

def downgrade():
    with op.batch_alter_table("devices") as devices:
        devices.drop_column("later")
    op.drop_table("later")
    {then}
"""

Rows = dict[str, list[dict[str, Any]]]


async def live_in(bench: Workbench) -> None:
    """Does everything that leaves a row, with the rooms themselves."""
    made = bench.made
    certified = await bench.provision("dev-1")
    revoked = await bench.provision("dev-2")
    session = await bench.connect("dev-2", revoked)
    await bench.registry.revoke(made.namespace, "dev-2", disable=True, by=SYSTEM)
    await bench.outbox.drain()
    assert session.ended is not None
    keyed = EnrollmentSettings(policy_id=None, initial_twin='{"tags":{"site":"plant"}}')
    await bench.administration.put(
        made.service, EnrollmentKind.INDIVIDUAL, "dev-3", keyed, by=SYSTEM
    )

    class Silent(Wire):
        """Acknowledges no answer, so that the request stays."""

        def answer_credential_request(self, *arguments: Any, **more: Any) -> bool:
            return True

    await bench.administration.put(
        made.service,
        EnrollmentKind.GROUP,
        made.group.enrollment.id,
        replace(made.group.enrollment.settings, quarantine=True),
        if_match="*",
        by=SYSTEM,
    )
    await bench.register("dev-5", device_csr("dev-5")[1])
    proof = CertificateProof(certified.chain[:1])
    session, _ = await bench.hubs.connect(
        made.hub.host_name, "dev-1", proof, Silent(), clean_session=False
    )
    await bench.hubs.subscribe(session, {Channel.CREDENTIALS: 1, Channel.TWIN: 0})
    await bench.hubs.report(session, '{"firmware":"1.2","naïve":"ñ"}'.encode())
    await bench.hubs.send(session, Message(b"\x00\xff", {"a": "b"}, {"$.mid": "1"}))
    wish = CredentialWish("dev-1", device_csr("dev-1")[1], None)
    await bench.renew(session, "1", wish)
    bench.hubs.disconnect(session)
    await send_commands(bench)
    await bring_a_root(bench)
    await DeviceResources(bench.store, bench.bus, bench.clock).put(
        made.namespace,
        "dev-4",
        Description(tags={"site": "plant"}, properties={"manufacturer": "ñ"}),
        enabled=True,
        policy=None,
        if_match=None,
        create_only=True,
        by=SYSTEM,
    )
    await bench.access.first_token(None)
    await bench.access.put_oidc_issuer(
        OidcIssuer(
            "corp",
            "https://id.example",
            "audience",
            "roles",
            {"admins": Grant(Role.READER, made.namespace.id)},
            None,
            bench.clock.now(),
        ),
        by=SYSTEM,
    )
    guarded = Access(bench.store, bench.clock, second_person_for=[Guarded.BACK_UP])
    with pytest.raises(ApprovalNeeded):
        await guarded.claim(Guarded.BACK_UP, "backup", by=SYSTEM)
    responders = OcspResponders(bench.store, bench.custody, bench.clock)
    await RevocationPublisher(bench.store, bench.custody, responders, bench.clock).update()
    corporation = Corporation(bench.clock.now())
    await ThirdPartyLists(bench.store, bench.bus, bench.clock).upload(
        made.namespace, corporation.crl(5), corporation.der, by=SYSTEM
    )
    await upload_a_ca(bench, corporation)
    scope = Scope(made.namespace.id, device_keys=("dev-1",), since=bench.clock.now())
    await RevocationJobs(bench.store, bench.bus, bench.clock).start(scope, pace=1, by=SYSTEM)
    region = DescribedRegion("west", ["192.0.2.0/24"], {made.hub.host_name: 20})
    await Regions(bench.store, bench.clock).put(made.service, region, by=SYSTEM)
    await WebhookSecretStore(bench.store, bench.sealer, bench.clock).of(made.service)
    tags = TwinChange(tags=SectionChange({"site": "plant"}))
    await bench.hubs.jobs.create(made.hub, "job-1", tags, "deviceId = 'dev-1'", by=SYSTEM)
    for _, task in list(bench.hubs.jobs._runs.values()):
        await task
    await bench.audit_log.write()
    await bench.settled()


async def send_commands(bench: Workbench) -> None:
    """One that was removed, of which its sender wants to hear, and one that waits."""
    hub, commands = bench.made.hub, bench.hubs.commands
    for ack in Ack.FULL, Ack.NONE:
        await commands.purge(hub, "dev-1", by=SYSTEM)
        message = commands.message(b"\x00\xff", {"a": "b"}, {"correlationId": "1"}, ack=ack)
        await commands.send(hub, "dev-1", message)


async def upload_a_ca(bench: Workbench, corporation: Corporation) -> None:
    """One whose owner is to show its key."""
    hub = bench.made.hub
    owner = Owner(ServiceKind.HUB, hub.id, hub.name, hub.namespace_id)
    uploaded = UploadedCertificates(bench.store, bench.bus, bench.clock)
    text = base64.b64encode(corporation.der).decode()
    await uploaded.upload(owner, "corp", text, by=SYSTEM)
    await uploaded.new_code(owner, "corp", if_match=None, by=SYSTEM)


async def bring_a_root(bench: Workbench) -> None:
    """A policy whose CA is of a root of another, and waits to be renewed."""
    namespace = bench.made.namespace
    policy = await bench.policies.create(
        namespace, "plant", subject="Plant 7", bring_your_own_root=True, by=SYSTEM
    )
    made = await bench.policies.get(namespace, policy.name)
    assert made.request is not None
    key, now = generate_key(KeyType.EC_P384), bench.clock.now()
    root = RootProfile(parse_subject("Corp"), timedelta(days=1000)).self_sign(key, now)
    profile = IssuingProfile(
        parse_subject("Plant 7"), timedelta(days=800), root, PkiUrls("http://corp.example", "1")
    )
    request = read_authority_request(made.request.request)
    issuing = profile.issue(key, request.public_key, now)
    await bench.lifecycle.activate(namespace, policy.name, to_pem([issuing, root]), by=SYSTEM)
    await bench.lifecycle.renew(namespace, policy.name, by=SYSTEM)


@pytest.fixture
async def lived_in(tmp_path: Path) -> Path:
    """The folder of a database with rows in every table."""
    folder = tmp_path / "data"
    async with Workbench.opened(folder) as bench:
        await live_in(bench)
    return folder


@pytest.fixture
def engine(lived_in: Path) -> Iterator[Engine]:
    made = database.engine_of(lived_in)
    yield made
    made.dispose()


def contents(engine: Engine) -> Rows:
    """Every row of every table, by the names of columns."""
    found: Rows = {}
    with engine.connect() as connection:
        for table in sorted(set(inspect(connection).get_table_names()) - {"alembic_version"}):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}")
            found[table] = sorted((dict(row) for row in rows.mappings()), key=str)
    return found


def assert_is_empty(engine: Engine) -> None:
    """Every table is there; the one row that there is, a migration made."""
    found = contents(engine)
    assert set(found) == set(metadata.tables)
    assert [table for table, rows in found.items() if rows] == ["configuration"]


def within(rows: Rows, room: Rows) -> Rows:
    """The part of `rows` that is in columns which `room` has, too."""
    return {
        table: sorted(
            ({name: row[name] for name in row if name in room[table][0]} for row in rows[table]),
            key=str,
        )
        for table in rows
        if room.get(table)
    }


def use_next(monkeypatch: pytest.MonkeyPatch, folder: Path, then: str = "pass") -> None:
    """Makes the program one that has one more migration."""
    folder.mkdir()
    (folder / "next.py").write_text(NEXT.format(head=HEAD, then=then))
    configuration = migrate.configuration
    own = f"{configuration().get_main_option('script_location')}/versions"

    def more() -> Config:
        config = configuration()
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{own}\n{folder}")
        return config

    monkeypatch.setattr(migrate, "configuration", more)


async def test_there_is_something_in_every_table(engine: Engine) -> None:
    found = contents(engine)
    assert set(found) == set(metadata.tables)
    assert [table for table, rows in found.items() if not rows] == []


@pytest.mark.parametrize("revision", REVISIONS)
async def test_data_survives_the_way_down_and_up_again(engine: Engine, revision: str) -> None:
    before = contents(engine)
    migrate.downgrade(engine, revision)
    down = contents(engine)
    assert within(before, down) == within(down, before)
    migrate.upgrade(engine)
    assert migrate.current(engine) == HEAD
    assert within(contents(engine), down) == within(before, down)


async def test_all_the_way_down_leaves_no_table_and_all_the_way_up_makes_them(
    engine: Engine,
) -> None:
    migrate.downgrade(engine, "base")
    assert contents(engine) == {}
    migrate.upgrade(engine)
    assert_is_empty(engine)


@pytest.mark.parametrize("revision", REVISIONS)
async def test_server_on_a_database_of_an_earlier_schema_keeps_what_is_there(
    tmp_path: Path, revision: str
) -> None:
    data = tmp_path / "server"
    async with Fleet.running(data) as fleet:
        certified = await fleet.provision("dev-1")
        before = [device["deviceId"] for device in await fleet.devices()]
    engine = database.engine_of(data)
    migrate.downgrade(engine, revision)
    async with Fleet.running(data) as fleet:
        assert [device["deviceId"] for device in await fleet.devices()] == before
        await (await fleet.connect("dev-1", certified)).close()
    assert migrate.current(engine) == HEAD
    engine.dispose()


# --- a migration that does not exist yet


async def test_data_survives_the_next_migration_and_the_way_back(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(engine)
    use_next(monkeypatch, tmp_path / "versions")
    migrate.upgrade(engine)
    assert migrate.current(engine) == "next"
    assert within(contents(engine), before) == before
    migrate.downgrade(engine, str(HEAD))
    assert contents(engine) == before


async def test_server_of_the_next_schema_upgrades_the_database_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "server"
    async with Fleet.running(data) as fleet:
        certified = await fleet.provision("dev-1")
    use_next(monkeypatch, tmp_path / "versions")
    async with Fleet.running(data) as fleet:
        await (await fleet.connect("dev-1", certified)).close()
    assert database.rows(data, "SELECT version_num FROM alembic_version") == [("next",)]


@pytest.mark.parametrize("way", ["up", "down"])
async def test_migration_that_fails_half_way_leaves_what_was_there(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "down":
        with monkeypatch.context() as patch:
            use_next(patch, tmp_path / "good")
            migrate.upgrade(engine)
    before, revision = contents(engine), migrate.current(engine)
    use_next(monkeypatch, tmp_path / "versions", then='raise OSError("power is gone")')
    go = partial(migrate.upgrade, engine)
    if way == "down":
        go = partial(migrate.downgrade, engine, str(HEAD))
    with pytest.raises(OSError, match="power is gone"):
        go()
    assert contents(engine) == before
    assert migrate.current(engine) == revision


async def test_database_of_a_newer_program_is_refused_and_left_as_it_is(
    engine: Engine, lived_in: Path
) -> None:
    before = contents(engine)
    database.execute(lived_in, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unavailable, match="at schema 9999, which this program does not know"):
        migrate.upgrade(engine)
    assert contents(engine) == before
    assert migrate.current(engine) == "9999"


def test_two_migrations_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    database.url_of(tmp_path, empty=True)
    engines = [database.engine_of(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(migrate.upgrade, engines))
    assert_is_empty(engines[0])
    for engine in engines:
        engine.dispose()


async def test_certificates_of_before_get_the_enrollment_where_it_is_known(tmp_path: Path) -> None:
    """Which is where the device has not got another generation since."""
    folder = tmp_path / "data"
    async with Workbench.opened(folder) as bench:
        await bench.provision("dev-1")
        await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)
        await bench.provision("dev-1")
        engine = database.engine_of(folder)
        migrate.downgrade(engine, "0005")
        migrate.upgrade(engine)
        engine.dispose()
        after, before = await bench.inventory("dev-1")
        assert after.enrollment == f"{bench.made.service.id}/group/default"
        assert before.enrollment is None


async def test_modules_are_no_devices_of_the_schema_before(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with Workbench.opened(folder) as bench:
        services = IdentityAdministration(bench.store, bench.sealer, bench.bus, bench.clock)
        for module in None, "mod-1":
            await services.create(bench.made.hub, WantedIdentity("dev-1", module), by=SYSTEM)
    engine = database.engine_of(folder)
    migrate.downgrade(engine, "0014")
    migrate.upgrade(engine)
    found = contents(engine)
    engine.dispose()
    [identity] = found["identities"]
    assert identity["device_key"] == "dev-1"
    assert identity["pin_etag"] == identity["etag"]
    assert [twin["device_key"] for twin in found["twins"]] == ["dev-1"]


async def test_policy_that_waits_for_its_ca_keeps_the_schema_from_going_back(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    async with Workbench.opened(folder) as bench:
        await bench.policies.create(
            bench.made.namespace, "plant", bring_your_own_root=True, by=SYSTEM
        )
    engine = database.engine_of(folder)
    before = contents(engine)
    with pytest.raises(ValueError, match="policy plant has no CA"):
        migrate.downgrade(engine, "base")
    assert contents(engine) == before
    engine.dispose()
