"""Peers of `FastDraft.Benchmarks exports`: decode prompts as they come on stdin and print one JSON object for each.

usage: exports_peer.py openvino TARGET_FOLDER TOKENS [DRAFT_FOLDER DRAFT_LENGTH]
       exports_peer.py llama TARGET.gguf TOKENS
Each line of stdin is a list of token ids; the first line printed is the engine, once its models are loaded. Seconds include the
prompt. Both compute in float32 on two threads.
"""
import json
import sys
import time


def openvino(target, num_tokens, draft=None, draft_length=0):
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    pipe = genai.LLMPipeline(target, "CPU", **exact, **({"draft_model": genai.draft_model(draft, "CPU", **exact)} if draft else {}))
    config = genai.GenerationConfig()
    config.max_new_tokens, config.do_sample, config.ignore_eos, config.apply_chat_template = num_tokens, False, True, False
    if draft:
        config.num_assistant_tokens = int(draft_length)

    def decode(prompt):
        ids = np.array([prompt], dtype=np.int64)
        started = time.perf_counter()
        out = pipe.generate(genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids))), config)
        seconds = time.perf_counter() - started
        figures = out.extended_perf_metrics if draft else None
        return {
            "seconds": seconds,
            "ids": [int(i) for i in out.tokens[0]],
            "accepted": figures.get_num_accepted_tokens() if draft else 0,
            "drafted": figures.get_num_draft_tokens() if draft else 0,
        }

    return decode, f"OpenVINO GenAI {genai.__version__}"


def llama(target, num_tokens):
    import llama_cpp
    import numpy as np

    model = llama_cpp.Llama(target, n_ctx=1024, n_threads=2, n_threads_batch=2, verbose=False)
    context, vocabulary = model._ctx.ctx, model.n_vocab()

    def decode(prompt):
        model._ctx.kv_cache_clear()
        ids, tokens = [], prompt
        started = time.perf_counter()
        while True:
            array = (llama_cpp.llama_token * len(tokens))(*tokens)
            if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
                raise RuntimeError("llama_decode failed")
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(vocabulary,))
            ids.append(int(logits.argmax()))
            if len(ids) == num_tokens:
                return {"seconds": time.perf_counter() - started, "ids": ids, "accepted": 0, "drafted": 0}
            tokens = ids[-1:]

    return decode, f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"


engine, target, num_tokens, *rest = sys.argv[1:]
decode, name = {"openvino": openvino, "llama": llama}[engine](target, int(num_tokens), *rest)
print(json.dumps({"engine": name}), flush=True)
for line in sys.stdin:
    used = time.process_time()
    text = decode(json.loads(line))
    print(json.dumps({**text, "cpu": time.process_time() - used}), flush=True)
