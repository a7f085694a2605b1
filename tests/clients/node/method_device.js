// A device on the unmodified Azure SDKs for Node that answers method `echo` with its payload, `empty`
// with none and `fail` with status 500; it prints `ready` once it listens, and works until stdin
// ends. Its order comes as the first line of stdin, the server's CA by NODE_EXTRA_CA_CERTS.
"use strict";

const readline = require("readline");
const { Client } = require("azure-iot-device");
const { Mqtt, MqttWs } = require("azure-iot-device-mqtt");

const TRANSPORTS = { mqtt: Mqtt, "mqtt-ws": MqttWs };

function fail(error) {
  console.error(error);
  process.exit(1);
}

async function work(order) {
  const client = Client.fromConnectionString(
    `HostName=${order.hub};DeviceId=${order.deviceId};SharedAccessKey=${order.symmetricKey}`,
    TRANSPORTS[order.connectBy],
  );
  await client.open();
  const answer = (response, ...given) => response.send(...given).catch(fail);
  client.onDeviceMethod("echo", (request, response) => answer(response, 200, { got: request.payload }));
  client.onDeviceMethod("empty", (_, response) => answer(response, 204));
  client.onDeviceMethod("fail", (_, response) => answer(response, 500, "no"));
  process.stdout.write("ready\n");
}

const lines = readline.createInterface({ input: process.stdin });
lines.once("line", (line) => work(JSON.parse(line)).catch(fail));
lines.once("close", () => process.exit(0));
