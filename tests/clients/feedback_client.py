"""Purges a queue and fetches feedback with the unmodified `azure-iot-hub`, in its own environment;
prints what each call gave as JSON. Its order comes as JSON on stdin.
"""

from __future__ import annotations

import json
import sys

from azure.iot.hub import IoTHubHttpRuntimeManager
from azure.iot.hub.protocol.operations import CloudToDeviceMessagesOperations


def main() -> None:
    order = json.load(sys.stdin)
    manager = IoTHubHttpRuntimeManager.from_connection_string(order["connectionString"])
    calls: CloudToDeviceMessagesOperations = manager.protocol.cloud_to_device_messages
    purged = calls.purge_cloud_to_device_message_queue(order["device"])
    got = calls.receive_feedback_notification(raw=True).response
    token = got.headers["ETag"].strip('"')
    manager.abandon_feedback_notification(token)
    again = calls.receive_feedback_notification(raw=True).response.headers["ETag"].strip('"')
    done = calls.complete_feedback_notification(again, raw=True).response
    nothing = calls.receive_feedback_notification(raw=True).response
    told = {
        "totalMessagesPurged": purged.total_messages_purged,
        "deviceId": purged.device_id,
        "moduleId": purged.module_id,
    }
    json.dump(
        [told, got.status_code, len(got.json()), done.status_code, nothing.status_code], sys.stdout
    )


main()
