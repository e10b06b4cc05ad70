/**
 * One EventSource with topics, shared by the SharedWorker and by tabs that have none.
 * The browser itself retries with Last-Event-ID; when the server refuses (503, 401), the source is
 * closed and we come back after a pause, meanwhile the owner is told to poll.
 */
export type LinkState = "live" | "connecting" | "polling";

export interface StreamEvent {
	id: string;
	type: string;
	data: Record<string, unknown>;
}

const TYPES = ["run", "job", "stage", "worker", "metric", "log", "sample", "notice", "reset", "bye"];
const RETRY_MS = 10_000;
/** The server takes so many topics in one stream; with more we ask for everything. */
const TOPICS_MAX = 16;

export class Stream {
	private source: EventSource | null = null;
	private topics = "";
	private last = "";
	private timer: ReturnType<typeof setTimeout> | undefined;
	state: LinkState = "connecting";

	constructor(
		private readonly onEvent: (e: StreamEvent) => void,
		private readonly onState: (s: LinkState) => void,
	) {}

	/** Changing topics reopens the stream after the last event seen, so nothing falls in the gap. */
	want(topics: string[]): void {
		const text = [...new Set(topics)].sort().join(",");
		if (text === this.topics && this.source) return;
		this.topics = text;
		if (text) this.open();
		else this.close();
	}

	close(): void {
		clearTimeout(this.timer);
		this.source?.close();
		this.source = null;
	}

	private set(state: LinkState): void {
		if (state === this.state) return;
		this.state = state;
		this.onState(state);
	}

	private open(): void {
		this.close();
		const q = new URLSearchParams();
		if (this.topics.split(",").length <= TOPICS_MAX) q.set("topics", this.topics);
		if (this.last) q.set("after", this.last);
		const es = new EventSource("/api/v1/events?" + q.toString());
		this.source = es;
		es.onopen = () => this.set("live");
		es.onerror = () => {
			if (this.source !== es) return;
			if (es.readyState === EventSource.CLOSED) {
				this.set("polling");
				this.timer = setTimeout(() => this.open(), RETRY_MS);
			} else this.set("connecting");
		};
		const take = (type: string) => (e: Event) => {
			const m = e as MessageEvent<string>;
			if (m.lastEventId) this.last = m.lastEventId;
			if (type === "reset") this.last = "";
			let data: Record<string, unknown> = {};
			try {
				data = JSON.parse(m.data || "{}") as Record<string, unknown>;
			} catch {
				return;
			}
			const t = type === "message" && typeof data.type === "string" ? data.type : type;
			this.onEvent({ id: m.lastEventId, type: t, data });
		};
		for (const t of [...TYPES, "message"]) es.addEventListener(t, take(t));
	}
}
