"""What devices with good credentials do to their hub, and services to its API, by mistake or ill
will: each attack does it once, and says how it was refused.

What is answered ends in the answer's status; what MQTT has no answer
for ends in `cut`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from attacks import AT_ITS_PACE, Armory, Attack, Once, until_cut

from devices import Place, connect
from fleet import Mqtt, Refused
from fleetroot.gateway.mqtt import Connect, Packet, Publish, Subscribe, Will, encode

INSIDERS: dict[str, Attack] = {}
AT_ONCE = 7  # devices of each attack: some hundred in all
_TWIN_ANSWERS = "$iothub/twin/res/#"
_REPORT = "$iothub/twin/PATCH/properties/reported/?$rid=1"
_SECONDS = 20.0


def insider(
    refused: str = "cut",
) -> Callable[[Callable[[Mqtt, str, int], Awaitable[str]]], Once]:
    """Makes an attack of what a connected device does."""

    def register(act: Callable[[Mqtt, str, int], Awaitable[str]]) -> Once:
        name = act.__name__.replace("_", " ")

        async def once(place: Place, armory: Armory, number: int) -> str:
            device = f"ill-{name.replace(' ', '-')}-{number % AT_ONCE}"
            try:
                mqtt = await connect(place, await armory.insider(place, device), device)
            except Refused as refusal:
                return refusal.code.name.lower().replace("_", " ")
            try:
                async with asyncio.timeout(_SECONDS):
                    return await act(mqtt, device, number)
            finally:
                mqtt.writer.transport.abort()

        words = frozenset(refused.split("|"))
        # Two that do it side by side may be the same device at the time, of which one is replaced.
        allowed = frozenset({AT_ITS_PACE, "cut"})
        INSIDERS[name] = Attack(name, once, words, allowed, (), at_once=AT_ONCE)
        return once

    return register


def service(
    refused: str,
) -> Callable[[Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]], Once]:
    """Makes an attack of what a service with good credentials asks."""

    def register(act: Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]) -> Once:
        async def once(place: Place, armory: Armory, number: int) -> str:
            answer = await act(_client(place, armory), number)
            return str(answer.status_code)

        name = act.__name__.replace("_", " ")
        INSIDERS[name] = Attack(
            name, once, frozenset(refused.split("|")), frozenset(), (), at_once=1
        )
        return once

    return register


_clients: dict[str, httpx.AsyncClient] = {}


def _client(place: Place, armory: Armory) -> httpx.AsyncClient:
    """An operator's, from the attack's address."""
    if place.source not in _clients:
        trust = ssl.create_default_context(cafile=armory.bootstrap["serverCaFile"])
        transport = httpx.AsyncHTTPTransport(verify=trust, local_address=place.source)
        _clients[place.source] = httpx.AsyncClient(
            transport=transport,
            base_url="https://{}:{}".format(*place.https),
            headers={"authorization": f"Bearer {armory.bootstrap['adminToken']}"},
            timeout=60,
        )
    return _clients[place.source]


async def _say(mqtt: Mqtt, *packets: Packet | bytes) -> str:
    mqtt.writer.write(b"".join(p if isinstance(p, bytes) else encode(p) for p in packets))
    return await until_cut(mqtt.reader)


async def _report(mqtt: Mqtt, body: bytes) -> str:
    await mqtt.subscribe(_TWIN_ANSWERS)
    return str((await mqtt.answer_to(_REPORT, body)).status)


# --- topics, encodings, sizes, counts


@insider()
async def malformed_property_bag(mqtt: Mqtt, device: str, _number: int) -> str:
    return await _say(mqtt, Publish(f"devices/{device}/messages/events/a=%zz", b"x"))


@insider()
async def topic_of_another(mqtt: Mqtt, _device: str, _number: int) -> str:
    return await _say(mqtt, Publish("devices/honest-1/messages/events/", b"not mine"))


@insider()
async def wildcard_in_a_topic(mqtt: Mqtt, device: str, _number: int) -> str:
    topic = f"devices/{device}/messages/events/#".encode()
    body = len(topic).to_bytes(2, "big") + topic + b"x"
    return await _say(mqtt, bytes([0x30, len(body)]) + body)


@insider()
async def message_of_a_megabyte(mqtt: Mqtt, device: str, _number: int) -> str:
    return await _say(mqtt, encode(Publish(f"devices/{device}/messages/events/", bytes(2**20))))


@insider()
async def hundreds_of_filters(mqtt: Mqtt, _device: str, _number: int) -> str:
    return await _say(mqtt, Subscribe(1, (("$iothub/twin/res/#", 0),) * 300))


@insider()
async def exactly_once(mqtt: Mqtt, device: str, _number: int) -> str:
    return await _say(mqtt, Publish(f"devices/{device}/messages/events/", b"", 2, False, False, 1))


@insider()
async def second_connect(mqtt: Mqtt, device: str, _number: int) -> str:
    will = Will(f"devices/{device}/messages/events/", b"dead")
    return await _say(mqtt, Connect(device, username="x", will=will))


# --- twins and certificates


@insider(refused="400")
async def patch_that_is_not_json(mqtt: Mqtt, _device: str, _number: int) -> str:
    return await _report(mqtt, b'{"a":')


@insider(refused="400")
async def patch_of_deep_brackets(mqtt: Mqtt, _device: str, _number: int) -> str:
    return await _report(mqtt, b'{"a":' * 50_000)


@insider(refused="400")
async def patch_that_is_too_large(mqtt: Mqtt, _device: str, _number: int) -> str:
    return await _report(mqtt, json.dumps({f"k{n}": "x" * 4000 for n in range(60)}).encode())


@insider(refused="400")
async def patch_of_punctuation(mqtt: Mqtt, _device: str, number: int) -> str:
    """Weighs nothing by the measure of twins; until its section is full, it is taken."""
    answer = "204"
    for turn in range(20):
        if answer != "204":
            break
        body = {f"k{number}-{turn}": [[]] * 30_000}
        answer = await _report(mqtt, json.dumps(body, separators=(",", ":")).encode())
    await _report(mqtt, json.dumps({f"k{number}-{turn}": None for turn in range(20)}).encode())
    return answer


@insider(refused="answered")
async def thousand_requests_at_once(mqtt: Mqtt, _device: str, _number: int) -> str:
    await mqtt.subscribe(_TWIN_ANSWERS)
    ask = encode(Publish("$iothub/twin/GET/?$rid=1", b""))
    mqtt.writer.write(ask * 1000)
    for _ in range(1000):
        await mqtt.answer()
    return "answered"


@insider(refused="400")
async def certificate_request_of_garbage(mqtt: Mqtt, device: str, _number: int) -> str:
    await mqtt.subscribe("$iothub/credentials/res/#")
    body = json.dumps({"id": device, "csr": base64.b64encode(bytes(900)).decode()}).encode()
    answer = await mqtt.answer_to("$iothub/credentials/POST/issueCertificate/?$rid=1", body)
    while answer.status == 202:
        answer = await mqtt.answer()
    return str(answer.status) if answer.status != 429 else "400"


@insider(refused="served on")
async def answers_to_methods_that_nobody_called(mqtt: Mqtt, _device: str, number: int) -> str:
    await mqtt.subscribe(_TWIN_ANSWERS)
    for turn in range(20):
        await mqtt.publish(f"$iothub/methods/res/200/?$rid={number}{turn}", bytes(1000), qos=0)
    answer = await mqtt.answer_to("$iothub/twin/GET/?$rid=1")
    return "served on" if answer.status == 200 else str(answer.status)


@insider(refused="left unread")
async def twin_that_is_never_read(mqtt: Mqtt, _device: str, _number: int) -> str:
    await mqtt.subscribe(_TWIN_ANSWERS)
    mqtt.writer.transport.pause_reading()
    ask = encode(Publish("$iothub/twin/GET/?$rid=1", b"")) * 500
    try:
        async with asyncio.timeout(1):
            while True:
                mqtt.writer.write(ask)
                await mqtt.writer.drain()
    except TimeoutError:
        return "left unread"


# --- services


@service(refused="400")
async def twin_change_of_garbage(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.patch(
        f"/twins/ill-patch-that-is-not-json-{number % AT_ONCE}", content=b'{"tags":{"a":['
    )


@service(refused="400")
async def twin_change_over_its_limit(client: httpx.AsyncClient, number: int) -> httpx.Response:
    tags: dict[str, Any] = {f"k{n}": "x" * 4000 for n in range(3)}
    return await client.patch(
        f"/twins/ill-patch-that-is-not-json-{number % AT_ONCE}", json={"tags": tags}
    )


@service(refused="202|403|404")
async def message_to_who_never_acknowledges(
    client: httpx.AsyncClient, number: int
) -> httpx.Response:
    return await client.post(
        f"/devices/ill-patch-that-is-not-json-{number % AT_ONCE}/messages/deviceBound",
        content=bytes(60_000),
    )


@service(refused="404")
async def method_of_who_does_not_listen(client: httpx.AsyncClient, number: int) -> httpx.Response:
    body = {"methodName": "reboot", "payload": "x" * 10_000}
    device = f"ill-patch-that-is-not-json-{number % AT_ONCE}"
    return await client.post(f"/twins/{device}/methods", json=body)


@service(refused="400")
async def query_of_garbage(client: httpx.AsyncClient, _number: int) -> httpx.Response:
    return await client.post("/devices/query", json={"query": "SELECT * FROM " + "(" * 5000})


@service(refused="200|429|504")
async def query_as_heavy_as_it_may_be(client: httpx.AsyncClient, number: int) -> httpx.Response:
    terms = " OR ".join(f"CONTAINS(properties.reported.a{n}, 'x{number}')" for n in range(100))
    query = f"SELECT * FROM devices WHERE {terms} ORDER BY tags.a, tags.b, tags.c, tags.d"
    return await client.post("/devices/query", json={"query": query})


@service(refused="413")
async def message_of_two_megabytes(client: httpx.AsyncClient, _number: int) -> httpx.Response:
    return await client.post(
        "/devices/ill-patch-that-is-not-json-1/messages/deviceBound", content=bytes(2**21)
    )
