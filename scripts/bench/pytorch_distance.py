# For cuda-distance.mjs: trains the same small models in PyTorch, from the same first weights, in float32 and under bfloat16 autocast,
# and prints the losses of each seed as JSON. usage: pytorch_distance.py TOKENS WEIGHTS SETTINGS
import json, sys
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = False
s = json.loads(sys.argv[3])
weights = np.fromfile(sys.argv[2], dtype=np.float32).reshape(s["seeds"], -1)
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

    def named(self):
        """Parameters by the names that the weights come with (Hugging Face's)."""
        yield "model.embed_tokens.weight", self.e.weight
        yield "model.norm.weight", self.norm.weight
        yield "lm_head.weight", self.head.weight
        for i, b in enumerate(self.blocks):
            layer = f"model.layers.{i}."
            yield layer + "input_layernorm.weight", b.n1.weight
            yield layer + "post_attention_layernorm.weight", b.n2.weight
            for name in "qkvo":
                yield layer + f"self_attn.{name}_proj.weight", getattr(b, name).weight
            for name in ("gate", "up", "down"):
                yield layer + f"mlp.{name}_proj.weight", getattr(b, name).weight

    @torch.no_grad()
    def load(self, values):
        """The numbers of all parameters, one after another in the order of s["names"]."""
        mine, at = dict(self.named()), 0
        assert sorted(mine) == sorted(s["names"]) and sum(p.numel() for p in mine.values()) == values.size
        for name in s["names"]:
            p = mine[name]
            p.copy_(torch.from_numpy(values[at : at + p.numel()].reshape(p.shape)))
            at += p.numel()

    def forward(self, x, y):
        h = self.e(x)
        for block in self.blocks:
            h = block(h, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(h)).flatten(0, 1).float(), y.flatten())


def losses(seed, autocast):
    model = Model()
    model.load(weights[seed])
    model.cuda()
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


print(json.dumps([{"float32": losses(i, False), "autocast": losses(i, True)} for i in range(s["seeds"])]))
