"""What `npm run bench -- cuda-tasks` and sb-eval are held against, on PyTorch and transformers.

  make FOLDER TOKENIZER        a tiny LLaMA of random weights, float32, saved by transformers with the tokenizer
  check FOLDER SAMPLES...      log-likelihoods of sb-eval's samples by torch in float32, tokenized here; the largest differences
  loop FOLDER SHARE            seconds of a loop like lm-evaluation-harness's (sorted by length, batches padded on the right, one
                               row a request, float32 log-softmax) for that part of the requests in the bench's --work folder,
                               with a LLaMA of the 1B's size in bfloat16
  harness FOLDER SHARE         the same by lm-evaluation-harness itself, which is in PYTHONPATH
"""
import json
import sys
import time
import types

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def make(folder, tokenizer):
    torch.manual_seed(0)
    wrapped = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
    config = LlamaConfig(
        vocab_size=len(wrapped), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.1, tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).float().save_pretrained(folder)
    import shutil
    shutil.copy(tokenizer, f"{folder}/tokenizer.json")


def pair(tokenizer, context, continuation):
    kept = context.rstrip()
    continuation = context[len(kept):] + continuation
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
    before = encode(kept)
    return before, encode(kept + continuation)[len(before):]


@torch.no_grad()
def check(folder, *samples):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    count, largest, flipped, by_task = 0, 0.0, 0, {}
    for path in samples:
        for line in open(path, encoding="utf-8"):
            one = json.loads(line)
            for r, (value, greedy) in enumerate(one["answers"]):
                given = one["arguments"][f"gen_args_{r}"]
                before, after = pair(tokenizer, given["arg_0"], given["arg_1"])
                logits = model(torch.tensor([(before + after)[:-1]])).logits[0].float()
                rows = torch.log_softmax(logits[len(before) - 1:], dim=-1)
                wanted = rows[range(len(after)), after].double().sum().item()
                count += 1
                apart = abs(wanted - value)
                largest = max(largest, apart)
                by_task[one["task"]] = max(by_task.get(one["task"], 0), apart)
                flipped += bool((rows.argmax(-1) == torch.tensor(after)).all()) != greedy
    print(json.dumps({"requests": count, "largest": largest, "greedyApart": flipped, "byTask": by_task}))


def random_model(device):
    """The 1B's sizes in bfloat16, which stays torch's default type; tiny on a CPU, to try the script there."""
    size = dict(hidden_size=1536, intermediate_size=4096, num_hidden_layers=40, num_attention_heads=24, vocab_size=49152)
    if device == "cpu":
        size = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=49152)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        return LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=True, max_position_embeddings=4096)).eval()


@torch.no_grad()
def loop(requests, share):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    all_pairs = [json.loads(line)["tokens"] for line in open(f"{requests}/hellaswag-requests.jsonl")]
    pairs = all_pairs[: int(len(all_pairs) * float(share))]
    model = random_model(device)
    pairs.sort(key=lambda pair: -len(pair[0]) - len(pair[1]))

    def run(part, batch):
        for first in range(0, len(part), batch):
            rows = part[first:first + batch]
            inputs = [(context + after)[:-1] for context, after in rows]
            longest = max(map(len, inputs))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in inputs], device=device)
            logits = torch.log_softmax(model(ids).logits, dim=-1, dtype=torch.float32)
            for i, (context, after) in enumerate(rows):
                own = logits[i, len(context) - 1:len(context) - 1 + len(after)]
                target = torch.tensor(after, device=device)
                own.gather(1, target[:, None]).sum().item()
                (own.argmax(-1) == target).all().item()

    for batch in (64,):
        run(pairs[:2 * batch], batch)
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.time()
        run(pairs, batch)
        seconds = time.time() - start
        print(json.dumps({"batch": batch, "requests": len(pairs), "of": len(all_pairs), "seconds": seconds,
                          "secondsForAll": seconds * len(all_pairs) / len(pairs)}))


def harness(requests, share):
    """The harness is a folder in PYTHONPATH; what it imports and does not need here may be missing."""

    class Missing(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    while True:
        try:
            from lm_eval.api.instance import Instance
            from lm_eval.models.huggingface import HFLM

            break
        except ModuleNotFoundError as error:
            sys.modules[error.name] = Missing(error.name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    all_requests = [json.loads(line) for line in open(f"{requests}/hellaswag-requests.jsonl")]
    asked = all_requests[: int(len(all_requests) * float(share))]
    model = random_model(device)
    torch.set_default_dtype(torch.float32)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{requests}/tokenizer.json", eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=64, softmax_dtype="float32", max_length=4096)
    instances = [Instance("loglikelihood", {}, (one["context"], one["continuation"]), i) for i, one in enumerate(asked)]
    lm.loglikelihood(instances[:128], disable_tqdm=True)
    start = time.time()
    answers = lm.loglikelihood(instances, disable_tqdm=True)
    seconds = time.time() - start
    assert len(answers) == len(asked)
    print(json.dumps({"what": "lm-evaluation-harness's HFLM.loglikelihood, batches of 64, bfloat16, softmax in float32", "requests": len(asked),
                      "of": len(all_requests), "seconds": seconds, "secondsForAll": seconds * len(all_requests) / len(asked),
                      "transformers": transformers.__version__, "torch": torch.__version__}))


if __name__ == "__main__":
    {"make": make, "check": check, "loop": loop, "harness": harness}[sys.argv[1]](*sys.argv[2:])
