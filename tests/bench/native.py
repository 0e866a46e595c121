"""Prefill and decode of a GGUF file by native llama.cpp, as the page of bench:peers measures it.

    python tests/bench/native.py FILE JOB

JOB is JSON: threads, context, vocabulary, seed, prompts [{count, tokens}]. Needs the package
llama-cpp-python; prints one JSON line: version, instructions (what the build uses of the
processor's), loadMs, peakBytes (resident), steps [{prefill, decode}] in tokens per second. Ids are
the page's: (seed + 7919 i) mod vocabulary; each next token is the greedy choice.

With "turns" in the job, version and instructions are printed at once; then each line of standard
input is a piece of work, {"prefill": N} or {"decode": N, "after": M}, and is answered by its tokens
per second: for tests/bench/turns.mjs.
"flash" asks for its flash attention; the cache is in f16.
"""
import json
import resource
import sys
import time

import llama_cpp
import numpy as np

BATCH = 512


def open_model(path, job):
    started = time.perf_counter()
    flash = {"flash_attn": True} if job.get("flash") else {}
    model = llama_cpp.Llama(
        path, n_ctx=job["context"], n_batch=BATCH, n_ubatch=BATCH, n_threads=job["threads"],
        n_threads_batch=job["threads"], type_k=llama_cpp.GGML_TYPE_F16,
        type_v=llama_cpp.GGML_TYPE_F16, verbose=False, **flash)
    return model, 1000 * (time.perf_counter() - started)


def step(model, ids):
    """Evaluates the ids and gives the greedy next one."""
    context = model._ctx.ctx
    tokens = (llama_cpp.llama_token * len(ids))(*ids)  # the batch only points to them
    batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
    if llama_cpp.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")
    logits = llama_cpp.llama_get_logits_ith(context, -1)
    n = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model._model.model))
    return int(np.argmax(np.ctypeslib.as_array(logits, shape=(n,))))


def measure(model, ids, tokens):
    llama_cpp.llama_memory_clear(memory_of(model), True)
    started = time.perf_counter()
    token = step(model, ids)
    first = time.perf_counter()
    for _ in range(tokens - 1):
        token = step(model, [token])
    ended = time.perf_counter()
    return {"prefill": len(ids) / (first - started), "decode": (tokens - 1) / (ended - first)}


def memory_of(model):
    return llama_cpp.llama_get_memory(model._ctx.ctx)


class Turns:
    """Answers pieces of work; what stands before decoded tokens stays in the cache between them."""

    def __init__(self, model, job):
        self.model, self.vocabulary, self.depth = model, job["vocabulary"], 0

    def extend(self, n):
        """Evaluates n more tokens, and gives the greedy next one."""
        ids = [7919 * (self.depth + k) % self.vocabulary for k in range(n)]
        for first in range(0, n, BATCH):
            token = step(self.model, ids[first:first + BATCH])
        self.depth += n
        return token

    def cut(self, depth):
        llama_cpp.llama_memory_seq_rm(memory_of(self.model), 0, depth, -1)
        self.depth = depth

    def prefill(self, n):
        self.cut(0)
        started = time.perf_counter()
        self.extend(n)
        return n / (time.perf_counter() - started)

    def decode(self, n, after):
        """The last of the tokens before is read anew, as its logits choose the first."""
        self.cut(min(self.depth, after - 1))
        token = self.extend(after - self.depth)
        started = time.perf_counter()
        for _ in range(n):
            token = step(self.model, [token])
        rate = n / (time.perf_counter() - started)
        self.cut(after)
        return rate


def about():
    return {"version": llama_cpp.__version__,
            "instructions": llama_cpp.llama_print_system_info().decode()}  # fmt: skip


def take_turns(model, job):
    turns = Turns(model, job)
    print(json.dumps(about()), flush=True)
    for line in sys.stdin:
        work = json.loads(line)
        rate = (turns.decode(work["decode"], work["after"]) if "decode" in work
                else turns.prefill(work["prefill"]))  # fmt: skip
        print(json.dumps(rate), flush=True)


def main():
    path, job = sys.argv[1], json.loads(sys.argv[2])
    model, load_ms = open_model(path, job)
    if job.get("turns"):
        return take_turns(model, job)
    steps = []
    for i, prompt in enumerate(job["prompts"]):
        ids = [(job["seed"] + i + 7919 * k) % job["vocabulary"] for k in range(prompt["count"])]
        steps.append(measure(model, ids, prompt["tokens"]))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**about(), "loadMs": load_ms, "steps": steps, "peakBytes": peak}))


if __name__ == "__main__":
    main()
