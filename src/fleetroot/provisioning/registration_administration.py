"""The operator's side of registrations: what became of devices, by the records that they left."""

from __future__ import annotations

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import EnrollmentNotFound, RegistrationNotFound
from fleetroot.ids import canonical
from fleetroot.provisioning import enrollments, pending, registrations
from fleetroot.provisioning.model import EnrollmentKind, Registration, Service
from fleetroot.registry import etags
from fleetroot.storage import Store, Transaction


class RegistrationAdministration:
    """Registrations, for operators."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def get(self, service: Service, registration_id: str) -> Registration:
        """The registration of that id.

        Raises:
            RegistrationNotFound: there is none.
        """
        return await self._store.read(lambda tx: _get(tx, service, registration_id))

    async def page(
        self, service: Service, group_id: str, *, after: str, limit: int
    ) -> tuple[list[Registration], str | None]:
        """Registrations under an enrollment group in the order of their keys: up to `limit` behind
        `after`, and behind which key there are more.

        Raises:
            EnrollmentNotFound: there is no such group, nor one that left registrations.
        """

        def read(tx: Transaction) -> list[Registration]:
            found = registrations.page_of_group(
                tx, service.id, group_id, after=after, limit=limit + 1
            )
            if not found and not after:
                group = enrollments.find(tx, service.id, EnrollmentKind.GROUP, group_id)
                if group is None:
                    raise EnrollmentNotFound("Enrollment group not found")
            return found

        found = await self._store.read(read)
        shown = found[:limit]
        return shown, canonical(shown[-1].registration_id) if len(found) > limit else None

    async def delete(
        self, service: Service, registration_id: str, if_match: str | None = None, *, by: Actor
    ) -> None:
        """Forgets a registration. Its device keeps its hub identity and certificates; when it comes
        again, it is assigned as if for the first time.

        Raises:
            RegistrationNotFound: there is none.
            EtagMismatch: `if_match` names another version.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = _get(tx, service, registration_id)
            etags.check(if_match, there.etag)
            registrations.remove(tx, there)
            pending.remove(tx, service.id, there.registration_id)
            audit.append(
                tx,
                Entry(
                    now,
                    by,
                    Action.DELETE_REGISTRATION,
                    f"registration/{there.registration_id}",
                    service.namespace_id,
                    details={"provisioningService": service.name, "device": there.device_id},
                ),
            )

        await self._store.write(unit)


def _get(tx: Transaction, service: Service, registration_id: str) -> Registration:
    found = registrations.find(tx, service.id, registration_id)
    if found is None:
        raise RegistrationNotFound("Registration not found")
    return found
