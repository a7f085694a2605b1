// The Registry of the unmodified `azure-iothub`.
//
// Its order comes as JSON on stdin: `connectionString` and `calls`, each `[method, argument…]`; an
// argument `{"$": n, …}` is what call n gave, with the other fields set. It prints what each call
// gave as JSON, errors as `{"error": name}`. The server's CA comes by NODE_EXTRA_CA_CERTS.
"use strict";

const { Registry } = require("azure-iothub");

const SECONDS = 30;

const argument = (given, saw) => {
  if (Array.isArray(given)) return given.map((each) => argument(each, saw));
  if (given === null || typeof given !== "object" || given.$ === undefined) return given;
  const { $: call, ...changes } = given;
  return { ...saw[call], ...changes };
};

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const registry = Registry.fromConnectionString(order.connectionString);
  const saw = [];
  for (const [method, ...given] of order.calls) {
    try {
      const result = await registry[method](...given.map((each) => argument(each, saw)));
      saw.push(result?.responseBody ?? null);
    } catch (error) {
      saw.push({ error: error.name });
    }
  }
  process.stdout.write(JSON.stringify(saw), () => process.exit(0));
}

setTimeout(() => {
  console.error("no end within %d s", SECONDS);
  process.exit(2);
}, SECONDS * 1000).unref();

main();
