"""Namespaces and their credentials, as operators create, change and delete them.

A namespace is empty when it is made. Its credential is its root CA: made here with its key, or of a
root whose key is kept elsewhere. What is deleted stays in its table for what refers to it, and can
neither be found by name nor used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from uuid import uuid4

from cryptography import x509

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody
from fleetroot.errors import AlreadyExists, Conflict, InvalidArgument
from fleetroot.ids import check_name
from fleetroot.pki import KeyType
from fleetroot.pki.rules import is_signed_by, issuer_problem
from fleetroot.registry import (
    authorities,
    credentials,
    devices,
    etags,
    namespaces,
    policies,
)
from fleetroot.registry.model import (
    DEFAULT_LOCATION,
    DEFAULT_ROOT_NAME,
    Authority,
    Credential,
    Namespace,
)
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

MAX_TAGS: Final = 50
_MAX_TAG_CHARACTERS: Final = 512

Occupied: TypeAlias = Callable[[Transaction, str], bool]  # whether a namespace has something


class NamespaceAdministration:
    """Namespaces and credentials.

    `occupants` are what other rooms may have in a namespace, in words: it cannot be deleted
    before.
    """

    def __init__(
        self,
        store: Store,
        custody: KeyCustody,
        clock: Clock,
        occupants: Mapping[str, Occupied],
    ) -> None:
        self._store = store
        self._custody = custody
        self._clock = clock
        self._occupants = occupants

    # --- namespaces

    async def create(
        self,
        name: str,
        *,
        subscription_id: str,
        resource_group: str,
        pki_url: str | None = None,
        tags: Mapping[str, str] | None = None,
        location: str | None = None,
        by: Actor,
    ) -> Namespace:
        """Creates a namespace; with a `pki_url`, its credential in the same unit of work, as
        `create_credential` does.

        Raises:
            InvalidArgument: the name is not one, or the tags cannot be.
            AlreadyExists: there is one of that name.
        """
        check_name(name, "namespace")
        now = self._clock.now()
        namespace = Namespace(
            id=str(uuid4()),
            name=name,
            subscription_id=subscription_id,
            resource_group=resource_group,
            created_at=now,
            tags=_checked(tags or {}),
            etag=devices.new_etag(),
            updated_at=now,
            location=location or DEFAULT_LOCATION,
        )
        credential = None
        if pki_url is not None:
            root = await self._make_root(namespace, KeyType.EC_P384, pki_url)
            credential = Credential(namespace.id, root, {}, devices.new_etag(), now, now)

        def unit(tx: Transaction) -> None:
            namespaces.insert(tx, namespace)
            entry = Entry(now, by, Action.CREATE_NAMESPACE, f"namespace/{name}", namespace.id)
            audit.append(tx, entry)
            if credential is not None:
                _insert(tx, namespace, credential, by)

        try:
            await self._store.write(unit)
        except ConstraintViolated as error:
            raise AlreadyExists(f"the namespace {name} exists") from error
        return namespace

    async def get(self, name: str) -> Namespace:
        """The namespace of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: namespaces.by_name(tx, name))

    async def by_id(self, namespace_id: str) -> Namespace:
        """The namespace of that id, deleted or not.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: namespaces.get(tx, namespace_id))

    async def list_all(self) -> list[Namespace]:
        """Every namespace, by name."""
        return await self._store.read(namespaces.living)

    async def patch(
        self,
        name: str,
        tags: Mapping[str, str],
        *,
        location: str | None = None,
        if_match: str | None = None,
        by: Actor,
    ) -> Namespace:
        """Replaces the namespace's tags, and its location where one is given.

        Raises:
            NotFound: there is none of that name.
            InvalidArgument: the tags cannot be.
            EtagMismatch: it is not the version that `if_match` names.
        """
        checked, now = _checked(tags), self._clock.now()

        def unit(tx: Transaction) -> Namespace:
            namespace = namespaces.by_name(tx, name)
            etags.check(if_match, namespace.etag)
            namespaces.describe(tx, namespace, checked, location or namespace.location, now)
            audit.append(
                tx,
                Entry(now, by, Action.UPDATE_NAMESPACE, f"namespace/{name}", namespace.id),
            )
            return namespaces.get(tx, namespace.id)

        return await self._store.write(unit)

    async def delete(self, name: str, *, if_match: str | None = None, by: Actor) -> None:
        """Deletes an empty namespace.

        Raises:
            NotFound: there is none of that name.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: it has a credential, policies, hubs or provisioning services.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            namespace = namespaces.by_name(tx, name)
            etags.check(if_match, namespace.etag)
            for what, occupied in self._occupants.items():
                if occupied(tx, namespace.id):
                    raise Conflict(f"the namespace has {what}: delete them first")
            if policies.of_namespace(tx, namespace.id):
                raise Conflict("the namespace has policies: delete them first")
            if credentials.find(tx, namespace.id) is not None:
                raise Conflict("the namespace has a credential: delete it first")
            namespaces.delete(tx, namespace, now)
            audit.append(
                tx,
                Entry(now, by, Action.DELETE_NAMESPACE, f"namespace/{name}", namespace.id),
            )

        await self._store.write(unit)

    # --- credentials

    async def create_credential(
        self,
        namespace: Namespace,
        *,
        key_type: KeyType = KeyType.EC_P384,
        pki_url: str,
        offline_root: x509.Certificate | None = None,
        tags: Mapping[str, str] | None = None,
        root_name: str | None = None,
        by: Actor,
    ) -> Credential:
        """Makes the namespace's root CA; or takes `offline_root`, whose key is kept elsewhere.
        `pki_url` is embedded in every certificate below it for ever. The root can have a name,
        which no policy has then.

        Raises:
            InvalidArgument: the name or the key type is not for a CA, or the offline root cannot be
                a root.
            AlreadyExists: the namespace has a credential, or the root is somebody's already.
        """
        now = self._clock.now()
        if root_name is not None:
            check_name(root_name, "certificate authority")
        if offline_root is not None:
            self._check_root(offline_root)
            root = authorities.offline_root(namespace.id, offline_root, pki_url)
        else:
            root = await self._make_root(namespace, key_type, pki_url)
        credential = Credential(
            namespace.id,
            root,
            _checked(tags or {}),
            devices.new_etag(),
            now,
            now,
            root_name or DEFAULT_ROOT_NAME,
        )

        def unit(tx: Transaction) -> None:
            _insert(tx, namespace, credential, by)

        try:
            await self._store.write(unit)
        except ConstraintViolated as error:
            raise AlreadyExists("the namespace has a credential, or the root is taken") from error
        return credential

    def _check_root(self, certificate: x509.Certificate) -> None:
        problem = issuer_problem(certificate, 1, self._clock.now(), is_anchor=True)
        is_signed = certificate.subject == certificate.issuer and is_signed_by(
            certificate, certificate
        )
        if problem is not None or not is_signed:
            reason = "not_self_signed" if problem is None else problem.value
            raise InvalidArgument(f"the certificate cannot be a root: {reason}", reason=reason)

    async def _make_root(self, namespace: Namespace, key_type: KeyType, pki_url: str) -> Authority:
        if key_type not in authorities.AUTHORITY_KEY_TYPES:
            raise InvalidArgument(f"a CA cannot have a key of type {key_type}")
        return await asyncio.to_thread(
            authorities.make_root,
            self._custody,
            namespace_id=namespace.id,
            name=f"Fleetroot {namespace.name}",
            key_type=key_type,
            pki_url=pki_url,
            now=self._clock.now(),
        )

    async def credential(self, namespace: Namespace) -> Credential:
        """The namespace's credential.

        Raises:
            NotFound: it has none.
        """
        return await self._store.read(lambda tx: credentials.get(tx, namespace.id))

    async def credentials(self, namespace: Namespace) -> list[Credential]:
        """The namespace's credentials: one, or none."""
        found = await self._store.read(lambda tx: credentials.find(tx, namespace.id))
        return [] if found is None else [found]

    async def root_name(self, namespace: Namespace) -> str:
        """What the namespace's root is called among its CAs."""
        found = await self._store.read(lambda tx: credentials.find(tx, namespace.id))
        return DEFAULT_ROOT_NAME if found is None else found.root_name

    async def patch_credential(
        self,
        namespace: Namespace,
        tags: Mapping[str, str],
        *,
        if_match: str | None = None,
        by: Actor,
    ) -> Credential:
        """Replaces the credential's tags.

        Raises:
            NotFound: there is no credential.
            InvalidArgument: the tags cannot be.
            EtagMismatch: it is not the version that `if_match` names.
        """
        checked, now = _checked(tags), self._clock.now()

        def unit(tx: Transaction) -> Credential:
            credential = credentials.get(tx, namespace.id)
            etags.check(if_match, credential.etag)
            credentials.set_tags(tx, credential, checked, now)
            audit.append(
                tx, Entry(now, by, Action.UPDATE_CREDENTIAL, _about(namespace), namespace.id)
            )
            return credentials.get(tx, namespace.id)

        return await self._store.write(unit)

    async def delete_credential(
        self, namespace: Namespace, *, if_match: str | None = None, by: Actor
    ) -> None:
        """Takes the root CA away from the namespace, for good. Its row and key stay for the
        revocation lists of what it signed.

        Raises:
            NotFound: there is no credential.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: there are policies.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            credential = credentials.get(tx, namespace.id)
            etags.check(if_match, credential.etag)
            if policies.of_namespace(tx, namespace.id):
                raise Conflict("the credential has policies: delete them first")
            credentials.remove(tx, namespace.id)
            audit.append(
                tx,
                Entry(
                    now,
                    by,
                    Action.DELETE_CREDENTIAL,
                    _about(namespace),
                    namespace.id,
                    details={"rootAuthority": credential.root.id},
                ),
            )

        await self._store.write(unit)


def _insert(tx: Transaction, namespace: Namespace, credential: Credential, by: Actor) -> None:
    namespaces.get(tx, namespace.id)
    authorities.insert(tx, credential.root, credential.created_at)
    credentials.insert(tx, credential)
    audit.append(
        tx,
        Entry(
            credential.created_at,
            by,
            Action.CREATE_CREDENTIAL,
            _about(namespace),
            namespace.id,
            details={
                "rootAuthority": credential.root.id,
                "offline": credential.root.is_offline,
            },
        ),
    )


def _about(namespace: Namespace) -> str:
    return f"credential/{namespace.name}/{credentials.NAME}"


def _checked(tags: Mapping[str, str]) -> Mapping[str, str]:
    if len(tags) > MAX_TAGS or any(
        not name or len(name) + len(value) > _MAX_TAG_CHARACTERS for name, value in tags.items()
    ):
        raise InvalidArgument(
            f"tags: at most {MAX_TAGS}, each with a name and {_MAX_TAG_CHARACTERS} characters"
        )
    return dict(tags)
