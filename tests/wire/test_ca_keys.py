"""CAs and leaves of every kind of key, over the wire: a device provisions, and is let in.

Devices speak TLS with pyOpenSSL: the OpenSSL of Python's own `ssl` knows no ML-DSA before 3.5.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from fleet import HUB_VERSION, Fleet, Mqtt
from fleetroot.audit import SYSTEM
from fleetroot.gateway.mqtt import Connect
from fleetroot.pki import (
    KeyType,
    PrivateKey,
    certified_key,
    generate_key,
    private_key_to_der,
    signature_hash,
)
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.registry.authorities import AUTHORITY_KEY_TYPES

DEVICE = "dev-1"


@dataclass
class Provisioned:
    key: PrivateKey
    chain: tuple[bytes, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.chain[0])


async def policy_of(fleet: Fleet, authority: KeyType, leaf: KeyType) -> None:
    """Lets the group issue such leaves by such a CA, and the hub trust it."""
    server = fleet.server
    namespace = await server.namespaces.get("default")
    policy = await server.policies.create(
        namespace, "other", authority_key_type=authority, leaf_key_types=[leaf], by=SYSTEM
    )
    await server.hubs.synchronize(namespace)
    await server.administration.put(
        await server.administration.service(),
        EnrollmentKind.GROUP,
        "default",
        EnrollmentSettings(policy_id=policy.id),
        primary_key=fleet.group_key,
        if_match="*",
        by=SYSTEM,
    )


async def provision(fleet: Fleet, leaf: KeyType) -> Provisioned:
    key = generate_key(leaf)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DEVICE)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, signature_hash(key))
    text = base64.b64encode(csr.public_bytes(Encoding.DER)).decode()
    body = json.dumps({"registrationId": DEVICE, "csr": text}).encode()
    async with await fleet.provisioning(DEVICE) as mqtt:
        answer = await mqtt.ask("$dps/registrations/PUT/iotdps-register/", body)
    assert answer.status == 200, answer.body
    chain = answer.body["registrationState"]["issuedCertificateChain"]
    return Provisioned(key, tuple(map(base64.b64decode, chain)))


class TlsStream:
    """A TLS client connection, both its reader and its writer."""

    def __init__(
        self, context: SSL.Context, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader, self._writer = reader, writer
        self._ssl = SSL.Connection(context)
        self._ssl.set_connect_state()
        self._ssl.set_tlsext_host_name(b"localhost")

    async def handshake(self) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except SSL.WantReadError:
                await self._exchange()
            else:
                self._flush()
                return

    async def read(self, size: int) -> bytes:
        while True:
            try:
                return self._ssl.recv(size)
            except SSL.ZeroReturnError:
                return b""
            except SSL.WantReadError:
                await self._exchange()

    def write(self, data: bytes) -> None:
        self._ssl.sendall(data)
        self._flush()

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    async def wait_closed(self) -> None:
        await self._writer.wait_closed()

    def _flush(self) -> None:
        try:
            self._writer.write(self._ssl.bio_read(1 << 20))
        except SSL.WantReadError:
            return

    async def _exchange(self) -> None:
        self._flush()
        received = await self._reader.read(65536)
        if not received:
            raise ConnectionResetError
        self._ssl.bio_write(received)


async def connect(fleet: Fleet, provisioned: Provisioned) -> Mqtt:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(fleet.bootstrap["serverCaFile"])
    context.set_verify(SSL.VERIFY_PEER)
    context.use_certificate(provisioned.leaf)
    # The way of today takes no ML-DSA key.
    key = crypto.load_privatekey(crypto.FILETYPE_ASN1, private_key_to_der(provisioned.key))
    with pytest.warns(DeprecationWarning, match="PKey"):
        context.use_privatekey(key)
    stream = TlsStream(
        context,
        *await asyncio.open_connection(fleet.bootstrap["bind"], fleet.bootstrap["mqttPort"]),
    )
    await stream.handshake()
    mqtt = Mqtt(stream, stream)  # type: ignore[arg-type]
    username = f"{fleet.hub_host}/{DEVICE}/?api-version={HUB_VERSION}"
    await mqtt.connect(Connect(DEVICE, clean_session=True, keep_alive=60, username=username))
    return mqtt


@pytest.mark.parametrize("key_type", sorted(AUTHORITY_KEY_TYPES))
async def test_device_with_an_ec_key_is_let_in_by_a_ca_of_every_key_type(
    fleet: Fleet, key_type: KeyType
) -> None:
    await policy_of(fleet, key_type, KeyType.EC_P256)
    provisioned = await provision(fleet, KeyType.EC_P256)
    issuer = x509.load_der_x509_certificate(provisioned.chain[1])
    assert certified_key(issuer)[1] is key_type
    provisioned.leaf.verify_directly_issued_by(issuer)
    await (await connect(fleet, provisioned)).close()


@pytest.mark.parametrize("leaf", KeyType)
async def test_device_with_a_key_of_every_type_is_let_in_where_the_policy_allows_it(
    fleet: Fleet, leaf: KeyType
) -> None:
    await policy_of(fleet, KeyType.EC_P384, leaf)
    provisioned = await provision(fleet, leaf)
    assert certified_key(provisioned.leaf)[1] is leaf
    await (await connect(fleet, provisioned)).close()


async def test_key_type_that_the_policy_does_not_allow_is_refused(fleet: Fleet) -> None:
    await policy_of(fleet, KeyType.EC_P384, KeyType.RSA_3072)
    with pytest.raises(AssertionError, match="key of type EC-P256 is not allowed"):
        await provision(fleet, KeyType.EC_P256)
