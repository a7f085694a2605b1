"""A device on the unmodified `azure-iot-device` SDK, run by the Python that has it.

Usage: sdk_device.py by-key|by-certificate|by-onboarding-certificate, with its order as JSON on
stdin; prints what it saw as JSON.
"""

import asyncio
import json
import sys

from azure.iot.device import X509, Message
from azure.iot.device.aio import IoTHubDeviceClient, ProvisioningDeviceClient

SECONDS = 30


async def by_key(order):
    """Provisions by symmetric key, connects with the same key and sends telemetry."""
    provisioning = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=order["host"],
        registration_id=order["registrationId"],
        id_scope=order["idScope"],
        symmetric_key=order["symmetricKey"],
        server_verification_cert=order["ca"],
        websockets=order.get("websockets", False),
    )
    if "payload" in order:
        provisioning.provisioning_payload = order["payload"]
    result = await provisioning.register()
    state = result.registration_state
    client = IoTHubDeviceClient.create_from_symmetric_key(
        symmetric_key=order["symmetricKey"],
        hostname=state.assigned_hub,
        device_id=state.device_id,
        server_verification_cert=order["ca"],
        websockets=order.get("websockets", False),
    )
    await client.connect()
    message = Message(order["telemetry"])
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    message.custom_properties["sdk"] = "azure-iot-device"
    await client.send_message(message)
    await client.shutdown()
    saw = {"status": result.status, "hub": state.assigned_hub, "deviceId": state.device_id}
    return saw | {"payload": state.response_payload} if "payload" in order else saw


async def by_certificate(order):
    """Connects with an operational certificate, reports its dates and reads them back."""
    client = IoTHubDeviceClient.create_from_x509_certificate(
        x509=X509(cert_file=order["certificate"], key_file=order["key"]),
        hostname=order["hub"],
        device_id=order["deviceId"],
        server_verification_cert=order["ca"],
        websockets=order.get("websockets", False),
    )
    await client.connect()
    await client.patch_twin_reported_properties({"certificate": order["dates"]})
    twin = await client.get_twin()
    await client.shutdown()
    return {"reported": twin["reported"]["certificate"], "version": twin["reported"]["$version"]}


async def by_onboarding_certificate(order):
    """Provisions by a certificate, connects with the same one and sends telemetry."""
    x509 = X509(cert_file=order["certificate"], key_file=order["key"])
    provisioning = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=order["host"],
        registration_id=order["registrationId"],
        id_scope=order["idScope"],
        x509=x509,
        server_verification_cert=order["ca"],
        websockets=order.get("websockets", False),
    )
    result = await provisioning.register()
    state = result.registration_state
    client = IoTHubDeviceClient.create_from_x509_certificate(
        x509=x509,
        hostname=state.assigned_hub,
        device_id=state.device_id,
        server_verification_cert=order["ca"],
        websockets=order.get("websockets", False),
    )
    await client.connect()
    await client.send_message(Message(order["telemetry"]))
    await client.shutdown()
    return {"status": result.status, "hub": state.assigned_hub, "deviceId": state.device_id}


JOBS = {
    "by-key": by_key,
    "by-certificate": by_certificate,
    "by-onboarding-certificate": by_onboarding_certificate,
}

if __name__ == "__main__":
    job = JOBS[sys.argv[1]](json.load(sys.stdin))
    print(json.dumps(asyncio.run(asyncio.wait_for(job, SECONDS))))
