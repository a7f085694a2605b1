// Calls direct methods with the unmodified `azure-iothub`; prints what each call gave as JSON, errors
// as `{"error": status, "name"}`. Its order comes as JSON on stdin: `connectionString` and `calls`, each
// `[device, parameters]`; the server's CA by NODE_EXTRA_CA_CERTS.
"use strict";

const { Client } = require("azure-iothub");

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const client = Client.fromConnectionString(order.connectionString);
  const found = [];
  for (const [device, parameters] of order.calls) {
    try {
      found.push((await client.invokeDeviceMethod(device, parameters)).result);
    } catch (error) {
      found.push({ error: error.response?.statusCode ?? String(error), name: error.name });
    }
  }
  process.stdout.write(JSON.stringify(found));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
