// A device on the unmodified Azure SDKs for Node: provisions by symmetric key, or by certificate where
// its order has one, connects with the same to what it was assigned, sends telemetry and works with its twin.
//
// Its order comes as JSON on stdin; it prints what it saw as JSON. The server's CA comes by
// NODE_EXTRA_CA_CERTS: the provisioning SDK has no option for it.
"use strict";

const { Client, Message } = require("azure-iot-device");
const hubTransports = require("azure-iot-device-mqtt");
const { ProvisioningDeviceClient } = require("azure-iot-provisioning-device");
const { Http } = require("azure-iot-provisioning-device-http");
const { Mqtt, MqttWs } = require("azure-iot-provisioning-device-mqtt");
const { SymmetricKeySecurityClient } = require("azure-iot-security-symmetric-key");
const { X509Security } = require("azure-iot-security-x509");

const SECONDS = 30;
const PROVISIONING = { http: Http, mqtt: Mqtt, "mqtt-ws": MqttWs };
const HUB = { mqtt: hubTransports.Mqtt, "mqtt-ws": hubTransports.MqttWs };

async function provision(order) {
  const client = ProvisioningDeviceClient.create(
    order.host,
    order.idScope,
    new PROVISIONING[order.provisionBy](),
    order.certificate
      ? new X509Security(order.registrationId, order.certificate)
      : new SymmetricKeySecurityClient(order.registrationId, order.symmetricKey),
  );
  if (order.payload) client.setProvisioningPayload(order.payload);
  return client.register();
}

async function work(order, assigned) {
  const shown = order.certificate ? "x509=true" : `SharedAccessKey=${order.symmetricKey}`;
  const client = Client.fromConnectionString(
    `HostName=${assigned.assignedHub};DeviceId=${assigned.deviceId};${shown}`,
    HUB[order.connectBy],
  );
  if (order.certificate) await client.setOptions(order.certificate);
  await client.open();
  const message = new Message(order.telemetry);
  message.contentType = "application/json";
  message.contentEncoding = "utf-8";
  message.properties.add("sdk", "azure iot/device");
  await client.sendEvent(message);
  const twin = await client.getTwin();
  await new Promise((done, failed) =>
    twin.properties.reported.update({ seen: order.telemetry }, (error) => (error ? failed(error) : done())),
  );
  const again = await client.getTwin();
  const reported = again.properties.reported.seen;
  await client.close();
  return reported;
}

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const assigned = await provision(order);
  const saw = { status: assigned.status, hub: assigned.assignedHub, deviceId: assigned.deviceId };
  if (order.connectBy) saw.reported = await work(order, assigned);
  process.stdout.write(JSON.stringify(saw));
}

setTimeout(() => {
  console.error("no end within %d s", SECONDS);
  process.exit(2);
}, SECONDS * 1000).unref();
main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
