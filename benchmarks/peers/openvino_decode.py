"""Plain decoding by openvino_genai, to stand beside `FastDraft.Benchmarks decode` in one run.

usage: openvino_decode.py IR_FOLDER PROMPTS.jsonl [f32|default] [tokens=128]
IR_FOLDER holds openvino_model.xml and the tokenizer pair; each line of PROMPTS.jsonl has "prompt_ids".
"""
import json
import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai

folder, prompts, precision = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["f32"])[0]
num_tokens = int((sys.argv[4:] or ["128"])[0])
properties = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"} if precision == "f32" else {}
pipe = genai.LLMPipeline(folder, "CPU", **properties)
config = genai.GenerationConfig()
config.max_new_tokens, config.do_sample, config.ignore_eos, config.apply_chat_template = num_tokens, False, True, False
rows = [json.loads(line) for line in open(prompts, encoding="utf-8")][:10]


def run(row):
    ids = np.array([row["prompt_ids"]], dtype=np.int64)
    started = time.perf_counter()
    pipe.generate(genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids))), config)
    return num_tokens / (time.perf_counter() - started)


run(rows[0])
rates = sorted(run(row) for row in rows)
print(f"openvino_genai {precision}: median {rates[len(rates) // 2]:.1f}, best {rates[-1]:.1f} tokens/s, prompt included, {num_tokens} tokens a run")
