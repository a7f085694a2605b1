// Makes, shows, lists and cancels jobs with the unmodified `azure-iothub`; prints what each call gave
// as JSON. Its order comes as JSON on stdin, the server's CA by NODE_EXTRA_CA_CERTS.
"use strict";

const { JobClient } = require("azure-iothub");

const shown = ({ jobStatus: { jobId, type, status, deviceJobStatistics: counted } }) => [
  jobId,
  type,
  status,
  [counted.deviceCount, counted.succeededCount, counted.failedCount],
];

async function untilOver(client, id) {
  for (;;) {
    const found = await client.getJob(id);
    if (!["scheduled", "queued", "running"].includes(found.jobStatus.status)) return found;
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const client = JobClient.fromConnectionString(JSON.parse(text).connectionString);
  const where = "deviceId IN ['dev-1', 'dev-2']";
  const patch = { etag: "*", tags: { site: "plant" }, properties: { desired: { interval: 5 } } };
  const hour = new Date(Date.now() + 3600_000);
  await client.scheduleTwinUpdate("twins", where, patch, new Date(), 60);
  await client.scheduleDeviceMethod("methods", "*", { methodName: "reboot", payload: { delay: 3 } });
  await client.scheduleTwinUpdate("later", where, patch, hour, 60);
  const found = [
    shown(await untilOver(client, "twins")),
    shown(await untilOver(client, "methods")),
    shown(await client.getJob("later")),
    shown(await client.cancelJob("later")),
  ];
  const query = client.createQuery("scheduleUpdateTwin", undefined, 1);
  const listed = [];
  while (query.hasMoreResults) listed.push(...(await query.next(query.continuationToken)).result.map((job) => job.jobId));
  found.push(listed);
  const missing = await client.getJob("nothing").catch((error) => error.response.statusCode);
  const taken = await client
    .scheduleTwinUpdate("twins", where, patch, hour, 60)
    .catch((error) => error.response.statusCode);
  found.push([missing, taken]);
  process.stdout.write(JSON.stringify(found));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
