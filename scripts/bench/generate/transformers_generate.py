"""Generation by `transformers` with a LLaMA of the 1B model's size, random weights, bfloat16: what `npm run bench -- cuda-generate`
is held against. Greedy, a static cache, the step compiled (`generate` does so by itself with a static cache on a GPU).

  transformers_generate.py OUT.json [BATCH,PROMPT,TOKENS …] [--wait FILE] [--small]

Tokens a second of the steps alone: a run of TOKENS less one of a quarter of them, both compiled already. --wait times nothing
before FILE is there, so that compiling may go on beside other work. --small: a tiny model, to try the script.
"""
import json
import os
import sys
import time

import torch
import transformers
from transformers import CompileConfig, LlamaConfig, LlamaForCausalLM

args = [one for one in sys.argv[1:] if not one.startswith("--")]
wait = sys.argv[sys.argv.index("--wait") + 1] if "--wait" in sys.argv else None
if wait:
    args.remove(wait)
out, *cases = args
device = "cuda" if torch.cuda.is_available() else "cpu"
size = dict(hidden_size=1536, intermediate_size=4096, num_hidden_layers=40, num_attention_heads=24, vocab_size=49152)
if "--small" in sys.argv:
    size = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=1000)
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
with torch.device(device):
    model = LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=True, max_position_embeddings=4096)).eval()
torch.set_default_dtype(torch.float32)


def synchronize():
    if device == "cuda":
        torch.cuda.synchronize()


def run(batch, prompt, tokens, length, compiled):
    ids = (torch.arange(batch * prompt, device=device).reshape(batch, prompt) * 31 + 7) % size["vocab_size"]
    more = dict(compile_config=CompileConfig(mode="reduce-overhead", dynamic=False)) if compiled else {}
    synchronize()
    start = time.time()
    with torch.no_grad():
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens,
            cache_implementation="static", pad_token_id=0, disable_compile=not compiled, **more,
        )
    synchronize()
    assert made.shape == (batch, prompt + tokens), made.shape
    return time.time() - start


rows = []
for compiled in (True,) if device == "cuda" else (False,):
    parsed = [tuple(map(int, one.split(","))) for one in cases or ["1,512,256", "64,960,64"]]
    for batch, prompt, tokens in parsed:
        start = time.time()
        for _ in range(2):
            run(batch, prompt, tokens, prompt + tokens, compiled)
        rows.append({"batch": batch, "prompt": prompt, "tokens": tokens, "compiled": compiled, "firstSeconds": time.time() - start})
        print(json.dumps(rows[-1]), flush=True)
while wait and not os.path.exists(wait):
    time.sleep(0.2)
for row in rows:
    batch, prompt, tokens = row["batch"], row["prompt"], row["tokens"]
    # The cache has the size of the first run; a shorter one takes it as it is.
    whole = sorted(run(batch, prompt, tokens, prompt + tokens, row["compiled"]) for _ in range(3))[1]
    part = sorted(run(batch, prompt, tokens // 4, prompt + tokens, row["compiled"]) for _ in range(3))[1]
    row.update(wholeSeconds=whole, partSeconds=part, tokensPerSecond=batch * (tokens - tokens // 4) / (whole - part))
    print(json.dumps(row), flush=True)
name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
json.dump({"command": " ".join(["transformers_generate.py", *sys.argv[2:]]), "device": name, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
           "parameters": model.num_parameters(), **versions, "rows": rows}, open(out, "w"), indent=2)
