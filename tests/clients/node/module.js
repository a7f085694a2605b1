// A module on the unmodified `azure-iot-device` for Node: it sends messages, reports, answers the direct
// method `echo`, and prints its twin and then each change of its desired properties, as JSON, a line each, until stdin ends. Its
// order comes as the first line of stdin; the server's CA comes by NODE_EXTRA_CA_CERTS.
"use strict";

const readline = require("readline");

const { Message, ModuleClient } = require("azure-iot-device");
const { Mqtt, MqttWs } = require("azure-iot-device-mqtt");

const show = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);

const plain = (properties) =>
  JSON.parse(JSON.stringify(properties, (_, value) => (typeof value === "function" ? undefined : value)));

async function work(order) {
  const client = ModuleClient.fromConnectionString(
    order.connectionString,
    order.websockets ? MqttWs : Mqtt,
  );
  await client.open();
  client.onMethod("echo", (request, response) => response.send(201, request.payload, () => {}));
  client.on("inputMessage", (input, message) => show([input, message.getData().toString()]));
  const message = new Message("1");
  message.properties.add("colour", "a/b & c=d");
  await client.sendEvent(message);
  await client.sendOutputEvent("out", new Message("2"));
  const twin = await client.getTwin();
  await new Promise((done, failed) =>
    twin.properties.reported.update({ firmware: "1.2" }, (error) => (error ? failed(error) : done())),
  );
  const { desired, reported } = twin.properties;
  let first = true;
  twin.on("properties.desired", (change) => (first ? (first = false) : show(plain(change))));
  show({ desired: plain(desired), reported: { firmware: reported.firmware } });
  return client;
}

const lines = readline.createInterface({ input: process.stdin });
let client;
lines.on("line", (line) => {
  client = work(JSON.parse(line));
});
lines.on("close", async () => {
  await (await client).close();
  process.exit(0);
});
