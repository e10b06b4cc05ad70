// TypeScript types of every schema of server/openapi.json, to src/lib/schema.ts (checked in).
// usage: node types.mjs [--check]   (--check: 1 when the file is not what the description gives)
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "src/lib/schema.ts");
const json = "export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };";
const plain = { integer: "number", number: "number", string: "string", boolean: "boolean", null: "null" };

function list(schema, indent) {
	const item = schema.items ? typeOf(schema.items, indent) : "Json";
	return / [|&] /.test(item) ? `(${item})[]` : `${item}[]`;
}

function object(schema, indent) {
	const more = schema.additionalProperties;
	if (!schema.properties) return `Record<string, ${typeof more === "object" ? typeOf(more, indent) : "Json"}>`;
	const inner = indent + "\t";
	const lines = Object.entries(schema.properties).map(([name, s]) => {
		const note = s.description ? `${inner}/** ${s.description} */\n` : "";
		const must = schema.required?.includes(name) ? "" : "?";
		return `${note}${inner}${name}${must}: ${typeOf(s, inner)};\n`;
	});
	if (more === true) lines.push(`${inner}[name: string]: Json | undefined;\n`);
	return `{\n${lines.join("")}${indent}}`;
}

function typeOf(schema, indent) {
	if (schema.$ref) return schema.$ref.split("/").at(-1);
	if (schema.oneOf) return schema.oneOf.map((s) => typeOf(s, indent)).join(" | ");
	if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
	return [schema.type ?? "Json"].flat().map((kind) => {
		if (kind === "array") return list(schema, indent);
		if (kind === "object") return object(schema, indent);
		return plain[kind] ?? "Json";
	}).join(" | ");
}

export function generate() {
	const doc = JSON.parse(readFileSync(join(here, "../server/openapi.json"), "utf8"));
	const parts = Object.entries(doc.components.schemas).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, s]) => {
		const note = s.description ? `/** ${s.description} */\n` : "";
		const text = typeOf(s, "");
		const form = text.startsWith("{") && text.endsWith("}") && !/^\} \|/m.test(text) ? `interface ${name} ${text}` : `type ${name} = ${text};`;
		return `${note}export ${form}\n`;
	});
	return `/** Made of server/openapi.json by types.mjs; not written by hand. */\n\n${json}\n\n${parts.join("\n")}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const text = generate();
	if (!process.argv.includes("--check")) writeFileSync(target, text);
	else if (readFileSync(target, "utf8") !== text) {
		console.error("web/src/lib/schema.ts is not what server/openapi.json gives; run: node web/types.mjs");
		process.exit(1);
	}
}
