// Goes through the pages of queries with the unmodified `azure-iothub`, and prints them as JSON. Its
// order comes as JSON on stdin: `connectionString` and `queries`, each a text and how long a page is
// to be. The server's CA comes by NODE_EXTRA_CA_CERTS.
"use strict";

const { Registry } = require("azure-iothub");

const SECONDS = 30;

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const order = JSON.parse(text);
  const registry = Registry.fromConnectionString(order.connectionString);
  const saw = [];
  for (const [sql, size] of order.queries) {
    const query = registry.createQuery(sql, size);
    const pages = [];
    while (query.hasMoreResults) {
      const counts = sql.includes("COUNT");
      const { result } = counts ? await query.next() : await query.nextAsTwin();
      pages.push(result.map((each) => each.deviceId ?? each));
    }
    saw.push(pages);
  }
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
