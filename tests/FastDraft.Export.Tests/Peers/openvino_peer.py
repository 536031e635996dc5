"""OpenVINO GenAI on folders that were exported here. Prints one JSON object a line.

usage: openvino_peer.py greedy TARGET PROMPTS.jsonl [DRAFT]    ids chosen for each line's "prompt_ids", as many as its "greedy_ids"
       openvino_peer.py tokenize FOLDER STRINGS.jsonl          how many strings give the ids, ids with specials and text that they should
"""
import json
import sys

import numpy as np
import openvino as ov
import openvino_genai as genai

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


def greedy(target, prompts, draft=None):
    pairs = {"draft_model": genai.draft_model(draft, "CPU", **EXACT)} if draft else {}
    pipe = genai.LLMPipeline(target, "CPU", **EXACT, **pairs)
    for row in map(json.loads, open(prompts, encoding="utf-8")):
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos, config.apply_chat_template = len(row["greedy_ids"]), False, True, False
        if draft:
            config.num_assistant_tokens = 4
        ids = np.array([row["prompt_ids"]], dtype=np.int64)
        out = pipe.generate(genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids))), config)
        print(json.dumps({"ids": [int(i) for i in out.tokens[0]], "accepted": out.extended_perf_metrics.get_num_accepted_tokens() if draft else None}))


def tokenize(folder, strings):
    tokenizer = genai.Tokenizer(folder)
    counts = {"ids": 0, "idsWithSpecials": 0, "decoded": 0, "total": 0}
    for row in map(json.loads, open(strings, encoding="utf-8")):
        for count, key, special in (("ids", "ids", False), ("idsWithSpecials", "ids_with_special", True)):
            ids = tokenizer.encode(row["text"], add_special_tokens=special).input_ids.data
            counts[count] += [int(i) for i in ids.reshape(-1)] == row[key]
        counts["decoded"] += tokenizer.decode(row["ids"], skip_special_tokens=False) == row["decoded"] if row["ids"] else row["decoded"] == ""
        counts["total"] += 1
    print(json.dumps(counts))


{"greedy": greedy, "tokenize": tokenize}[sys.argv[1]](*sys.argv[2:])
