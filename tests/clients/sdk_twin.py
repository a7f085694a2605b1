"""A device on the unmodified `azure-iot-device` SDK that reports once, and prints its twin and then
each change of its desired properties, as JSON, a line each, until stdin ends. Its order comes as
the first line of stdin.
"""

import asyncio
import json
import sys

from azure.iot.device.aio import IoTHubDeviceClient


def show(said):
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def main():
    order = json.loads(sys.stdin.readline())
    client = IoTHubDeviceClient.create_from_symmetric_key(
        symmetric_key=order["symmetricKey"],
        hostname=order["hub"],
        device_id=order["deviceId"],
        server_verification_cert=order["ca"],
        websockets=order["websockets"],
        connection_retry_interval=1,
        **({"sastoken_ttl": order["tokenSeconds"]} if "tokenSeconds" in order else {}),
    )
    client.on_twin_desired_properties_patch_received = show
    await client.connect()
    await client.patch_twin_reported_properties({"firmware": "1.2", "old": None})
    show(await client.get_twin())
    await asyncio.to_thread(sys.stdin.read)
    await client.shutdown()


asyncio.run(main())
