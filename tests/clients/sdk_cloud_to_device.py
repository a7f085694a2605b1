"""A device on the unmodified `azure-iot-device` SDK that prints each cloud-to-device message it
gets, as JSON, a line each, until stdin ends. Its order comes as the first line of stdin.
"""

import asyncio
import json
import sys

from azure.iot.device.aio import IoTHubDeviceClient


def shown(message):
    return {
        "data": message.data.decode(),
        "messageId": message.message_id,
        "correlationId": message.correlation_id,
        "userId": message.user_id,
        "contentType": message.content_type,
        "contentEncoding": message.content_encoding,
        "ack": message.ack,
        "expiry": message.expiry_time_utc,
        "properties": message.custom_properties,
    }


async def main():
    order = json.loads(sys.stdin.readline())
    client = IoTHubDeviceClient.create_from_symmetric_key(
        symmetric_key=order["symmetricKey"],
        hostname=order["hub"],
        device_id=order["deviceId"],
        server_verification_cert=order["ca"],
        websockets=order["websockets"],
    )

    def got(message):
        sys.stdout.write(json.dumps(shown(message)) + "\n")
        sys.stdout.flush()

    client.on_message_received = got
    await client.connect()
    await asyncio.to_thread(sys.stdin.read)
    await client.shutdown()


asyncio.run(main())
