// BullMQ with jobs that do nothing: jobs per second from the first taken to the last completed.
//   BULLMQ=DIR node bullmq.mjs SOCKET WORKERS CONCURRENCY JOBS       DIR holds node_modules/bullmq
import { createRequire } from "node:module";
const require = createRequire(process.env.BULLMQ + "/");
const { Queue, Worker } = require("bullmq");
const [path, workers, concurrency, jobs] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const connection = { path, maxRetriesPerRequest: null };

const name = "bench" + process.pid;
const queue = new Queue(name, { connection });
for (let i = 0; i < jobs; i += 500)
	await queue.addBulk(Array.from({ length: Math.min(500, jobs - i) }, (_, k) => ({ name: "n", data: { k } })));
let done = 0, start = 0, finish;
const all = new Promise((r) => { finish = r; });
const took = () => { if (++done === jobs) finish(); };
const list = Array.from({ length: workers }, () => {
	const w = new Worker(name, async () => { start ||= performance.now(); }, { connection, concurrency, autorun: false });
	w.on("completed", took);
	return w;
});
await Promise.all(list.map((w) => w.waitUntilReady()));
list.forEach((w) => w.run());
await all;
console.log(Math.round(jobs / ((performance.now() - start) / 1000)));
process.exit(0);
