"""Softmax attention through PyTorch (FlashAttention-2 and cuDNN) at the shapes given as JSON on the command line, one JSON
line each: what `npm run bench -- cuda --pytorch` puts beside its own figures. Needs PyTorch 2.3 or newer with CUDA."""
import json
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def median_ms(run, repeats=11, in_a_row=8):
    """Median over CUDA events, after a warm-up; several in a row hide the first one's launch."""
    times = []
    for i in range(repeats + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(in_a_row):
            run()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            times.append(start.elapsed_time(end) / in_a_row)
    return sorted(times)[len(times) // 2]


for shape in json.loads(sys.argv[1]):
    size = (shape["batch"], shape["heads"], shape["tokens"], shape["headDim"])
    q, k, v = (torch.randn(size, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    gradient = torch.randn_like(q)
    row = dict(shape)
    for name, backend in (("flashAttention2", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):

        def attend():
            with sdpa_kernel(backend):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

        with torch.no_grad():
            forward = median_ms(attend)
        both = median_ms(lambda: torch.autograd.grad(attend(), (q, k, v), gradient))
        row[name] = {"forwardMs": forward, "bothMs": both}
    row["torch"] = torch.__version__
    print(json.dumps(row), flush=True)
