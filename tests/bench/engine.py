"""make bench-engine: the engine beside the machine's limits, and beside its peers when they are here.

Environment: BENCH_ENGINE (program), PEERS=1 (python3-torch), LLAMA (directory of llama-batched-bench
and llama-server), GGUF (directory of SHAPE-FORMAT.gguf, the models llama.cpp is to run: 15M, 110M,
1.1B in f32, bf16, q8), QUICK=1, ONLY=decode,prefill,work,train,ragged,memory,real, REPS, BENCH_DIR
(where models are kept; $TMPDIR/pawl-bench), PAWL_TEST_DATA (real models), THREADS, UNDER (what ours and
theirs run under: "chrt -r 1" where others use the machine, who then wait).

Peers run interleaved with ours, A B A B, each measurement in a process of its own. A figure is the
best of its repetitions, ours and theirs alike: a neighbour on the machine only ever slows. Limits are
measured again before each table; shares are of the limit probed right before and behind the best
repetition, in its process (the larger of the two).
"""
import json
import os
import subprocess
import sys
import time

ENV = os.environ.get
PROGRAM = ENV("BENCH_ENGINE") or "build/bench/engine"
QUICK = ENV("QUICK") == "1"
REPS = int(ENV("REPS") or (1 if QUICK else 2))
THREADS = int(ENV("THREADS") or os.cpu_count())
LLAMA, GGUF = ENV("LLAMA"), ENV("GGUF")
UNDER = (ENV("UNDER") or "").split()
HERE = os.path.dirname(os.path.abspath(__file__))
DIR = ENV("BENCH_DIR") or os.path.join(ENV("TMPDIR") or "/tmp", "pawl-bench")
ONLY = [p for p in (ENV("ONLY") or "").split(",") if p]
START = time.time()


class Shape:
    def __init__(self, name, dim, ffn, layers, heads, kv, vocab, context, tied):
        self.name, self.dim, self.ffn, self.layers = name, dim, ffn, layers
        self.heads, self.kv, self.vocab, self.context, self.tied = heads, kv, vocab, context, tied
        head = dim // heads
        self.body = layers * (dim * (2 * dim + 2 * kv * head) + 3 * dim * ffn)
        self.head = vocab * dim
        self.params = self.body + self.head * (1 if tied else 2)

    def attention(self, keys):
        """Operations of one token that sees `keys` keys."""
        return 4.0 * keys * self.dim * self.layers

    def weight_bytes(self, fmt):
        """Read for one decoded token."""
        return (self.body + self.head) * {"f32": 4, "bf16": 2, "q8": 36 / 32}[fmt]

    def cache_bytes(self, fmt):
        """Of one token's keys and values."""
        return 2 * self.layers * self.kv * (self.dim // self.heads) * (4 if fmt == "f32" else 2)


SHAPES = {s.name: s for s in (Shape("15M", 288, 768, 6, 6, 6, 32000, 1024, 1),
                              Shape("110M", 768, 2048, 12, 12, 12, 32000, 1024, 1),
                              Shape("1.1B", 2048, 5632, 22, 32, 4, 32000, 2048, 0))}

# The floor and the aim of each ratio to the peer (issue: "Speed").
DECODE_BARS = {"15M": (4, 6), "110M": (1.6, 2.3), "1.1B": (1.4, 1.6)}
FAILED, LOADED = [], []
VERDICTS = []


# --- running ----------------------------------------------------------------------------------------

def values(text):
    out = {}
    for line in text.splitlines():
        word = line.split()
        if len(word) == 2:
            try:
                out[word[0]] = float(word[1])
            except ValueError:
                out[word[0]] = word[1]
    return out


def run(command, limit=300, parse=True):
    """What the command printed as {name: value}; {} and one line of why when it failed."""
    try:
        p = subprocess.run(UNDER + command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        FAILED.append("%s: %s" % (" ".join(command[:3]), e))
        return {}
    if p.returncode:
        why = (p.stderr.strip().splitlines() or ["ended with %d" % p.returncode])[-1]
        FAILED.append("%s: %s" % (" ".join(command[:4]), why[:200]))
        return {}
    return values(p.stdout) if parse else {"text": p.stdout}


def ours(part, **keys):
    return run([PROGRAM, part, "threads=%d" % THREADS] +
               ["%s=%s" % (k, v) for k, v in keys.items()])


# The limit a figure was measured beside: it goes where its figure goes.
BESIDE = {"read_1": "decode_1", "peak_512": "prefill_512", "peak": "tokens_per_s"}


def best(into, got, lower=("seconds", "processor", "rss_mib")):
    behind = {k for k, of in BESIDE.items() if got.get(of, 0) < into.get(of, 0)}
    for k, v in got.items():
        if k in behind:
            continue
        if isinstance(v, float) and k in into and k not in BESIDE:
            v = min(v, into[k]) if k in lower else max(v, into[k])
        into[k] = v


def interleave(sides, reps=None):
    """{name: function} run in turn; {name: best values}."""
    out = {name: {} for name in sides}
    for _ in range(reps or REPS):
        for name, side in sides.items():
            best(out[name], side())
    return out


# --- the machine ------------------------------------------------------------------------------------

PEAK = {}


def limits():
    """Arithmetic has one peak, the best seen so far; bandwidth is that of this minute."""
    m = ours("limits", ms=150 if QUICK else 250)
    m["bf16"] = m.get("bf16") or m.get("f32", 0)
    m["q8"] = m.get("int8") or m.get("f32", 0)
    for k in ("f32", "bf16", "q8"):
        m[k] = PEAK[k] = max(m[k], PEAK.get(k, 0))
    return m


def show_limits(m):
    with open("/proc/loadavg", encoding="ascii") as f:
        load = f.read().split()[0]
    print("limits now: f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f GOP/s, read %.0f GB/s (memory), %.0f "
          "(last-level cache); %d threads, %s, load %s, %.0f s in"
          % (m["f32"], m["bf16"], m["q8"], m["dram"], m["l3"], THREADS, m["kernels"], load,
             time.time() - START))
    if float(load) > 0.7 * THREADS and not LOADED:
        LOADED.append(1)
        print("others use this machine: absolute figures are low, and a peer that spins between its "
              "threads loses more than one that sleeps")


def heading(text):
    print("\n## %s\n" % text)
    m = limits()
    show_limits(m)
    sys.stdout.flush()
    return m


def row(*cells):
    print("  ".join(("%-9s" if i == 0 else "%-26s" if i == len(cells) - 1 else "%9s") % c
                    for i, c in enumerate(cells)).rstrip())
    sys.stdout.flush()


def num(v):
    if not v:
        return "-"
    return "%.1f" % v if v < 100 else "%.0f" % v


def times(a, b):
    return "%.2fx" % (a / b) if a and b else "-"


def percent(a, b):
    return "%.0f %%" % (100 * a / b) if a and b else "-"


def verdict(name, value, floor, aim=None, unit="x"):
    """Remembers and says how a figure stands to its bar."""
    if not value:
        return ""
    show = (lambda v: "%g %%" % (100 * v)) if unit == "%" else (lambda v: "%gx" % v)
    goal = "aim" if aim and value >= aim else "met" if value >= floor else "MISSED"
    bar = show(floor) + (" -> " + show(aim) if aim else "")
    got = "%.0f %%" % (100 * value) if unit == "%" else "%.2fx" % value
    VERDICTS.append((name, got, bar, goal))
    return "%s (%s)" % (goal, bar)


def model_dir(shape):
    """Makes the random model when it is not there; None with a reason when the machine is short."""
    path = os.path.join(DIR, shape.name)
    need = shape.params * 2
    if os.path.exists(path + "/config.json"):
        return path
    os.makedirs(path, exist_ok=True)
    disk = os.statvfs(path)
    if disk.f_bavail * disk.f_frsize < need * 1.1:
        print("%s: skipped, %s has no %.1f GB" % (shape.name, path, need / 1e9))
        return None
    fields = (shape.dim, shape.ffn, shape.layers, shape.heads, shape.kv, shape.vocab, shape.context)
    run([PROGRAM, "model", "dir=" + path, "tied=%d" % shape.tied,
         "shape=" + ",".join(map(str, fields))])
    return path


def memory_gib():
    with open("/proc/meminfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / (1 << 20)
    return 0


def fits(shape, fmt):
    need = shape.weight_bytes(fmt) / (1 << 30) + 1.5 + shape.params * 2 / (1 << 30)
    if memory_gib() > need:
        return True
    print("%s %s: skipped, %.1f GiB needed, %.1f available" % (shape.name, fmt, need, memory_gib()))
    return False


# --- peers ------------------------------------------------------------------------------------------

def find_torch():
    if ENV("PEERS") != "1":
        return None
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
            return python
    print("PEERS=1, but no python3 here imports torch (Debian: python3-torch, libopenblas0)")
    return None


TORCH = find_torch()


def torch(what, shape, dtype, **keys):
    sizes = (shape.dim, shape.ffn, shape.layers, shape.heads, shape.kv, shape.vocab, shape.tied)
    return run([TORCH, HERE + "/peers/torch_train.py", what, ",".join(map(str, sizes)), dtype,
                "threads=%d" % THREADS] + ["%s=%s" % (k, v) for k, v in keys.items()], 600)


def gguf(shape, fmt):
    path = "%s/%s-%s.gguf" % (GGUF, shape.name, fmt)
    return path if LLAMA and GGUF and os.path.exists(path) else None


def llama_batched(shape, fmt, prompt, steps, batches, shared):
    """llama-batched-bench: {"decode_16": tokens/s, "prefill_16": ...}."""
    total = sum(((1 if shared else b) * prompt + b * steps) for b in batches[-1:])
    total = batches[-1] * (prompt + steps + 1) if shared else total
    command = [LLAMA + "/llama-batched-bench", "-m", gguf(shape, fmt), "-t", str(THREADS),
               "-c", str((total + 1023) // 256 * 256), "-npp", str(prompt), "-ntg", str(steps),
               "-npl", ",".join(map(str, batches)), "--output-format", "jsonl"]
    got = run(command + (["-pps"] if shared else []), parse=False)
    out = {}
    for line in got.get("text", "").splitlines():
        if line.startswith("{"):
            r = json.loads(line)
            out["decode_%d" % r["pl"]] = r["speed_tg"]
            out["prefill_%d" % r["pl"]] = r["speed_pp"]
    return out


def llama_prefill(shape, fmt, length):
    got = run([LLAMA + "/llama-bench", "-m", gguf(shape, fmt), "-t", str(THREADS), "-p", str(length),
               "-n", "0", "-r", "2", "-o", "json"], parse=False)
    try:
        return {"prefill": max(json.loads(got["text"])[0]["samples_ts"])}
    except (KeyError, ValueError, IndexError):
        return {}


# --- tables -----------------------------------------------------------------------------------------

def decode(shape, formats):
    steps = {"15M": 48, "110M": 24, "1.1B": 8}[shape.name] // (2 if QUICK else 1)
    batches = [1, 4, 16, 64]
    shared = shape.name != "15M"
    if QUICK and shape.name == "1.1B":
        batches = [1, 4, 16]
    path = model_dir(shape)
    if not path:
        return
    m = heading("Decode, %s: tokens/s at context %d%s" %
                (shape.name, 128 + steps // 2, ", one prompt for the batch" if shared else ""))
    row("weights", "batch", "ours", "limit", "of limit", "llama.cpp", "ratio", "bar")
    for fmt in formats:
        if not fits(shape, fmt):
            continue
        sides = {"ours": lambda: ours("decode", dir=path, format=fmt, steps=steps, shared=int(shared),
                                      batches=",".join(map(str, batches)))}
        if gguf(shape, fmt):
            sides["llama"] = lambda: llama_batched(shape, fmt, 128, steps, batches, shared)
        got = interleave(sides, 1 if shape.name == "1.1B" and fmt == "f32" else None)
        for b in batches:
            decode_row(shape, fmt, b, m, got, steps)


def decode_row(shape, fmt, b, m, got, steps):
    """A step reads the weights once, and every sequence's keys and values; a common prompt's once."""
    seen = 128 + steps // 2
    keys = b * seen if shape.name == "15M" else 128 + b * (steps // 2)
    bytes_ = shape.weight_bytes(fmt) + keys * shape.cache_bytes(fmt)
    read = m["l3"] if bytes_ < m["l3_bytes"] else got["ours"].get("read_%d" % b) or m["dram"]
    flop = 2.0 * (shape.body + shape.head) + shape.attention(seen)
    limit = 1 / max(bytes_ / (read * 1e9) / b, flop / (m[fmt] * 1e9))
    mine = got["ours"].get("decode_%d" % b, 0)
    peer = got.get("llama", {}).get("decode_%d" % b, 0)
    ratio = mine / peer if peer else 0
    name = "decode %s %s batch %d" % (shape.name, fmt, b)
    bar = ""
    if fmt == "bf16" and b >= 16:
        bar = verdict(name + " / llama.cpp", ratio, *DECODE_BARS[shape.name])
    elif fmt == "bf16" and b == 1 and shape.name == "15M":
        bar = verdict(name + " / llama.cpp", ratio, 3, 4.5)
    elif fmt == "bf16" and b == 1:
        bar = verdict(name + " / llama.cpp", ratio, 1.0)
        bar = ", ".join(x for x in (bar, verdict(name + " of read probe", mine / limit, 0.9, unit="%"))
                        if x)
    elif fmt == "q8" and b == 1 and shape.name == "1.1B":
        bar = verdict(name + " / llama.cpp q8_0", ratio, 1.4)
    row(fmt, b, num(mine), num(limit), percent(mine, limit), num(peer), times(mine, peer), bar)


def prefill(shapes, formats):
    m = heading("Prefill of 512 tokens: tokens/s, and share of the peak of its format")
    row("model", "weights", "ours", "limit", "of peak", "llama.cpp", "ratio", "bar")
    for shape in shapes:
        path = model_dir(shape)
        for fmt in formats if path else []:
            if shape.name == "1.1B" and fmt == "f32" and QUICK or not fits(shape, fmt):
                continue
            reps = 1 if shape.name == "1.1B" else 4
            sides = {"ours": lambda: ours("prefill", dir=path, format=fmt, reps=reps)}
            if gguf(shape, fmt):
                sides["llama"] = lambda: llama_prefill(shape, fmt, 512)
            got = interleave(sides)
            peak = got["ours"].get("peak_512") or m[fmt]
            limit = peak * 1e9 / (2.0 * shape.body + shape.attention(256))
            mine, peer = got["ours"].get("prefill_512", 0), got.get("llama", {}).get("prefill", 0)
            bars = []
            if fmt == "bf16":
                name = "prefill %s bf16" % shape.name
                bars.append(verdict(name + " / llama.cpp", mine / peer if peer else 0, 1.5))
                if shape.name != "15M":
                    bars.append(verdict(name + " of peak", mine / limit, 0.8, 0.92, "%"))
            row(shape.name, fmt, num(mine), num(limit), percent(mine, limit), num(peer),
                times(mine, peer), ", ".join(x for x in bars if x))


# Tokens of the paper's judge template before the prompt and behind the answer (Llama 2), of prompts and
# answers as a real self-rewarding run has them in the middle, and of "up to 100 words". Those of
# bench_workload and llama_server.py.
WORK = {"head": 300, "tail": 110, "prompt": 64, "answer": 250, "verdict": 100}


def work_keys(k, prompts, shared):
    """Pairs of a token and a key it sees, in all of the work."""
    seen = lambda start, end: (end * end - start * start) / 2.0
    asked = k["head"] + k["prompt"]
    whole = asked + k["answer"] + k["tail"]
    verdicts = 12 * seen(whole, whole + k["verdict"])
    answers = 4 * seen(k["prompt"], k["prompt"] + k["answer"])
    if not shared:
        return prompts * (answers + verdicts + 4 * seen(0, k["prompt"]) + 12 * seen(0, whole))
    return seen(0, k["head"]) + prompts * (answers + verdicts + seen(0, k["prompt"]) +
                                           seen(k["head"], asked) + 4 * seen(asked, whole))


def work(shapes):
    """The gain in seconds is bounded by the gain in operations, which is below that in tokens: a drawn
    token needs the output head, a prefilled one does not, and sharing saves none of the drawn."""
    m = heading("4 candidates of each prompt, each judged 3 times, bf16 (template %(head)d + %(tail)d, "
                "prompt %(prompt)d, answer %(answer)d tokens): seconds" % WORK)
    row("model", "prompts", "judgement", "shared", "unshared", "gain", "operations", "server", "ratio",
        "bar")
    for shape in shapes:
        path = model_dir(shape)
        prompts = {"15M": 8 if QUICK else 16, "110M": 8, "1.1B": 2}[shape.name]
        for verdict_tokens in (100, 25) if path and shape.name == "15M" and not QUICK else (100,):
            if path:
                work_row(shape, path, {"prompts": prompts, "verdict": verdict_tokens}, m)


def work_row(shape, path, keys, m):
    sides = {"ours": lambda: ours("workload", dir=path, format="bf16", **keys),
             "alone": lambda: ours("workload", dir=path, format="bf16", share=0, **keys)}
    barred = keys["verdict"] == 100
    if gguf(shape, "bf16") and barred:
        sides["server"] = lambda: run([sys.executable, HERE + "/peers/llama_server.py", LLAMA,
                                       gguf(shape, "bf16"), "vocab=%d" % shape.vocab,
                                       "threads=%d" % THREADS, "prompts=%d" % keys["prompts"]])
    got = interleave(sides, None if shape.name == "15M" else 1)
    mine, alone = got["ours"].get("seconds", 0), got["alone"].get("seconds", 0)
    server = got.get("server", {}).get("seconds", 0)
    drawn = got["ours"].get("sampled", 0)
    tokens = {k: got[k].get("prefilled", 0) + drawn for k in ("ours", "alone")}
    flop = {k: 2.0 * shape.body * tokens[k] + 2.0 * shape.head * drawn + shape.attention(1) *
            work_keys(dict(WORK, **keys), keys["prompts"], k == "ours") for k in tokens}
    name = "workload %s" % shape.name
    bars = [verdict(name + " / unshared", alone / mine if mine else 0, 2.5, 4) if barred else "",
            verdict(name + " / llama-server", server / mine if mine else 0, 6)]
    row(shape.name, keys["prompts"], keys["verdict"], "%.2f" % mine, "%.2f" % alone, times(alone, mine),
        times(flop["alone"], flop["ours"]), num(server), times(server, mine),
        ", ".join(x for x in bars if x))
    print("  %d tokens prefilled instead of %d, %d drawn: %s in tokens; %.2f s at the bf16 peak"
          % (tokens["ours"] - drawn, tokens["alone"] - drawn, drawn, times(tokens["alone"], tokens["ours"]),
             flop["ours"] / m["bf16"] / 1e9))
    used = {k: v.get("processor", 0) for k, v in got.items()}
    print("  by processor time, which neighbours change less: %s unshared, %s the server"
          % (times(used["alone"], used["ours"]), times(used.get("server", 0), used["ours"])))


TORCH_FORMS = {"f32": ("f32",), "bf16": ("amp", "bf16")}


RATES = {}  # (step, model, format): rates of ours and of the peer on sequences of one length


def train_row(what, shape, fmt, m, keys, bar, share_bar=None, recorded_bar=None):
    """Lines of one kind of step; the peer's best form. For pairs also with the reference recorded and
    so not computed, as the engine trains. Returns {"ours": {...}, form: {...}}."""
    path = model_dir(shape)
    sides = {"ours": lambda: ours(what, dir=path, format=fmt, **keys)}
    if recorded_bar:
        sides["recorded"] = lambda: ours(what, dir=path, format=fmt, recorded=1, **keys)
    if TORCH:
        for form in TORCH_FORMS[fmt]:
            sides[form] = lambda form=form: torch(what, shape, form, **dict(keys, steps=2))
    got = interleave(sides)
    recorded = got.pop("recorded", None)
    forms = [(got[f].get("tokens_per_s", 0), f) for f in got if f != "ours"]
    peer, form = max(forms) if forms else (0, "")
    RATES[what, shape.name, fmt] = (got["ours"].get("tokens_per_s", 0),
                                    got.get(TORCH_FORMS[fmt][0], {}).get("tokens_per_s", 0))
    one_train_row(what, shape, fmt, m, keys, got["ours"], peer, form, bar, share_bar)
    if recorded:
        one_train_row("dpo rec", shape, fmt, m, keys, recorded, peer, form, recorded_bar, None)
    return got


def one_train_row(what, shape, fmt, m, keys, mine, peer, form, bar, share_bar):
    rate = mine.get("tokens_per_s", 0)
    passes = 8 if what == "dpo" else 6
    flop = passes * (shape.body + shape.head + shape.attention(int(keys["length"]) / 2) / 2)
    name = "%s %s %s" % (what, shape.name, fmt)
    bars = []
    if bar:
        bars.append(verdict(name + " / PyTorch", rate / peer if peer else 0, bar))
    peak = mine.get("peak") or m[fmt]
    if share_bar:
        bars.append(verdict(name + " of peak", rate * flop / peak / 1e9, share_bar, unit="%"))
    row(shape.name, what, fmt, num(rate), percent(rate * flop, peak * 1e9), num(peer), form,
        times(rate, peer), ", ".join(x for x in bars if x))


def train():
    m = heading("Training: tokens/s of sequences of 256 (chosen and rejected each with its prompt, which "
                "we compute once), share of peak by 6N (DPO 8N) + attention")
    print("dpo: the reference is computed in the step. dpo rec: our reference is recorded, PyTorch's "
          "computed.")
    row("model", "step", "format", "ours", "of peak", "PyTorch", "form", "ratio", "bar")
    s15, s110 = SHAPES["15M"], SHAPES["110M"]
    sft = dict(batch=8, length=256, steps=3)
    dpo = dict(batch=4, length=256, prompt=64, steps=3)
    memory = {"sft 15M f32": train_row("sft", s15, "f32", m, sft, 2.3, 0.7),
              "sft 15M bf16": train_row("sft", s15, "bf16", m, sft, 2.7, 0.55),
              "dpo 15M f32": train_row("dpo", s15, "f32", m, dpo, 2.6, None, 3),
              "dpo 15M bf16": train_row("dpo", s15, "bf16", m, dpo, 2.2, None, 3)}
    keys = dict(batch=4, length=256, steps=2)
    memory["sft 110M f32"] = train_row("sft", s110, "f32", m, keys, 1.7)
    if not QUICK:
        memory["sft 110M bf16"] = train_row("sft", s110, "bf16", m, keys, None)
    print("\nPeak memory of those processes, MiB (program, weights, activations, optimizer):")
    row("step", "", "ours", "PyTorch", "form", "ratio", "bar (at most half)")
    for name, got in memory.items():
        mine = got["ours"].get("rss_mib", 0)
        for form in [f for f in got if f != "ours" and got[f]]:
            peer = got[form].get("rss_mib", 0)
            bar = verdict("memory %s: PyTorch %s / ours" % (name, form), peer / mine if mine else 0, 2)
            row(name, "", num(mine), num(peer), form, times(mine, peer), bar)
        if len(got) == 1:
            row(name, "", num(mine), "-", "", "-", "")


def ragged():
    """Lengths of real preference pairs: packed by us, padded to the longest of the batch by TRL."""
    heading("Real lengths (tests/bench/lengths.txt) on the 15M shape: tokens/s of real tokens, beside "
            "sequences of one length")
    row("step", "format", "ours", "of even", "PyTorch", "of even", "ratio", "even", "bar")
    shape, lengths = SHAPES["15M"], HERE + "/lengths.txt"
    batch = {"sft": 8, "dpo": 4}
    path = model_dir(shape)
    for what in ("sft", "dpo"):
        for fmt in ("f32",) if QUICK else ("f32", "bf16"):
            keys = dict(batch=batch[what], length=256, steps=1, lengths=lengths, rows=16)
            if (what, shape.name, fmt) not in RATES:
                even = dict(batch=batch[what], length=256, steps=2, prompt=1 if what == "sft" else 64)
                RATES[what, shape.name, fmt] = tuple(
                    side.get("tokens_per_s", 0) for side in
                    (ours(what, dir=path, format=fmt, **even),
                     torch(what, shape, TORCH_FORMS[fmt][0], **even) if TORCH else {}))
            mine_even, peer_even = RATES[what, shape.name, fmt]
            sides = {"ours": lambda: ours(what, dir=path, format=fmt, **keys)}
            if TORCH:
                sides["torch"] = lambda: torch(what, shape, TORCH_FORMS[fmt][0], **keys)
            got = {k: v.get("tokens_per_s", 0) for k, v in interleave(sides, 1).items()}
            mine, peer = got["ours"], got.get("torch", 0)
            lead, before = mine / peer if peer else 0, mine_even / peer_even if peer_even else 0
            bar = verdict("real lengths %s %s: lead / lead without padding" % (what, fmt),
                          lead / before if before else 0, 1)
            row(what, fmt, num(mine), percent(mine, mine_even), num(peer), percent(peer, peer_even),
                times(mine, peer), times(before, 1), bar)
    print("  padding TRL would compute: %.0f %% of its rows (SFT in eights), %.0f %% (DPO in fours)"
          % (padding(lengths, 8, False), padding(lengths, 4, True)))


def padding(path, batch, pairs):
    with open(path, encoding="ascii") as f:
        rows = [tuple(map(int, line.split())) for line in f if line[0] != "#"]
    real = padded = 0
    for at in range(0, len(rows) - batch + 1, batch):
        part = rows[at:at + batch]
        n = [p + c for p, c, _ in part] + ([p + r for p, _, r in part] if pairs else [])
        real, padded = real + sum(n), padded + max(n) * len(n)
    return 100.0 * (padded - real) / padded


def memory():
    """A DPO step of the 110M shape, 16 pairs of 256 tokens."""
    heading("Memory of a DPO step, 110M shape, 16 pairs x 256 tokens (prompt 64)")
    path = model_dir(SHAPES["110M"])
    keys = dict(batch=16, length=256, prompt=64, steps=1)
    for fmt in ("bf16",) if QUICK else ("f32", "bf16"):
        got = ours("dpo", dir=path, format=fmt, recorded=1, **keys)
        plan = got.get("plan_mib", 0)
        text = ""
        if plan:
            off = abs(got["rss_mib"] - plan) / plan
            VERDICTS.append(("memory dpo 110M %s against plan" % fmt, "%+.0f %%" %
                             (100 * (got["rss_mib"] / plan - 1)), "within 10 %",
                             "met" if off <= 0.1 else "MISSED"))
            text = "; planned %.0f MiB (%+.1f %%)" % (plan, 100 * (got["rss_mib"] / plan - 1))
        print("  %s: peak %.0f MiB%s; %.0f tokens/s" % (fmt, got.get("rss_mib", 0), text,
                                                        got.get("tokens_per_s", 0)))


def real():
    root = (ENV("PAWL_TEST_DATA") or HERE + "/../../../shared/data") + "/models/"
    found = [d for d in ("stories260K", "poem_zh_750K") if os.path.exists(root + d)]
    if not found:
        print("\nreal models: skipped, no %s (PAWL_TEST_DATA)" % root)
        return
    heading("The real small models: tokens/s")
    row("model", "weights", "batch 1", "4", "16", "64", "prefill 64", "")
    for name in found:
        for fmt in ("f32", "bf16"):
            d = ours("decode", dir=root + name, format=fmt, prompt=16, steps=96, reps=8)
            p = ours("prefill", dir=root + name, format=fmt, length=64)
            row(name[:8], fmt, *[num(d.get("decode_%d" % b, 0)) for b in (1, 4, 16, 64)],
                num(p.get("prefill_64", 0)), "")


def summary():
    if FAILED:
        print("\n## Did not run\n")
        for line in dict.fromkeys(FAILED):
            print("  " + line)
    if VERDICTS:
        print("\n## Bars: %d met (%d at the aim), %d missed\n"
              % (sum(v[3] != "MISSED" for v in VERDICTS), sum(v[3] == "aim" for v in VERDICTS),
                 sum(v[3] == "MISSED" for v in VERDICTS)))
        for name, got, bar, goal in VERDICTS:
            print("  %-7s %-48s %8s  bar %s" % (goal, name, got, bar))
    print("\n%.0f s" % (time.time() - START))


def head():
    version = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                             check=False).stdout.strip()
    cpu = "?"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    print("# Engine, %s, commit %s" % (time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), version))
    print("%s, %d threads, %.0f GiB available; best of %d interleaved runs; peers: %s, %s"
          % (cpu, THREADS, memory_gib(), REPS, "PyTorch" if TORCH else "no PyTorch (PEERS=1)",
             "llama.cpp" if LLAMA and GGUF else "no llama.cpp (LLAMA=, GGUF=)"))


def main():
    wanted = lambda part: not ONLY or part in ONLY
    small, all_ = [SHAPES["15M"], SHAPES["110M"]], list(SHAPES.values())
    head()
    if wanted("decode"):
        decode(SHAPES["15M"], ("bf16", "q8", "f32"))
        decode(SHAPES["110M"], ("bf16", "q8") if QUICK else ("bf16", "q8", "f32"))
        decode(SHAPES["1.1B"], ("bf16", "q8") if QUICK else ("bf16", "q8", "f32"))
    if wanted("prefill"):
        prefill(all_, ("bf16",) if QUICK else ("bf16", "q8", "f32"))
    if wanted("work"):
        work(small if QUICK else all_)
    if wanted("train"):
        train()
    if wanted("ragged"):
        ragged()
    if wanted("memory"):
        memory()
    if wanted("real"):
        real()
    summary()


main()
