// The unmodified `azure-iot-provisioning-service` as the operator of enrollments.
//
// Its order comes as JSON on stdin: `connectionString`, or `host` and `token`, and `calls`, each
// `[method, argument…]`. `update` reads an enrollment, sets fields and writes it back; `pages` goes
// through a query. It prints what each call gave as JSON, errors as `{"error": status, "name"}`. The
// server's CA comes by NODE_EXTRA_CA_CERTS.
"use strict";

const { ProvisioningServiceClient } = require("azure-iot-provisioning-service");

const SECONDS = 30;

async function update(client, kind, id, changes) {
  const found = (await client[`get${kind}`](id)).responseBody;
  return client[`createOrUpdate${kind}`]({ ...found, ...changes });
}

async function pages(client, create, ...given) {
  const query = client[create](...given);
  const found = [];
  while (query.hasMoreResults) found.push((await query.next(query.continuationToken)).responseBody);
  return { responseBody: found };
}

// The SDK's promise of a bulk operation never ends; its callback does.
const bulk = (client, operation) =>
  new Promise((done, failed) =>
    client.runBulkEnrollmentOperation(operation, (error, result) =>
      error ? failed(error) : done({ responseBody: result }),
    ),
  );

const OWN = { update, pages, bulk };

async function run(client, [method, ...given]) {
  try {
    const call = OWN[method] ? OWN[method](client, ...given) : client[method](...given);
    return (await call)?.responseBody ?? null;
  } catch (error) {
    return { error: error.response?.statusCode ?? String(error), name: error.name };
  }
}

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const client = order.token
    ? ProvisioningServiceClient.fromTokenCredential(order.host, {
        getToken: async () => ({ token: order.token, expiresOnTimestamp: Date.now() + 3600_000 }),
      })
    : ProvisioningServiceClient.fromConnectionString(order.connectionString);
  const saw = [];
  for (const call of order.calls) saw.push(await run(client, call));
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
