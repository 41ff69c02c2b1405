# The layer of cuda-moe.mjs in PyTorch: rows sorted by expert, torch._grouped_mm, and the outputs gathered back; eager and by
# torch.compile. The gradients of weights are bfloat16. Beside it matmuls of one weight with as many rows, and a dense SwiGLU as
# wide as the experts that a token passes. Prints one line of JSON: medians of CUDA events in milliseconds.
#   python3 pytorch_moe.py '{"tokens": 16384, "width": 1536, "units": 512, "experts": 64, "active": 8}' [--compile]
import json
import statistics
import sys

import torch
import torch.nn.functional as F

sizes = json.loads(sys.argv[1])
N, C, I, E, k = (sizes[name] for name in ("tokens", "width", "units", "experts", "active"))
R = N * k
torch.manual_seed(0)


def normal(*shape, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).bfloat16()


def milliseconds(run, repeats=7, in_a_row=3):
    run(), run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(in_a_row):
            run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / in_a_row)
    return statistics.median(times)


rows, hidden = normal(R, C), normal(R, I)
up, down = normal(2 * I, C, scale=C**-0.5), normal(C, I, scale=I**-0.5)
input = normal(E, 2 * I, C, scale=C**-0.5).requires_grad_()
output = normal(E, C, I, scale=I**-0.5).requires_grad_()
router = normal(E, C, scale=C**-0.5).requires_grad_()
x, dy = normal(N, C).requires_grad_(), normal(N, C)
even = torch.arange(1, E + 1, device="cuda", dtype=torch.int32) * (R // E)
result = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name()}

with torch.no_grad():
    result["matmulUp"] = milliseconds(lambda: rows @ up.T)
    result["matmulDown"] = milliseconds(lambda: hidden @ down.T)
    result["groupedUp"] = milliseconds(lambda: torch._grouped_mm(rows, input.transpose(1, 2), offs=even))
    result["groupedDown"] = milliseconds(lambda: torch._grouped_mm(hidden, output.transpose(1, 2), offs=even))
    wide = normal(R, 2 * I)
    result["groupedUpWeights"] = milliseconds(lambda: torch._grouped_mm(wide.t(), rows, offs=even))
    result["groupedDownWeights"] = milliseconds(lambda: torch._grouped_mm(rows.t(), hidden, offs=even))
    del wide, rows, hidden


def layer(x):
    largest, choices = (x @ router.T).float().topk(k, 1)
    gates = largest.softmax(1)
    flat = choices.flatten()
    order = flat.argsort(stable=True)
    offsets = torch.bincount(flat, minlength=E).cumsum(0).to(torch.int32)
    place = torch.empty_like(order)
    place[order] = torch.arange(R, device=order.device)
    gate, raised = torch._grouped_mm(x[order // k], input.transpose(1, 2), offs=offsets).chunk(2, 1)
    y = torch._grouped_mm(F.silu(gate) * raised, output.transpose(1, 2), offs=offsets)
    return (y[place].view(N, k, C) * gates.bfloat16()[:, :, None]).sum(1)


denseUp = normal(2 * k * I, C, scale=C**-0.5).requires_grad_()
denseDown = normal(C, k * I, scale=(k * I) ** -0.5).requires_grad_()


def dense(x):
    gate, raised = (x @ denseUp.T).chunk(2, 1)
    return (F.silu(gate) * raised) @ denseDown.T


def both(f, parameters):
    def run():
        f(x).backward(dy)
        for one in parameters:
            one.grad = None

    return run


def measure(name, f, parameters):
    with torch.no_grad():
        result[f"{name}Forward"] = milliseconds(lambda: f(x))
    result[f"{name}Both"] = milliseconds(both(f, parameters))


measure("layer", layer, (x, router, input, output))
measure("dense", dense, (x, denseUp, denseDown))
if "--compile" in sys.argv:
    measure("compiledLayer", torch.compile(layer), (x, router, input, output))
    measure("compiledDense", torch.compile(dense), (x, denseUp, denseDown))
print(json.dumps(result))
