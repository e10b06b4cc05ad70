// BullMQ with jobs that do nothing: jobs per second from the first taken to the last completed, and what one
// cost in microseconds of Redis's thread and of this process.
//   BULLMQ=DIR node bullmq.mjs SOCKET WORKERS CONCURRENCY JOBS       DIR holds node_modules/bullmq
import { createRequire } from "node:module";
const require = createRequire(process.env.BULLMQ + "/");
const { Queue, Worker } = require("bullmq");
const Redis = require("ioredis");
const [path, workers, concurrency, jobs] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const connection = { path, maxRetriesPerRequest: null };

const name = "bench" + process.pid;
const queue = new Queue(name, { connection });
for (let i = 0; i < jobs; i += 500)
	await queue.addBulk(Array.from({ length: Math.min(500, jobs - i) }, (_, k) => ({ name: "n", data: { k } })));
let done = 0, start = 0, finish;
const all = new Promise((r) => { finish = r; });
const completed = () => { if (++done === jobs) finish(); };
const list = Array.from({ length: workers }, () => {
	const w = new Worker(name, async () => { start ||= performance.now(); }, { connection, concurrency, autorun: false });
	w.on("completed", completed);
	return w;
});
const asking = new Redis(path);
const spent = async () => {
	const info = await asking.info("cpu"), cpu = process.cpuUsage();
	const of = (field) => 1e6 * Number(info.match(new RegExp(`used_cpu_${field}_main_thread:([0-9.]+)`))[1]);
	return { redis: of("user") + of("sys"), client: cpu.user + cpu.system };
};
await Promise.all(list.map((w) => w.waitUntilReady()));
const was = await spent();
list.forEach((w) => w.run());
await all;
const took = performance.now() - start, now = await spent();
const per = (what) => ((now[what] - was[what]) / jobs).toFixed(1);
console.log(Math.round(jobs / (took / 1000)), per("redis"), per("client"));
process.exit(0);
