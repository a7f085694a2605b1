// The unmodified `azure-iothub` as a service of a hub. Its order comes as JSON on stdin:
// `connectionString` and `calls`, each `[method, argument…]`. It prints what each call gave as JSON,
// errors as `{"error": status, "name"}`. The server's CA comes by NODE_EXTRA_CA_CERTS.
"use strict";

const { Registry } = require("azure-iothub");

const SECONDS = 30;

// A twin has methods of its own, and its client among its fields.
const shown = (body) => (body && body._registry ? body.toJSON() : body);

async function run(registry, [method, ...given]) {
  try {
    if (method === "changeThrough") {
      const [id, patch] = given;
      const twin = (await registry.getTwin(id)).responseBody;
      await twin.update(patch);
      return shown((await registry.getTwin(id)).responseBody);
    }
    return shown((await registry[method](...given))?.responseBody ?? null);
  } catch (error) {
    return { error: error.response?.statusCode ?? String(error), name: error.name };
  }
}

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const registry = Registry.fromConnectionString(order.connectionString);
  const saw = [];
  for (const call of order.calls) saw.push(await run(registry, call));
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
