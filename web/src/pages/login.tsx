/** Log in by a one-time link (?code=…) or by pasting a token. The token goes nowhere but the server. */
import { useEffect, useState } from "preact/hooks";
import { loadSession, problemText, send, session } from "../lib/api";
import { go, place } from "../lib/router";

function next(): string {
	const to = place.value.query.get("next") ?? "";
	if (to.startsWith("/") && !to.startsWith("//")) return to;
	return place.value.path === "/login" ? "/" : place.value.path + location.search;
}

export function Login() {
	const [token, setToken] = useState("");
	const [user, setUser] = useState("");
	const [password, setPassword] = useState("");
	const named = user.trim() !== "";
	const [error, setError] = useState("");
	const [busy, setBusy] = useState(false);
	const code = place.value.path === "/login" ? (place.value.query.get("code") ?? "") : "";
	const enter = async (body: { code: string } | { token: string } | { user: string; password: string }): Promise<void> => {
		setBusy(true);
		setError("");
		try {
			await send("POST", "/session", body);
			const to = code ? "/" : next();
			history.replaceState(null, "", "/login");
			await loadSession();
			if (session.value) go(to, true);
		} catch (e) {
			setError(problemText(e));
		}
		setBusy(false);
	};
	useEffect(() => {
		if (code) void enter({ code });
		else if (session.value && place.value.path === "/login") go(next(), true);
	}, [code, session.value === null]);
	return (
		<main class="login" id="main">
			<form class="card login-card" onSubmit={(e) => { e.preventDefault(); if (named) void enter({ user: user.trim(), password }); else if (token.trim()) void enter({ token: token.trim() }); }}>
				<svg class="login-mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" class="brand-bg" /><path d="M7 23V12l5 4V9l5 4V6l8 8v9z" class="brand-saw" /><path d="M7 26.5h18" class="brand-line" /></svg>
				<h1>Log in to Pawl</h1>
				{code && busy ? <p>Opening your one-time link…</p> : (
					<>
						<label class="field">
							<span>Access token</span>
							<input type="password" name="token" autocomplete="off" spellcheck={false} value={token} onInput={(e) => setToken(e.currentTarget.value)} aria-invalid={!!error} aria-describedby="login-help" placeholder="pawl_…" autoFocus />
						</label>
						<details class="more">
							<summary>With a user name instead</summary>
							<label class="field"><span>User</span><input name="user" autocomplete="username" spellcheck={false} value={user} onInput={(e) => setUser(e.currentTarget.value)} /></label>
							<label class="field"><span>Password</span><input type="password" name="password" autocomplete="current-password" value={password} onInput={(e) => setPassword(e.currentTarget.value)} /></label>
						</details>
						{error && <p class="field-error" role="alert">{error}</p>}
						<button class="btn primary wide" disabled={busy || (!token.trim() && !(named && password))}>{busy ? "Checking…" : "Log in"}</button>
					</>
				)}
				<p id="login-help" class="dim">
					The server prints a one-time link when it first starts. The admin token lies in its data folder, in <code>tokens/admin</code>.
				</p>
			</form>
		</main>
	);
}
