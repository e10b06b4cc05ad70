"""PyTorch beside our trainer: a plain Llama, one process per measurement.

    torch_train.py WHAT SHAPE DTYPE [key=value ...]

WHAT   sft      forward, backward, AdamW; every position has a target
       dpo      chosen and rejected concatenated and padded as TRL does; the reference model, a
                second one, runs in the step without gradients
       forward  the forward pass alone
SHAPE  dim,ffn,layers,heads,kv_heads,vocab,tied
DTYPE  f32; bf16 (weights, moments and products in bfloat16); amp (float32 weights, bfloat16
       products: what our bf16 training is)
keys   batch= length= (sequences of sft, pairs of dpo), prompt= (of a pair), steps=, threads=,
       lengths=FILE (lines "prompt chosen rejected": real lengths, padded to the longest), rows= of
       them

Prints "tokens_per_s X" (best step, tokens without padding), "rss_mib X" (peak of the process).
"""
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weight * y.to(x.dtype)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos + turned * sin


class Layer(nn.Module):
    def __init__(self, dim, ffn, heads, kv):
        super().__init__()
        self.heads, self.kv, self.d = heads, kv, dim // heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, kv * self.d, bias=False)
        self.v = nn.Linear(dim, kv * self.d, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, ffn, bias=False)
        self.up = nn.Linear(dim, ffn, bias=False)
        self.down = nn.Linear(ffn, dim, bias=False)
        self.norm1, self.norm2 = Norm(dim), Norm(dim)

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        h = self.norm1(x)
        q = self.q(h).view(b, t, self.heads, self.d).transpose(1, 2)
        k = self.k(h).view(b, t, self.kv, self.d).transpose(1, 2)
        v = self.v(h).view(b, t, self.kv, self.d).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.kv != self.heads:
            k = k.repeat_interleave(self.heads // self.kv, 1)
            v = v.repeat_interleave(self.heads // self.kv, 1)
        a = q @ k.transpose(2, 3) * self.d ** -0.5 + mask
        a = torch.softmax(a, -1, dtype=torch.float32).to(q.dtype)
        x = x + self.o((a @ v).transpose(1, 2).reshape(b, t, -1))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, dim, ffn, layers, heads, kv, vocab, tied):
        super().__init__()
        self.d = dim // heads
        self.embed = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList(Layer(dim, ffn, heads, kv) for _ in range(layers))
        self.norm = Norm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids):
        t = ids.shape[1]
        angle = torch.arange(t)[:, None] / 10000 ** (torch.arange(0, self.d, 2) / self.d)
        angle = torch.cat((angle, angle), -1)
        x = self.embed(ids)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        mask = torch.full((t, t), -1e9, dtype=x.dtype).triu(1)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.head(self.norm(x))


def batches(keys, vocab, pairs):
    """Padded ids [B, T] and target masks [B, T - 1]; for pairs chosen first, rejected after."""
    batch, length = int(keys["batch"]), int(keys["length"])
    prompt = int(keys.get("prompt", 1))
    rows = [(prompt, length - prompt, length - prompt)] * batch
    if "lengths" in keys:
        with open(keys["lengths"], encoding="ascii") as f:
            rows = [tuple(map(int, line.split())) for line in f if line[0] != "#"]
        rows = rows[:int(keys.get("rows", len(rows)))]
    for at in range(0, len(rows) - batch + 1, batch):
        part = rows[at:at + batch]
        seqs = [(p, c) for p, c, _ in part] + ([(p, r) for p, _, r in part] if pairs else [])
        longest = max(p + r for p, r in seqs)
        ids = torch.randint(3, vocab, (len(seqs), longest))
        mask = torch.zeros(len(seqs), longest - 1)
        for i, (p, r) in enumerate(seqs):
            ids[i, p + r:] = 0
            mask[i, p - 1:p + r - 1] = 1
        yield ids, mask, sum(p + r for p, r in seqs)


def logps(model, ids, mask, amp):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        logits = model(ids)
    each = torch.gather(logits[:, :-1].float().log_softmax(-1), 2, ids[:, 1:, None]).squeeze(2)
    return (each * mask).sum(1)


def sft_loss(model, ids, mask, amp):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        logits = model(ids)
    flat = logits[:, :-1].reshape(-1, logits.shape[-1]).float()
    target = ids[:, 1:].masked_fill(mask == 0, -100)
    return F.cross_entropy(flat, target.reshape(-1), ignore_index=-100)


def dpo_loss(model, reference, ids, mask, amp):
    half = ids.shape[0] // 2
    with torch.no_grad():
        ref = logps(reference, ids, mask, amp)
    pol = logps(model, ids, mask, amp)
    margin = (pol[:half] - pol[half:]) - (ref[:half] - ref[half:])
    return -F.logsigmoid(0.1 * margin).mean()


def main():
    what, shape, dtype = sys.argv[1:4]
    keys = dict(a.split("=", 1) for a in sys.argv[4:])
    torch.set_num_threads(int(keys.get("threads", 2)))
    torch.manual_seed(1)
    sizes = [int(v) for v in shape.split(",")]
    model = Llama(*sizes)
    reference = Llama(*sizes).requires_grad_(False) if what == "dpo" else None
    amp = dtype == "amp"
    if dtype == "bf16":
        model.bfloat16()
        if reference:
            reference.bfloat16()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1)
    data = list(batches(keys, sizes[5], what == "dpo"))
    tokens = seconds = best = 0
    for step in range(-int(keys.get("warm", 1)), int(keys.get("steps", 3)) * len(data)):
        ids, mask, n = data[step % len(data)]
        start = time.perf_counter()
        if what == "forward":
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                model(ids)
        else:
            opt.zero_grad(set_to_none=True)
            loss = (sft_loss(model, ids, mask, amp) if what == "sft"
                    else dpo_loss(model, reference, ids, mask, amp))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
        spent = time.perf_counter() - start
        if step >= 0:
            tokens, seconds, best = tokens + n, seconds + spent, max(best, n / spent)
    # Steps of one size: the best of them. Steps of real lengths differ: their sum.
    print("tokens_per_s %.1f" % (tokens / seconds if "lengths" in keys else best))
    print("rss_mib %.0f" % (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


main()
