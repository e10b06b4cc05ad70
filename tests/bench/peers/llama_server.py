"""The N-candidates-and-judgements work of bench_engine's `workload`, asked of llama.cpp's server.

    llama_server.py BIN_DIR MODEL.gguf vocab=V [threads= prompts= head= tail= prompt= answer=
                    verdict= slots= multi=0|1]

Starts the server on a free port of the loopback, gives it the same token ids bench_engine uses, all
requests of a stage at once over `slots` connections with cache_prompt on, and stops it. multi=1 asks
for several completions in one request (n_cmpl), so that the server itself may share the prompt.
Prints "seconds X", "processor X" (the server's own seconds, of all processors), "sampled_per_s X".
"""
import concurrent.futures
import http.client
import json
import os
import socket
import subprocess
import sys
import time

CANDIDATES, JUDGEMENTS = 4, 3


def ids(n, vocab, which):
    """fill_ids() of tests/bench/engine_infer.c."""
    x = (which * 2654435761 + 12345) & 0xffffffff
    out = []
    for _ in range(n):
        x = (x * 1664525 + 1013904223) & 0xffffffff
        out.append(3 + (x >> 8) % (vocab - 3))
    return out


def ask(port, prompt, n, n_predict, seed):
    body = {"prompt": prompt, "n_predict": n_predict, "temperature": 1.0, "top_k": 40, "top_p": 1.0,
            "min_p": 0.0, "samplers": ["top_k", "temperature"], "seed": seed, "ignore_eos": True,
            "cache_prompt": True, "n_cmpl": n}
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    conn.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    reply = conn.getresponse()
    text = reply.read()
    conn.close()
    if reply.status != 200:
        raise RuntimeError("the server says %d: %s" % (reply.status, text[:300]))
    answer = json.loads(text)
    answers = answer if isinstance(answer, list) else [answer]
    return sum(a["tokens_predicted"] for a in answers)


def stage(port, requests, keys):
    """Requests are (prompt, samples, n_predict); returns the tokens drawn."""
    if not keys["multi"]:
        requests = [(p, 1, m) for p, n, m in requests for _ in range(n)]
    with concurrent.futures.ThreadPoolExecutor(keys["slots"]) as ex:
        jobs = [ex.submit(ask, port, p, n, m, i) for i, (p, n, m) in enumerate(requests)]
        return sum(j.result() for j in jobs)


def work(port, k):
    v = k["vocab"]
    head, tail = ids(k["head"], v, 1), ids(k["tail"], v, 2)
    prompts = [ids(k["prompt"], v, 5000 + p) for p in range(k["prompts"])]
    start = time.perf_counter()
    n = stage(port, [(p, CANDIDATES, k["answer"]) for p in prompts], k)
    judge = []
    for c in range(k["prompts"] * CANDIDATES):
        text = head + prompts[c // CANDIDATES] + ids(k["answer"], v, 9000 + c) + tail
        judge.append((text, JUDGEMENTS, k["verdict"]))
    n += stage(port, judge, k)
    return time.perf_counter() - start, n


def processor(pid):
    """Seconds of all processors the server has used."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        word = f.read().rsplit(")", 1)[1].split()
    return (int(word[11]) + int(word[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(port, server):
    for _ in range(1200):
        if server.poll() is not None:
            sys.exit("llama-server ended with %d" % server.returncode)
        try:
            conn = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            conn.request("GET", "/health")
            if conn.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("llama-server did not become ready")


def main():
    k = {"threads": 2, "prompts": 4, "head": 300, "tail": 110, "prompt": 64, "answer": 250,
         "verdict": 100, "slots": 32, "multi": 0}
    k.update((a.split("=")[0], int(a.split("=")[1])) for a in sys.argv[3:])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = k["head"] + k["prompt"] + k["answer"] + k["tail"] + k["verdict"] + 32
    server = subprocess.Popen(
        [sys.argv[1] + "/llama-server", "-m", sys.argv[2], "--host", "127.0.0.1",
         "--port", str(port), "-t", str(k["threads"]), "-np", str(k["slots"]),
         "-c", str(context * k["slots"]), "--no-ui", "--no-kv-unified", "-b", "2048"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        before = processor(server.pid)
        seconds, n = work(port, k)
        used = processor(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    print("seconds %.3f\nprocessor %.3f\nsampled %d\nsampled_per_s %.1f" % (seconds, used, n, n / seconds))


main()
