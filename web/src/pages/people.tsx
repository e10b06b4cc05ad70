/** Users with their roles, and who changed what: the administrator's part of the settings. */
import { useState } from "preact/hooks";
import { Empty, ErrorCard, Skeleton, Time } from "../ui/bits";
import { CopyAs } from "../ui/copy_as";
import { ask } from "../ui/dialog";
import { say } from "../ui/toast";
import { problemText, send, session } from "../lib/api";
import { cliOf } from "../lib/commands";
import { useQuery } from "../lib/query";
import { hrefWith, qs, query, setQuery } from "../lib/router";
import type { AuditEntry, List, User } from "../lib/types";

const ROLES = ["viewer", "operator", "admin"];

function NewUser({ done }: { done: () => void }) {
	const [name, setName] = useState("");
	const [password, setPassword] = useState("");
	const [role, setRole] = useState("viewer");
	const [error, setError] = useState("");
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setError("");
		try {
			await send("PUT", `/users/${encodeURIComponent(name)}`, { role, password });
			say(`${name} can log in`);
			setName("");
			setPassword("");
			done();
		} catch (x) {
			setError(problemText(x));
		}
	};
	return (
		<>
			<form class="row wrap tools" onSubmit={submit}>
				<label class="inline">user <input required value={name} maxLength={31} autocomplete="off" onInput={(e) => setName(e.currentTarget.value)} /></label>
				<label class="inline">password <input required type="password" autocomplete="new-password" value={password} onInput={(e) => setPassword(e.currentTarget.value)} /></label>
				<label class="inline">role <select value={role} onChange={(e) => setRole(e.currentTarget.value)}>{ROLES.map((r) => <option key={r}>{r}</option>)}</select></label>
				<button class="btn primary">Add</button>
				<CopyAs cli form={() => ({ method: "PUT", path: `/users/${encodeURIComponent(name || "NAME")}`, body: { role, password: "…" }, cli: cliOf("user", "set", name || "NAME", "--role", role, "--password-file", "-") })} />
			</form>
			{error && <p class="field-error" role="alert">{error}</p>}
		</>
	);
}

export function Users() {
	const q = useQuery<List<User>>("/users", { every: 0 });
	const s = session.value;
	const change = (u: User, role: string): void => {
		send("PUT", `/users/${encodeURIComponent(u.name)}`, { role }, { match: u.revision }).then(() => say(`${u.name} is ${role} now`), (e: unknown) => say(problemText(e))).finally(q.reload);
	};
	const remove = (u: User): void =>
		ask({
			title: `Remove the user “${u.name}”?`, yes: "Remove", no: "Keep", danger: true, cli: true,
			form: () => ({ method: "DELETE", path: `/users/${encodeURIComponent(u.name)}`, match: u.revision, cli: cliOf("user", "delete", u.name) }),
			body: <p>Their sessions end at once. What they did stays in the audit log, their runs go on.</p>,
			act: async () => {
				await send("DELETE", `/users/${encodeURIComponent(u.name)}`, undefined, { match: u.revision });
				q.reload();
			},
		});
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	return (
		<>
			<NewUser done={q.reload} />
			{q.data.items.length ? (
				<table class="cards">
					<thead><tr><th>User</th><th>Role</th><th>Since</th><th>Changed</th><th><span class="sr">Actions</span></th></tr></thead>
					<tbody>
						{q.data.items.map((u) => (
							<tr key={u.name} data-row>
								<td data-label="User"><b>{u.name}</b></td>
								<td data-label="Role"><select aria-label={`Role of ${u.name}`} value={u.role} disabled={!!s && s.user === u.name} onChange={(e) => change(u, e.currentTarget.value)}>{ROLES.map((r) => <option key={r}>{r}</option>)}</select></td>
								<td data-label="Since"><Time t={u.created_at} /></td>
								<td data-label="Changed"><Time t={u.changed_at} /></td>
								<td class="r"><button class="btn small" onClick={() => remove(u)}>Remove…</button></td>
							</tr>
						))}
					</tbody>
				</table>
			) : <p class="dim">No user yet: people log in with tokens. A viewer sees everything and changes nothing, an operator submits and cancels, an admin manages tokens and users.</p>}
		</>
	);
}

export function Audit() {
	const who = query("who");
	const cursor = query("audit");
	const q = useQuery<List<AuditEntry>>("/audit" + qs({ limit: 25, who, cursor }), { every: 0 });
	if (!q.data) return q.error !== undefined ? <ErrorCard error={q.error} retry={q.reload} /> : <Skeleton />;
	return (
		<>
			<div class="row wrap tools"><label class="inline">who <input value={who} onChange={(e) => setQuery({ who: e.currentTarget.value, audit: null })} /></label><span class="dim">Every request that could change something, refused ones too; newest first.</span></div>
			{!q.data.items.length ? <Empty title="Nothing was changed yet"><p>Submitting, cancelling, draining, tokens and users are noted here with who and from where.</p></Empty> : (
				<table class={`cards ${q.previous ? "fading" : ""}`}>
					<thead><tr><th>When</th><th>Who</th><th>What</th><th>Answer</th><th>From</th></tr></thead>
					<tbody>
						{q.data.items.map((e, i) => (
							<tr key={e.request ?? i}>
								<td data-label="When"><Time t={e.at} /></td>
								<td data-label="Who">{e.who || "–"} <span class="dim small">{e.role}</span></td>
								<td data-label="What" class="wrap-any"><code>{e.method} {e.path.replace("/api/v1", "")}</code></td>
								<td data-label="Answer" class={`num ${e.status >= 400 ? "bad" : ""}`}>{e.status}</td>
								<td data-label="From" class="num dim">{e.from}</td>
							</tr>
						))}
					</tbody>
				</table>
			)}
			<div class="row end">
				{cursor && <a class="btn small" href={hrefWith({ audit: null })}>Newest</a>}
				{q.data.next_cursor && <a class="btn small" href={hrefWith({ audit: q.data.next_cursor })}>Older</a>}
			</div>
		</>
	);
}
