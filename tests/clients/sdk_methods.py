"""A device on the unmodified `azure-iot-device` SDK that answers every method with its payload, and
with a status of its own where the name is a number; it prints `ready` once it listens, and works
until stdin ends. Its order comes as the first line of stdin.
"""

import asyncio
import json
import sys

from azure.iot.device import MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient


async def main():
    order = json.loads(sys.stdin.readline())
    client = IoTHubDeviceClient.create_from_symmetric_key(
        symmetric_key=order["symmetricKey"],
        hostname=order["hub"],
        device_id=order["deviceId"],
        server_verification_cert=order["ca"],
        websockets=order["websockets"],
    )

    async def called(request):
        status = int(request.name) if request.name.isdigit() else 200
        payload = {"name": request.name, "got": request.payload}
        answer = MethodResponse.create_from_method_request(request, status, payload)
        await client.send_method_response(answer)

    await client.connect()
    client.on_method_request_received = called
    await asyncio.sleep(0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await client.shutdown()


asyncio.run(main())
