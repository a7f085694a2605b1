// A device on the unmodified Azure SDKs for Node that reports once, and prints its twin and then each
// change of its desired properties, as JSON, a line each, until stdin ends. Its order comes as the
// first line of stdin, the server's CA by NODE_EXTRA_CA_CERTS.
"use strict";

const readline = require("node:readline");
const { Client } = require("azure-iot-device");
const { Mqtt, MqttWs } = require("azure-iot-device-mqtt");

const show = (said) => process.stdout.write(JSON.stringify(said) + "\n");

async function main() {
  const lines = readline.createInterface({ input: process.stdin });
  const order = JSON.parse(await new Promise((done) => lines.once("line", done)));
  const client = Client.fromConnectionString(
    `HostName=${order.hub};DeviceId=${order.deviceId};SharedAccessKey=${order.symmetricKey}`,
    order.websockets ? MqttWs : Mqtt,
  );
  await client.setOptions({ modelId: order.modelId });
  if (order.tokenSeconds)
    await client.setOptions({
      tokenRenewal: {
        tokenValidTimeInSeconds: order.tokenSeconds,
        tokenRenewalMarginInSeconds: order.tokenSeconds - 3,
      },
    });
  await client.open();
  const twin = await client.getTwin();
  await new Promise((done, failed) =>
    twin.properties.reported.update({ firmware: "1.2", old: null }, (error) =>
      error ? failed(error) : done(),
    ),
  );
  // The twin's first event comes at once, with all that is wanted.
  let first = true;
  await new Promise((done) => {
    twin.on("properties.desired", (delta) => {
      if (first) {
        first = false;
        show({ desired: delta, reported: { firmware: "1.2" } });
        done();
      } else {
        show(delta);
      }
    });
  });
  await new Promise((done) => lines.once("close", done));
  await client.close();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
