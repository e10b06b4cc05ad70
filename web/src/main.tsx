import { render } from "preact";
import { App } from "./app";
import { loadSession } from "./lib/api";
import { startPrefs } from "./lib/prefs";
import { startRouter } from "./lib/router";

startPrefs();
startRouter();
void loadSession();
const root = document.getElementById("app");
if (root) {
	root.replaceChildren();
	render(<App />, root);
}
