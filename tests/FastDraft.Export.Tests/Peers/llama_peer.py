"""llama.cpp on GGUF files that were exported here. Prints one JSON object a line.

usage: llama_peer.py greedy MODEL.gguf PROMPTS.jsonl       ids chosen for each line's "prompt_ids", as many as its "greedy_ids"
       llama_peer.py tokenize MODEL.gguf STRINGS.jsonl     how many strings give the ids that they should
"""
import json
import sys

import llama_cpp
import numpy as np


def greedy(path, prompts):
    rows = [json.loads(line) for line in open(prompts, encoding="utf-8")]
    model = llama_cpp.Llama(path, n_ctx=max(len(r["prompt_ids"]) + len(r["greedy_ids"]) for r in rows), n_threads=1, n_threads_batch=1, verbose=False)
    for row in rows:
        model.reset()
        ids, tokens = [], row["prompt_ids"]
        while len(ids) < len(row["greedy_ids"]):
            model.eval(tokens)
            logits = np.ctypeslib.as_array(model._ctx.get_logits_ith(-1), shape=(model.n_vocab(),))
            tokens = [int(logits.argmax())]
            ids += tokens
        print(json.dumps({"ids": ids}))


def tokenize(path, strings):
    model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    counts = {"ids": 0, "idsWithSpecials": 0, "total": 0, "wrong": []}
    for row in map(json.loads, open(strings, encoding="utf-8")):
        text = row["text"].encode("utf-8")
        equal = model.tokenize(text, add_bos=False, special=True) == row["ids"]
        counts["ids"] += equal
        counts["idsWithSpecials"] += model.tokenize(text, add_bos=True, special=True) == row["ids_with_special"]
        counts["total"] += 1
        if not equal and len(counts["wrong"]) < 10:
            counts["wrong"].append(row["text"])
    print(json.dumps(counts))


{"greedy": greedy, "tokenize": tokenize}[sys.argv[1]](*sys.argv[2:])
