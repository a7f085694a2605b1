"""The room's face: hubs and their devices' sessions, and what an operator asks of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final, TypeAlias
from uuid import uuid4

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import InvalidArgument, NotFound, Throttled, Unauthorized, Unavailable
from fleetroot.hub import (
    administration,
    events,
    hubs,
    requests,
    sessions,
    standing,
    subscriptions,
    timeline,
    trusted,
    twins,
)
from fleetroot.hub.alerts import Alerts, NeverIssued
from fleetroot.hub.announced import reported
from fleetroot.hub.authentication import Authentication, CertificateExpired
from fleetroot.hub.commands import CommandRules, Commands
from fleetroot.hub.connections import Connections
from fleetroot.hub.device_access import DeviceAccess
from fleetroot.hub.event_log import EventLog
from fleetroot.hub.expirations import Expirations
from fleetroot.hub.jobs import JobRules, Jobs
from fleetroot.hub.live import Arrival, LiveSession, LiveTable
from fleetroot.hub.methods import MethodRules, Methods
from fleetroot.hub.model import (
    CertificateProof,
    Channel,
    Connection,
    Ending,
    Event,
    Hub,
    Message,
    Principal,
    Proof,
    Twin,
)
from fleetroot.hub.queries import Queries, QueryRules
from fleetroot.hub.renewal import Renewal
from fleetroot.hub.service_twins import ServiceTwins
from fleetroot.hub.sessions import Beginning, Beginnings, Begun, Departures
from fleetroot.ids import canonical, check_name
from fleetroot.pace import Pace
from fleetroot.registry import announcements, inventory, outbox, shared_access
from fleetroot.registry.announcements import ALL_KINDS, GROUPS, EventKind
from fleetroot.registry.certificate_limit import CertificateLimit
from fleetroot.registry.issuance import Issuance
from fleetroot.registry.model import Namespace
from fleetroot.registry.outbox import OutboxReader
from fleetroot.registry.service_resources import Description
from fleetroot.storage import Store, Transaction

MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_PAGE: Final = 1000
_SWEEPS: Final = 16  # while the event log's whole size is written once
_BETWEEN_LOOKS: Final = 0.1  # seconds, for a caller who waits for events
_LOST_GROUND: Final = frozenset(
    {
        Ending.REVOKED,
        Ending.DISABLED,
        Ending.IDENTITY_CHANGED,
        Ending.CA_DISTRUSTED,
        Ending.CREDENTIAL_EXPIRED,
    }
)

_Place: TypeAlias = tuple[str, str]  # canonical: a hub's host name, and a device id


class Hubs:
    """All hubs of this server."""

    def __init__(
        self,
        store: Store,
        issuance: Issuance,
        sealer: Sealer,
        outbox: OutboxReader,
        clock: Clock,
        retention: events.Retention | None = None,
        pace: Pace[_Place] | None = None,
        on_alert: Callable[[str], None] = lambda _kind: None,
        certificates: CertificateLimit | None = None,
        command_rules: CommandRules | None = None,
        method_rules: MethodRules | None = None,
        on_method: Callable[[str, float], None] = lambda _outcome, _seconds: None,
        job_rules: JobRules | None = None,
        query_rules: QueryRules | None = None,
        *,
        end_with_certificate: bool = True,
    ) -> None:
        self._retention = retention or events.Retention()
        self._stopping = False
        self._unswept = 0  # bytes that were logged since old events were removed
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._authentication = Authentication(sealer)
        self._outbox = outbox
        self._hub_of_host: dict[str, Hub] = {}
        self._departures = Departures(store)
        self._beginnings = Beginnings(store, self._departures)
        # Of connects, by hub and device; counted once the device has proved who it is, or a
        # stranger could make it wait by using its name.
        self._pace = pace or Pace(1.0, 30, clock.monotonic)
        self._appended = asyncio.Event()
        self.event_log = EventLog(store, self._tell_appended)
        self._connections = Connections(store)
        self._alerts = Alerts(store, clock, on_alert)
        self.live = LiveTable(store)
        limit = certificates or CertificateLimit(Pace(0.2, 60, clock.monotonic))
        self.renewal = Renewal(store, issuance, self.live, clock, limit)
        self.commands = Commands(store, self.live, clock, command_rules)
        self.methods = Methods(store, self.live, method_rules, on_method)
        self.twins = ServiceTwins(store, self.live, clock)
        self.queries = Queries(store, clock, query_rules)
        self.jobs = Jobs(store, self.methods, self.twins, self.queries, clock, job_rules)
        self.device_access = DeviceAccess(store, self._authentication, self._alerts, outbox, clock)
        self._expirations = Expirations(self.live, clock, of_certificates=end_with_certificate)
        outbox.listen(self.live.heard, self.live.lease_lost)

    async def start(self) -> None:
        """Clears what the last run of this only node left behind."""
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            sessions.none_connected(tx, now)
            requests.remove_interrupted(tx)

        await self._store.write(unit)

    # --- hubs

    async def create(
        self, namespace: Namespace, name: str, host_name: str, *, by: Actor = SYSTEM
    ) -> Hub:
        """Creates a hub with shared access policies of its own; it trusts nobody yet.

        Raises:
            InvalidArgument: the name is not one.
        """
        check_name(name, "hub")
        hub = Hub(str(uuid4()), namespace.id, name, canonical(host_name), self._clock.now())
        said = Description.within(namespace)
        await self._store.write(lambda tx: administration.insert(tx, self._sealer, hub, said, by))
        return hub

    async def synchronize(self, namespace: Namespace, *, by: Actor = SYSTEM) -> int:
        """Pushes the issuing CAs of the namespace's policies to its hubs; how many were new."""
        now = self._clock.now()

        def unit(tx: Transaction) -> int:
            new = sum(hubs.synchronize(tx, hub, now) for hub in hubs.of_namespace(tx, namespace.id))
            about = f"namespace/{namespace.name}"
            details = {"new": new}
            entry = Entry(now, by, Action.SYNCHRONIZE, about, namespace.id, details=details)
            audit.append(tx, entry)
            return new

        return await self._store.write(unit)

    async def distrust(self, hub: Hub, authority_id: str, *, by: Actor) -> None:
        """Takes an issuing CA from what the hub trusts; live connections by it end. The next
        synchronization of a policy that lives brings it back.

        Raises:
            NotFound: the hub does not trust it.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            if not hubs.distrust(tx, hub, authority_id):
                raise NotFound(f"the hub does not trust a CA {authority_id}")
            outbox.append(
                tx,
                outbox.Kind.ISSUER_DISTRUSTED,
                namespace_id=hub.namespace_id,
                subject=authority_id,
                now=now,
            )
            details = {"issuingAuthority": authority_id}
            about = f"hub/{hub.name}"
            entry = Entry(now, by, Action.DISTRUST_ISSUER, about, hub.namespace_id, details=details)
            audit.append(tx, entry)

        await self._store.write(unit)
        self._outbox.hint()

    async def trusted_authorities(self, hub: Hub) -> list[trusted.TrustedAuthority]:
        """The issuing CAs that the hub trusts, oldest first."""
        return await self._store.read(lambda tx: trusted.of_hub(tx, hub.id))

    async def of_namespace(self, namespace: Namespace) -> list[Hub]:
        """The namespace's hubs, by name."""
        return await self._store.read(lambda tx: hubs.of_namespace(tx, namespace.id))

    async def host_names(self) -> list[str]:
        """The host names of all hubs."""
        return await self._store.read(hubs.host_names)

    async def by_name(self, name: str) -> Hub:
        """The hub of that name.

        Raises:
            NotFound: there is none.
        """
        hub = await self._store.read(lambda tx: hubs.by_name(tx, name))
        if hub is None:
            raise NotFound(f"there is no hub {name}")
        return hub

    async def standing(self, namespace: Namespace, device_id: str) -> standing.DeviceStanding:
        """How a device stands on the namespace's hubs, whether it is known or not."""
        now = self._clock.now()
        return await self._store.read(lambda tx: standing.read(tx, namespace.id, device_id, now))

    async def timeline(
        self,
        namespace: Namespace,
        device_id: str,
        *,
        before: timeline.Place | None = None,
        limit: int = 100,
    ) -> tuple[list[timeline.Moment], timeline.Place | None]:
        """Up to `limit` of what became of a device before a place, newest first, and the place to
        go on from; None: nothing was before.

        Raises:
            NotFound: nothing was ever heard of a device of that id.
        """
        at, most = before or timeline.NEWEST, min(limit, MAX_PAGE)
        return await self._store.read(
            lambda tx: timeline.page(tx, namespace.id, device_id, at, most)
        )

    async def shared_access_policy(
        self, hub: Hub, name: str
    ) -> shared_access.SharedAccessPolicy | None:
        """The hub's shared access policy of that name."""
        return await self._store.read(lambda tx: shared_access.find(tx, self._sealer, hub.id, name))

    # --- sessions

    async def connect(
        self,
        host_name: str,
        device_id: str,
        proof: Proof | None,
        connection: Connection,
        *,
        clean_session: bool,
    ) -> tuple[LiveSession, bool]:
        """Lets a device in. Returns its session, and whether it resumes an earlier one.

        Raises:
            Unauthorized: the device is not let in.
            Throttled: it is, and it connects too often.
            Unavailable: the database cannot answer now.
        """
        if not self._outbox.has_lease:
            raise Unavailable("the hub cannot tell who was revoked", retry_after=5)
        place = (canonical(host_name), canonical(device_id))
        with self.live.arriving(place[1]) as arrival:
            begun = None
            if isinstance(proof, CertificateProof) and not self._pace.is_spent(place):
                begun = await self._begin_by_certificate(arrival, place, proof, clean_session)
            if begun is None:
                try:
                    begun = await self._begin_after_a_look(arrival, place, proof, clean_session)
                except NeverIssued as refused:
                    await self._alerts.certificate_unknown(
                        refused.shown, connection.peer, connection.trace_id
                    )
                    raise
            session = LiveSession(begun, connection, persistent=not clean_session)
            self.live.enter(session)
        try:
            if arrival.noticed:
                await self.live.hold_against_database([session])
            if session.ended is not None:
                raise Unauthorized(f"ended while connecting: {session.ended.value}")
            if not self._pace.take(place):
                raise _too_often()
        except BaseException:
            self.disconnect(session)
            raise
        self._expirations.entered(session)
        self.event_log.announced()
        self._connections.add(
            session.principal, session.epoch, session.since, connection.peer, connection.trace_id
        )
        return session, bool(session.subscriptions)

    async def _begin_by_certificate(
        self, arrival: Arrival, place: _Place, proof: CertificateProof, clean_session: bool
    ) -> Begun | None:
        """Lets a device in by the one statement; None if that does not."""
        hub = await self._hub_of(place[0])
        if hub is None:
            return None
        now = self._clock.now()
        beginning = Beginning(
            hub, place[1], proof, now, not clean_session, lambda: arrival.ended is not None
        )
        return await self._begun(arrival, self._beginnings.add(beginning))

    async def _begin_after_a_look(
        self, arrival: Arrival, place: _Place, proof: Proof | None, clean_session: bool
    ) -> Begun:
        """Reads whether a device is let in, and why not, before a unit of work does it again and
        begins its session: strangers do not occupy the writer.
        """
        now = self._clock.now()

        def authenticate(tx: Transaction, before: Principal | None = None) -> Principal:
            hub = hubs.by_host_name(tx, place[0])
            if hub is None:
                raise Unauthorized("no such hub")
            return self._authentication.authenticate(tx, hub, place[1], proof, now, before)

        try:
            principal = await self._store.read(authenticate)
        except CertificateExpired as expired:
            # Durable before the device hears it, so that it stays so whatever the clock does.
            fingerprint = expired.sha256
            await self._store.write(lambda tx: inventory.mark_one_expired(tx, fingerprint, now))
            raise
        if self._pace.is_spent(place):
            raise _too_often()
        self._hub_of_host[place[0]] = principal.hub

        def unit(tx: Transaction) -> Begun | None:
            if arrival.ended is not None:
                return None
            found = authenticate(tx, principal)
            return sessions.begin(tx, found, now, persistent=not clean_session)

        begun = await self._begun(arrival, asyncio.ensure_future(self._store.write(unit)))
        assert begun is not None  # noqa: S101 - the unit says why, or nobody waits
        return begun

    async def _begun(
        self, arrival: Arrival, beginning: asyncio.Future[Begun | None]
    ) -> Begun | None:
        """A session that has begun; one that nobody wants any more is ended.

        Raises:
            Unauthorized: the hub let nobody in meanwhile.
            Unavailable: the database cannot answer now.
        """
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:  # and it may begin all the same
            arrival.ended = Ending.GONE
            beginning.add_done_callback(self._end_unwanted)
            raise
        if arrival.ended is not None:
            self._end_unwanted(beginning)
            raise Unauthorized(f"ended while connecting: {arrival.ended.value}")
        return begun

    def _end_unwanted(self, beginning: asyncio.Future[Begun | None]) -> None:
        if not beginning.cancelled() and beginning.exception() is None:
            begun = beginning.result()
            if begun is not None:
                self._departures.add(begun.principal, begun.epoch, self._clock.now())

    async def _hub_of(self, host_name: str) -> Hub | None:
        """The hub of a canonical host name. What stood there once is used without a look, because
        the statement that begins a session holds it against the table.
        """
        if host_name not in self._hub_of_host:
            hub = await self._store.read(lambda tx: hubs.by_host_name(tx, host_name))
            if hub is None:
                return None
            self._hub_of_host[host_name] = hub
        return self._hub_of_host[host_name]

    def go_on(self, session: LiveSession) -> None:
        """Sends what waits for a device whose connection takes more again."""
        self.commands.deliveries.go_on(session)
        self.twins.go_on(session)
        self.methods.go_on(session)

    def disconnect(self, session: LiveSession) -> None:
        """Takes a session whose connection is over out of the live table."""
        self.live.leave(session)
        self.commands.left(session)
        self.methods.left(session)
        self.twins.left(session)
        self._expirations.left(session)
        self._departures.add(session.principal, session.epoch, self._clock.now())

    async def end_expired(self) -> None:
        """To be called once a minute, for sessions whose proof ends soon, or is over by a clock
        that was set forward.
        """
        await self._expirations.look()

    async def subscribe(self, session: LiveSession, granted: dict[Channel, int]) -> None:
        """Adds to what the device listens to; with a persistent session, for good.

        Raises:
            Unauthorized: a newer session has taken this one's place.
        """
        principal = session.principal

        def unit(tx: Transaction) -> None:
            _check_held(tx, session)
            subscriptions.save(tx, principal.hub.id, principal.device_key, granted)

        if session.persistent and granted:
            await self._store.write(unit)
        session.subscriptions.update(granted)

    async def unsubscribe(self, session: LiveSession, channels: Iterable[Channel]) -> None:
        """Takes away from what the device listens to.

        Raises:
            Unauthorized: a newer session has taken this one's place.
        """
        principal, gone = session.principal, tuple(channels)

        def unit(tx: Transaction) -> None:
            _check_held(tx, session)
            subscriptions.remove(tx, principal.hub.id, principal.device_key, gone)

        if session.persistent:
            await self._store.write(unit)
        for channel in gone:
            session.subscriptions.pop(channel, None)

    # --- messages

    async def send(self, session: LiveSession, message: Message) -> None:
        """Appends a device's message to the event log; when this returns it is durable.

        Raises:
            InvalidArgument: it is too large.
        """
        _check_standing(session)
        await self.log(session.principal, message)

    async def log(self, sender: Principal, message: Message) -> None:
        """The same for a device that proved who it is with this request."""
        if len(message.body) > MAX_MESSAGE_BYTES:
            raise InvalidArgument(f"a message is at most {MAX_MESSAGE_BYTES} bytes")
        now = self._clock.now()
        await self.event_log.append(sender, message, now)
        self._unswept += events.size_of(message)
        if self._unswept > self._retention.size // _SWEEPS:
            # Not only once a minute: a few devices can write gigabytes in one.
            await self.remove_old_events()

    def _tell_appended(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()

    async def events(
        self,
        hub: Hub,
        *,
        after: int | None,
        device_id: str | None = None,
        kinds: frozenset[EventKind] = GROUPS["telemetry"],
        limit: int = 100,
        wait: timedelta = timedelta(0),
    ) -> tuple[int, list[Event]]:
        """Up to `limit` events behind the sequence number `after` (None: from now on), and the
        number to go on from. Where there are none, waits up to `wait` for one.

        Who waits for one device looks at what the others send neither twice nor at every message.
        """
        deadline = self._clock.monotonic() + wait.total_seconds()
        start = await self._store.read(
            lambda tx: events.last_seq(tx, hub.id) if after is None else after
        )

        def read(tx: Transaction) -> tuple[int, list[Event], int]:
            of, most, last = device_id, min(limit, MAX_PAGE), events.last_seq(tx, hub.id)
            if kinds != ALL_KINDS:
                looked = events.after_of_kinds(tx, hub.id, start, kinds, device_id=of, limit=most)
                return *looked, last
            found = events.after(tx, hub.id, start, device_id=of, limit=most)
            return (found[-1].seq if found else max(start, last)), found, last

        while True:
            appended = self._appended  # before the read, so that nothing falls in between
            start, found, last = await self._store.read(read)
            if not found and start < last:
                continue  # it looked at a part only
            left = deadline - self._clock.monotonic()
            if found or left <= 0 or self._stopping:
                return start, found
            try:
                async with asyncio.timeout(left):
                    await asyncio.sleep(_BETWEEN_LOOKS)
                    await appended.wait()
            except TimeoutError:
                continue

    async def newest_events(
        self,
        hub: Hub,
        *,
        device_id: str | None = None,
        kinds: frozenset[EventKind] = GROUPS["telemetry"],
        limit: int,
    ) -> tuple[int, list[Event]]:
        """The newest events, at most `limit`, oldest first, and the number to go on from."""

        def read(tx: Transaction) -> tuple[int, list[Event]]:
            of, most = device_id, min(limit, MAX_PAGE)
            if kinds == ALL_KINDS:
                found = events.newest(tx, hub.id, device_id=of, limit=most)
            else:
                found = events.newest_of_kinds(tx, hub.id, kinds, device_id=of, limit=most)
            return events.last_seq(tx, hub.id), found

        return await self._store.read(read)

    async def remove_old_events(self) -> None:
        """Removes what the event log is not to keep."""
        now, self._unswept = self._clock.now(), 0
        while await self._store.write(lambda tx: events.remove_some(tx, self._retention, now)):
            await asyncio.sleep(0)

    # --- twins

    async def twin(self, session: LiveSession) -> Twin:
        """The device's twin.

        Raises:
            NotFound: it has none.
        """
        principal = session.principal
        twin = await self._store.read(
            lambda tx: twins.find(tx, principal.hub.id, principal.device_key)
        )
        if twin is None:
            raise NotFound("the device has no twin")
        return twin

    def note_model(self, session: LiveSession, model_id: str) -> None:
        """Keeps which model (a DTMI) the device says that it implements."""
        principal = session.principal
        self._store.submit(
            lambda tx: twins.set_model(tx, principal.hub.id, principal.device_key, model_id)
        )

    async def report(self, session: LiveSession, patch: bytes) -> int:
        """Merges a patch (JSON) into the device's reported properties; their new version, durable.

        Raises:
            MalformedJson: it is not JSON.
            InvalidArgument: it breaks a rule of twins.
        """
        _check_standing(session)
        principal, now = session.principal, self._clock.now()
        parsed = twins.parse_patch(patch)

        def unit(tx: Transaction) -> int:
            _check_held(tx, session)
            version = twins.report(tx, principal.hub.id, principal.device_key, parsed, now)
            announcements.append(tx, reported(principal, version, patch, now))
            return version

        version = await self._store.write(unit)
        self.event_log.announced()
        return version

    @property
    def is_stopping(self) -> bool:
        """Whether the server stops, and nobody may wait for events any more."""
        return self._stopping

    def stop_waiting(self) -> None:
        """Answers who waits for events, now and from now on at once; the server stops."""
        self._stopping = True
        self.commands.deliveries.stop()
        self.methods.stop()
        self._appended.set()

    def stop(self) -> None:
        """Ends every session."""
        self.live.end_all(Ending.SHUTDOWN)

    def finish(self) -> None:
        """Hands over what is still to be written, when nobody is connected any more."""
        self.commands.finish_all()
        self._departures.flush()
        self._connections.flush()


def _too_often() -> Throttled:
    return Throttled("device connects too often", retry_after=1)


def _check_standing(session: LiveSession) -> None:
    """What a device asked for before it lost its ground is not done after it.

    Raises:
        Unauthorized: the session was ended because the device may not be here any more.
    """
    if session.ended in _LOST_GROUND:
        raise Unauthorized(f"session ended: {session.ended}")


def _check_held(tx: Transaction, session: LiveSession) -> None:
    """The fence: a session that lost its place changes nothing of the device any more.

    Raises:
        Unauthorized: a newer session has begun.
    """
    if not sessions.is_held(tx, session.principal, session.epoch):
        raise Unauthorized("session replaced")
