"""Prefill and decode of a GGUF file by native llama.cpp, as the page of bench:peers measures it.

    python tests/bench/native.py FILE JOB

JOB is JSON: threads, context, vocabulary, seed, prompts [{count, tokens}]. Needs the package
llama-cpp-python; prints one JSON line: version, instructions (what the build uses of the
processor's), loadMs, peakBytes (resident), steps [{prefill, decode}] in tokens per second. Ids are
the page's: (seed + 7919 i) mod vocabulary; each next token is the greedy choice.

With "turns" in the job, prefill and decode are numbers of tokens, and each line of standard input
is answered by their tokens per second: for tests/bench/turns.mjs.
"""
import json
import resource
import sys
import time

import llama_cpp
import numpy as np


def open_model(path, job):
    started = time.perf_counter()
    model = llama_cpp.Llama(
        path, n_ctx=job["context"], n_batch=512, n_ubatch=512, n_threads=job["threads"],
        n_threads_batch=job["threads"], verbose=False)
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
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model._ctx.ctx), True)
    started = time.perf_counter()
    token = step(model, ids)
    first = time.perf_counter()
    for _ in range(tokens - 1):
        token = step(model, [token])
    ended = time.perf_counter()
    return {"prefill": len(ids) / (first - started), "decode": (tokens - 1) / (ended - first)}


def take_turns(model, job):
    ids = [7919 * k % job["vocabulary"] for k in range(max(8, job["prefill"]))]
    for _ in sys.stdin:
        prefill = measure(model, ids[:job["prefill"]], 2)["prefill"]
        decode = measure(model, ids[:8], job["decode"] + 1)["decode"]
        print(json.dumps({"prefill": prefill, "decode": decode}), flush=True)


def main():
    path, job = sys.argv[1], json.loads(sys.argv[2])
    model, load_ms = open_model(path, job)
    if job.get("turns"):
        return take_turns(model, job)
    steps = []
    for i, prompt in enumerate(job["prompts"]):
        ids = [(job["seed"] + i + 7919 * k) % job["vocabulary"] for k in range(prompt["count"])]
        steps.append(measure(model, ids, prompt["tokens"]))
    print(json.dumps({
        "version": llama_cpp.__version__,
        "instructions": llama_cpp.llama_print_system_info().decode(),
        "loadMs": load_ms, "steps": steps,
        "peakBytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
