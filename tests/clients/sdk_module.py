"""A module on the unmodified `azure-iot-device` SDK, by a connection string with `ModuleId`: it
sends messages, reports, answers every direct method with its payload, and prints its twin and then
each change of its desired properties, as JSON, a line each, until stdin ends. Its order comes as
the first line of stdin.
"""

import asyncio
import json
import sys

from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubModuleClient


def show(said):
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def main():
    order = json.loads(sys.stdin.readline())
    client = IoTHubModuleClient.create_from_connection_string(
        order["connectionString"],
        server_verification_cert=order["ca"],
        websockets=order["websockets"],
    )
    client.on_twin_desired_properties_patch_received = show
    client.on_message_received = show

    async def called(request):
        await client.send_method_response(MethodResponse(request.request_id, 201, request.payload))

    client.on_method_request_received = called
    await client.connect()
    message = Message("1")
    message.custom_properties["colour"] = "a/b & c=d"
    await client.send_message(message)
    await client.send_message_to_output("2", "out")
    await client.patch_twin_reported_properties({"firmware": "1.2"})
    show(await client.get_twin())
    await asyncio.to_thread(sys.stdin.read)
    await client.shutdown()


asyncio.run(main())
