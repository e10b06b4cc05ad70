#!/usr/bin/env python3
"""PyTorch with transformers on the same device and shapes as bench-gpu, side by side.

Usage: peer.py FIGURES [1b] [7b]; FIGURES is what bench-gpu printed. Random weights, bfloat16. Needs
torch with CUDA and transformers, and says so where they are missing (status 77).
"""
import re
import sys
import time

# As in tests/gpu/bench.c and bench_tools.c.
SHAPES = {
    "1b": dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
               num_attention_heads=32, num_key_value_heads=4),
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=32),
}
PROMPT, ANSWER, JUDGED, PAIRS, BATCH, MICRO = 120, 390, 200, 16, 64, 4096


def ours(path, shape):
    """What bench-gpu said of a shape: tokens/s of generation, seconds of a DPO step, or None."""
    text = open(path).read() if path else ""
    speed = re.search(r"^%s\s+generate at batch %d: ([\d.]+) tokens/s" % (shape, BATCH), text, re.M)
    step = re.search(r"^%s\s+DPO step of %d pairs: ([\d.]+) s" % (shape, PAIRS), text, re.M)
    return (float(speed.group(1)) if speed else None, float(step.group(1)) if step else None)


def make(torch, transformers, shape):
    config = transformers.LlamaConfig(vocab_size=32000, max_position_embeddings=4096, **SHAPES[shape])
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model


def timed(torch, fn, times=2):
    fn()
    torch.cuda.synchronize()
    start = time.monotonic()
    for _ in range(times):
        fn()
    torch.cuda.synchronize()
    return (time.monotonic() - start) / times


def generate(torch, model):
    ids = torch.randint(3, 32000, (BATCH, PROMPT), device="cuda")
    model.eval()
    with torch.no_grad():
        seconds = timed(torch, lambda: model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.7, top_p=0.9,
            min_new_tokens=JUDGED, max_new_tokens=JUDGED, pad_token_id=0), 1)
    return BATCH * JUDGED / seconds


def answer_logps(torch, model, ids):
    logits = model(ids).logits[:, PROMPT - 1:-1].float()
    return torch.log_softmax(logits, -1).gather(-1, ids[:, PROMPT:, None]).sum((1, 2))


def dpo_step(torch, policy, reference):
    """Chosen and rejected side by side, the reference's numbers computed beside them; ours without the
    latter are compared with both."""
    policy.train()
    policy.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6, fused=True)
    ids = torch.randint(3, 32000, (PAIRS, 2, PROMPT + ANSWER), device="cuda")
    ids[:, 1, :PROMPT] = ids[:, 0, :PROMPT]
    per = max(1, MICRO // (2 * (PROMPT + ANSWER)))

    def step(recorded):
        for at in range(0, PAIRS, per):
            batch = ids[at:at + per].reshape(-1, PROMPT + ANSWER)
            if recorded:
                base = torch.full((batch.shape[0],), -1.0, device="cuda")
            else:
                with torch.no_grad():
                    base = answer_logps(torch, reference, batch)
            gain = (answer_logps(torch, policy, batch) - base).view(-1, 2)
            loss = -torch.nn.functional.logsigmoid(0.1 * (gain[:, 0] - gain[:, 1])).sum() / PAIRS
            loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(torch, lambda: step(False)), timed(torch, lambda: step(True))


def ratio(text, mine, theirs, more_is_better):
    if mine is None:
        return f"{text}; ours is not in the figures"
    r = mine / theirs if more_is_better else theirs / mine
    return f"{text}; ours {mine:g}: {r:.2f} times as fast"


def compare(torch, transformers, figures, shape):
    speed, step = ours(figures, shape)
    model = make(torch, transformers, shape)
    theirs = generate(torch, model)
    print(ratio(f"{shape} PyTorch generate at batch {BATCH}: {theirs:.0f} tokens/s", speed, theirs,
                True), flush=True)
    if shape != "1b":
        return
    whole, recorded = dpo_step(torch, model, make(torch, transformers, shape))
    print(ratio(f"{shape} PyTorch DPO step with recorded reference: {recorded:.3f} s", step, recorded,
                False))
    print(f"{shape} PyTorch DPO step with the reference's pass: {whole:.3f} s", flush=True)


def main(argv):
    try:
        import torch
        import transformers
    except ImportError as e:
        print(f"PyTorch is not compared: {e}")
        return 77
    if not torch.cuda.is_available():
        print("PyTorch is not compared: it sees no CUDA device")
        return 77
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}")
    for shape in [a for a in argv[2:] if a in SHAPES] or list(SHAPES):
        compare(torch, transformers, argv[1], shape)
        torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv))
