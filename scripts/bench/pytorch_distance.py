# For cuda-distance.mjs: trains the same small model in PyTorch in float32 and under bfloat16 autocast, and prints for each seed
# the largest difference of the losses as JSON. usage: pytorch_distance.py TOKENS SETTINGS
import json, sys
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = False
s = json.loads(sys.argv[2])
ids = torch.from_numpy(np.fromfile(sys.argv[1], dtype=np.int32)).long().cuda()
C, H, T = s["hiddenSize"], s["numHeads"], s["contextLength"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(C, eps=1e-5), nn.RMSNorm(C, eps=1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(C, C, bias=False) for _ in range(4))
        f = s["intermediateSize"]
        self.gate, self.up, self.down = nn.Linear(C, f, bias=False), nn.Linear(C, f, bias=False), nn.Linear(f, C, bias=False)

    def forward(self, x, cos, sin):
        B = x.shape[0]
        n = self.n1(x)
        q, k, v = (one(n).view(B, T, H, C // H).transpose(1, 2) for one in (self.q, self.k, self.v))

        def turn(u):
            a, b = u.float().chunk(2, -1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(u.dtype)

        y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(B, T, C))
        n = self.n2(x)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.head = nn.Embedding(s["vocabSize"], C), nn.Linear(C, s["vocabSize"], bias=False)
        self.blocks, self.norm = nn.ModuleList([Block() for _ in range(s["numLayers"])]), nn.RMSNorm(C, eps=1e-5)
        d = C // H
        angles = torch.outer(torch.arange(T), 1 / 10000 ** (torch.arange(0, d, 2) / d))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, x, y):
        h = self.e(x)
        for block in self.blocks:
            h = block(h, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1).float(), y.flatten())


def losses(seed, autocast):
    torch.manual_seed(seed)
    model = Model().cuda()
    groups = [[p for p in model.parameters() if (p.dim() > 1) == decays] for decays in (True, False)]
    optimizer = torch.optim.AdamW(
        [{"params": g, "weight_decay": w} for g, w in zip(groups, (0.1, 0.0))], lr=s["rate"], betas=(0.9, 0.95)
    )
    n, out = s["tokensPerStep"], []
    for step in range(s["steps"]):
        at = (seed * s["steps"] + step) * n
        x, y = ids[at : at + n].view(-1, T), ids[at + 1 : at + n + 1].view(-1, T)
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        out.append(loss.item())
    return out


print(json.dumps([max(abs(a - b) for a, b in zip(losses(i, False), losses(i, True))) for i in range(s["seeds"])]))
