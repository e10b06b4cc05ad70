/** This browser's preferences, access tokens, and what is running here. */
import { useState } from "preact/hooks";
import { Card, Command, Copy, ErrorCard, Fact, Skeleton, Time } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { may, problemText, send, session } from "../lib/api";
import { cliOf } from "../lib/commands";
import { fmtTime, zoneLabel } from "../lib/fmt";
import { askNotices, cannotNotify } from "../lib/notify";
import { notices, shortcuts, theme, zone, type Theme, type Zone } from "../lib/prefs";
import { useQuery } from "../lib/query";
import type { List } from "../lib/types";
import { Hooks } from "./hooks";
import { Audit, Users } from "./people";
import { Quotas } from "./quotas";

interface Token { id: string; name: string; role: string; created_at?: string; expires_at?: string | null; last_used_at?: string | null }

function Choice<T extends string>({ name, value, options, set }: { name: string; value: T; options: [T, string][]; set: (v: T) => void }) {
	return (
		<fieldset class="choice">
			<legend>{name}</legend>
			<div class="chips">{options.map(([v, w]) => <button key={v} type="button" class="chip" aria-pressed={value === v} onClick={() => set(v)}>{w}</button>)}</div>
		</fieldset>
	);
}

function setNotices(v: "on" | "off"): void {
	if (v === "off") notices.value = "off";
	else void askNotices().then((on) => say(on ? "You will be told when a run ends or stands still" : (cannotNotify() ?? "The browser did not allow it")));
}

const EXPIRY: [number, string][] = [[86_400, "a day"], [2_592_000, "30 days"], [31_536_000, "a year"], [0, "never"]];

function NewToken({ done }: { done: () => void }) {
	const [name, setName] = useState("");
	const [role, setRole] = useState("viewer");
	const [expires, setExpires] = useState(2_592_000);
	const [secret, setSecret] = useState("");
	const [error, setError] = useState("");
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setError("");
		try {
			const r = await send<{ token?: string; secret?: string }>("POST", "/tokens", { name, role, expires_s: expires });
			setSecret(r.token ?? r.secret ?? "");
			setName("");
			done();
		} catch (x) {
			setError(problemText(x));
		}
	};
	return (
		<>
			<form class="row wrap tools" onSubmit={submit}>
				<label class="inline">name <input required value={name} maxLength={64} onInput={(e) => setName(e.currentTarget.value)} /></label>
				<label class="inline">role <select value={role} onChange={(e) => setRole(e.currentTarget.value)}>{["viewer", "operator", "admin", "worker"].map((r) => <option key={r}>{r}</option>)}</select></label>
				<label class="inline">expires after <select value={expires} onChange={(e) => setExpires(Number(e.currentTarget.value))}>{EXPIRY.map(([v, w]) => <option key={v} value={v}>{w}</option>)}</select></label>
				<button class="btn primary">Create</button>
				<CopyAs cli form={() => ({ method: "POST", path: "/tokens", body: { name, role, expires_s: expires }, cli: cliOf("token", "create", name || "NAME", "--role", role, ...(expires ? ["--expires", String(expires)] : [])) })} />
			</form>
			{error && <p class="field-error" role="alert">{error}</p>}
			{secret && <div class="note"><p><b>Copy it now.</b> It is shown once and stored only as a hash.</p><Command text={secret} what="token" /></div>}
		</>
	);
}

function Tokens() {
	const q = useQuery<List<Token>>("/tokens", { every: 0 });
	const revoke = (t: Token): void =>
		ask({
			title: `Revoke “${t.name}”?`,
			body: <p>Whoever uses it is refused from now on{t.role === "worker" ? "; workers with it stop getting jobs and their leases run out" : ""}. This cannot be undone.</p>,
			yes: "Revoke",
			cli: true,
			form: () => ({ method: "DELETE", path: `/tokens/${encodeURIComponent(t.id)}`, cli: cliOf("token", "revoke", t.id) }),
			no: "Keep it",
			danger: true,
			act: async () => {
				await send("DELETE", `/tokens/${encodeURIComponent(t.id)}`);
				say("Token revoked");
				q.reload();
			},
		});
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	return (
		<>
			<NewToken done={q.reload} />
			<table class="cards">
				<thead><tr><th>Name</th><th>Role</th><th>Created</th><th>Expires</th><th>Last used</th><th><span class="sr">Actions</span></th></tr></thead>
				<tbody>
					{q.data.items.map((t) => (
						<tr key={t.id} data-row>
							<td data-label="Name">{t.name} <code class="dim">{t.id}</code></td>
							<td data-label="Role">{t.role}</td>
							<td data-label="Created"><Time t={t.created_at} /></td>
							<td data-label="Expires">{t.expires_at ? <Time t={t.expires_at} /> : "never"}</td>
							<td data-label="Last used">{t.last_used_at ? <Time t={t.last_used_at} /> : <span class="dim">–</span>}</td>
							<td class="r"><button class="btn small" onClick={() => revoke(t)}>Revoke…</button></td>
						</tr>
					))}
				</tbody>
			</table>
		</>
	);
}

export function Settings() {
	const s = session.value;
	return (
		<>
			<div class="page-head"><h1>Settings</h1></div>
			<Card title="This browser" class="pad-body">
				<div class="choices">
					<Choice<Theme> name="Theme" value={theme.value} options={[["auto", "auto"], ["light", "light"], ["dark", "dark"]]} set={(v) => { theme.value = v; }} />
					<Choice<Zone> name="Times" value={zone.value} options={[["local", "local"], ["utc", "UTC"]]} set={(v) => { zone.value = v; }} />
					<Choice<"on" | "off"> name="Single-key shortcuts" value={shortcuts.value} options={[["on", "on"], ["off", "off"]]} set={(v) => { shortcuts.value = v; }} />
					<Choice<"on" | "off"> name="Desktop notices" value={notices.value} options={[["on", "on"], ["off", "off"]]} set={setNotices} />
				</div>
				{cannotNotify() && <p class="dim">{cannotNotify()}</p>}
				<p class="dim">Now it is <span class="num">{fmtTime(Date.now())} {zoneLabel()}</span>.</p>
			</Card>
			<Card title="Access tokens" class="pad-body">
				{may("admin") ? <Tokens /> : <p class="dim">Creating and revoking tokens needs the admin role; you are {s ? s.role : "not logged in"}.</p>}
			</Card>
			{may("admin") && <Card title="Users" class="pad-body"><Users /></Card>}
			<Card title="Quotas" class="pad-body"><Quotas /></Card>
			{may("admin") && <Card title="Webhooks" class="pad-body"><Hooks /></Card>}
			{may("admin") && <Card title="Audit log" class="pad-body"><Audit /></Card>}
			<Card title="About" class="pad-body">
				<dl class="facts">
					<Fact name="Server version"><span class="num">{s ? s.version ?? "–" : "–"}</span></Fact>
					<Fact name="You">{s ? `${s.user}, ${s.role}` : "–"}</Fact>
					<Fact name="Address"><code>{location.origin}</code> <Copy text={location.origin} what="address" /></Fact>
					<Fact name="API"><a href="/api/v1/openapi.json" target="_blank" rel="noreferrer">openapi.json</a></Fact>
					<Fact name="Health"><a href="/api/v1/health" target="_blank" rel="noreferrer">health</a></Fact>
				</dl>
				<p class="dim">The page is made with Preact and @preact/signals (MIT). It loads nothing from elsewhere.</p>
			</Card>
		</>
	);
}
