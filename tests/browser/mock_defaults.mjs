// GET /config/defaults as the server shapes it: pointers, types, bounds, help.
const F = [
	["/name", "string", "", { required: true, help: "What people call this run" }],
	["/seed", "int", 1, { min: 0, help: "All randomness follows from it" }],
	["/iterations", "int", 2, { min: 1, max: 20, help: "Each one makes the next model" }],
	["/notes", "string", "", { help: "Free text" }],
	["/base_model", "string", "", { required: true, help: "Hugging Face directory, seen from the worker that imports it" }],
	["/template", "string", "chatml", { choices: ["plain", "alpaca", "llama-2", "llama-3", "mistral", "mistral-v3", "chatml"], help: "Chat template" }],
	["/data/ift", "files", [], { required: true, choices: ["auto", "oasst", "pairs"], help: "Instruction examples" }],
	["/data/eft", "files", [], { choices: ["auto", "oasst", "ranked", "judge"], help: "Judge examples or ranked answers" }],
	["/data/test", "files", [], { choices: ["auto", "pairs", "prompts"], help: "Test prompts for the evaluation" }],
	["/data/ift_max", "int", 3200, { min: 1, help: "At most so many examples" }],
	["/sft/lr", "number", 5.5e-6, { min: 0, max: 1, help: "Peak learning rate" }],
	["/sft/schedule", "string", "cosine", { choices: ["cosine", "linear", "constant"], help: "Course of the learning rate" }],
	["/sft/batch", "int", 16, { min: 1, max: 4096, help: "Sequences a step" }],
	["/sft/epochs", "int", 2, { min: 1, help: "Passes over the data" }],
	["/sft/baseline", "bool", true, { help: "Train the IFT-only model as well" }],
	["/generate/n", "int", 4, { min: 2, max: 64, help: "Candidates a prompt" }],
	["/generate/temperature", "number", 0.7, { min: 0, max: 4, help: "Sampling temperature" }],
	["/generate/top_p", "number", 0.9, { min: 0, max: 1, help: "Nucleus" }],
	["/generate/max_new_tokens", "int", 512, { min: 1, max: 32768, help: "Longest answer" }],
	["/judge/kind", "string", "model", { choices: ["model", "command"], help: "The model itself, or a program" }],
	["/judge/command", "list", [], { help: "Program and arguments" }],
	["/judge/template", "object", "additive-5", { help: "Judge prompt: a known name, or text with its own score pattern and bounds." }],
	["/judge/samples", "int", 3, { min: 1, max: 16, help: "Judgements a candidate" }],
	["/dpo/loss", "string", "sigmoid", { choices: ["sigmoid", "hinge", "ipo", "robust"], help: "Loss" }],
	["/dpo/beta", "number", 0.1, { min: 0, max: 100, help: "How far the model may leave its reference" }],
	["/dpo/lr", "number", 1e-6, { min: 0, max: 1, help: "Peak learning rate" }],
	["/dpo/clip_norm", "number", 1, { min: 0, help: "Gradient norm" }],
	["/eval/judge_samples", "int", 3, { min: 1, max: 16, help: "Judgements a held-out answer" }],
	["/reuse", "bool", true, { help: "Use finished results of equal jobs again" }],
];

export const fields = F.map(([pointer, type, def, more]) => ({ pointer, type, default: def, ...more }));

export function defaults() {
	const out = {};
	for (const f of fields) {
		const p = f.pointer.split("/").slice(1);
		let o = out;
		for (const k of p.slice(0, -1)) o = o[k] ??= {};
		o[p.at(-1)] = f.default;
	}
	return { defaults: out, fields, sections: [{ name: "", title: "Run" }, { name: "data", title: "Data" }, { name: "sft", title: "Supervised fine-tuning" }, { name: "generate", title: "Candidate answers" }, { name: "judge", title: "Judging" }, { name: "dpo", title: "Preference training" }, { name: "eval", title: "Evaluation" }, { name: "queue", title: "Queue" }] };
}

export function check(spec) {
	const errors = [];
	if (!spec.name) errors.push({ pointer: "/name", detail: "a run needs a name" });
	if (!spec.base_model) errors.push({ pointer: "/base_model", detail: "expected the path of a model directory" });
	else if (!spec.base_model.startsWith("/")) errors.push({ pointer: "/base_model", detail: `expected an absolute path, found "${spec.base_model}"` });
	if (!spec.data?.ift?.length) errors.push({ pointer: "/data/ift", detail: "expected at least one file" });
	return errors;
}
