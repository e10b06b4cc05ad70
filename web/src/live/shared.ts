/**
 * The SharedWorker: one event stream per browser, however many tabs. Browsers allow six HTTP/1.1
 * connections to one host; a stream per tab would make the seventh tab hang.
 */
import { Stream } from "./stream";

interface Port extends MessagePort {
	topics?: string[];
	seen?: number;
}

const ports = new Set<Port>();
const GONE_MS = 180_000; // hidden tabs may run a timer once a minute only

const stream = new Stream(
	(e) => ports.forEach((p) => p.postMessage({ event: e })),
	(state) => ports.forEach((p) => p.postMessage({ state })),
);

function refresh(): void {
	const now = Date.now();
	for (const p of ports) if (now - (p.seen ?? now) > GONE_MS) ports.delete(p);
	stream.want([...ports].flatMap((p) => p.topics ?? []));
}

setInterval(refresh, 30_000);

(self as unknown as { onconnect: (e: MessageEvent) => void }).onconnect = (e) => {
	const port = e.ports[0] as Port;
	port.seen = Date.now();
	ports.add(port);
	port.onmessage = (m: MessageEvent<{ topics?: string[]; bye?: boolean }>) => {
		port.seen = Date.now();
		if (m.data.bye) ports.delete(port);
		else if (m.data.topics) {
			port.topics = m.data.topics;
			ports.add(port);
		}
		refresh();
	};
	port.postMessage({ state: stream.state });
};
