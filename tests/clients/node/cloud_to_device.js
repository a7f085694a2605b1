// A device on the unmodified Azure SDKs for Node that prints each cloud-to-device message it gets and
// completes it, as JSON, a line each, until as many came as its order says; over HTTP it has sent an
// event and a batch before. Its order comes as JSON on stdin, the server's CA by NODE_EXTRA_CA_CERTS.
"use strict";

const { Client, Message } = require("azure-iot-device");
const { Mqtt, MqttWs } = require("azure-iot-device-mqtt");

const SECONDS = 30;

function transport(name) {
  if (name === "http") return require("azure-iot-device-http").Http;
  return { mqtt: Mqtt, "mqtt-ws": MqttWs }[name];
}

function shown(message) {
  const { messageId, correlationId, userId, contentType, contentEncoding, expiryTimeUtc } = message;
  const properties = message.properties.propertyList.map(({ key, value }) => [key, value]);
  const data = message.getData().toString();
  return { data, messageId, correlationId, userId, contentType, contentEncoding, expiryTimeUtc, properties };
}

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const client = Client.fromConnectionString(
    `HostName=${order.hub};DeviceId=${order.deviceId};SharedAccessKey=${order.symmetricKey}`,
    transport(order.connectBy),
  );
  await client.open();
  if (order.connectBy === "http") {
    const event = new Message("one");
    event.properties.add("Colour", "red");
    event.messageId = "m-1";
    await client.sendEvent(event);
    await client.sendEventBatch([new Message("two"), event]);
  }
  await new Promise((done, failed) => {
    let left = order.messages;
    client.on("error", failed);
    client.on("message", (message) => {
      client[order.settle || "complete"](message, (error) => {
        if (error) return failed(error);
        process.stdout.write(JSON.stringify(shown(message)) + "\n");
        left -= 1;
        if (!left) done();
      });
    });
  });
  await client.close();
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
