"""Records training trajectories of a small ternary mHC-lite transformer with PyTorch.

Usage: python3 record.py OUTDIR

Writes init.safetensors, batches.json and trajectory.json to OUTDIR. README.md beside this file gives
the formulae and the conventions. Everything random comes from Python's own generator with fixed seeds.
Takes about six minutes on one core, nearly all of it in search of sequences without rounding ties.
"""

import copy
import json
import math
import os
import platform
import random
import struct
import sys

import torch
import torch.nn.functional as F

CONFIG = {
    "vocab": 64, "dim": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 96,
    "seq_len": 24, "batch": 3, "micro_batches": 2, "steps": 20, "group": 32, "streams": 2,
    "rope_theta": 10000.0, "norm_eps": 1e-6, "scale_floor": 1e-8,
    "beta1": 0.9, "beta2": 0.999, "adam_eps": 1e-8, "clip": 1.0,
    "lr_ternary": 3e-3, "wd_ternary": 0.1, "lr_other": 1e-2, "wd_other": 0.0,
    "warmup_steps": 4, "decay_start": 16, "seed_init": 20247, "seed_tokens": 7,
    "init_std": 0.05, "init_std_wq_wk": 0.2, "init_std_embed": 0.15,
    "activation_margin": 1.5e-4, "weight_margin": 2e-5, "float_steps": 8,
}
SCHEDULE = ("step counted from 0; step < 4: (step+1)/4; 4 <= step < 16: 1; "
            "step >= 16: 0.1 + 0.45*(1 + cos(pi*p)), p = (step-16)/(20-16)")
REFERENCE = {"act_bits": 8, "rope": "interleaved", "scale": "mean"}
VARIANTS = {"rope_split_half": {**REFERENCE, "rope": "split_half"}, "scale_max": {**REFERENCE, "scale": "max"}}
LINEARS = ("attn.wq", "attn.wk", "attn.wv", "attn.wo", "ffn.gate", "ffn.up", "ffn.down")


# --- quantizers: value replaced in the forward pass, gradient passed through unchanged -------------

class Straight(torch.autograd.Function):
    """Returns its second argument; its first receives the gradient, with no mask."""

    @staticmethod
    def forward(ctx, x, replacement):
        return replacement.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def ternary(w, mode):
    """w [out, in] -> the same shape; one scale per group of 32 along `in`."""
    groups = w.detach().reshape(w.shape[0], -1, CONFIG["group"])
    size = groups.abs().amax(-1, keepdim=True) if mode["scale"] == "max" else groups.abs().mean(-1, keepdim=True)
    scale = size.clamp(min=CONFIG["scale_floor"])
    t = torch.round(groups / scale).clamp(-1, 1)  # torch.round rounds halves to even
    return Straight.apply(w, (t * scale).reshape(w.shape))


def int8_tokens(x, margins):
    """x [batch, T, features]; one scale per token. Notes in margins how near each sequence comes to a tie."""
    d = x.detach()
    s = d.abs().amax(-1, keepdim=True).clamp(min=CONFIG["scale_floor"]) / 127
    if margins is not None:
        margins.append(((d / s) % 1 - 0.5).abs().amin((-1, -2)))
    return Straight.apply(x, torch.round(d / s).clamp(-127, 127) * s)


def bitlinear(x, w, mode):
    if mode["act_bits"] == 8:
        x = int8_tokens(x, mode.get("margins"))
    return x @ ternary(w, mode).T


# --- the model ------------------------------------------------------------------------------------

def rmsnorm(x, gain):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + CONFIG["norm_eps"]) * gain


def rope(x, mode):
    """x [batch, heads, T, head_dim]; angles in float64, then rounded to x's type."""
    d, t = x.shape[-1], x.shape[-2]
    freq = CONFIG["rope_theta"] ** (-torch.arange(0, d, 2, dtype=torch.double) / d)
    angle = torch.arange(t, dtype=torch.double)[:, None] * freq
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    if mode["rope"] == "split_half":  # deliberately wrong: pairs (i, i + d/2)
        a, b = x[..., : d // 2], x[..., d // 2:]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
    a, b = x[..., 0::2], x[..., 1::2]  # pairs (2i, 2i+1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def attention(p, name, x, mode):
    b, t, _ = x.shape
    h, hk, d = CONFIG["heads"], CONFIG["kv_heads"], CONFIG["head_dim"]
    q = bitlinear(x, p[name + ".wq.weight"], mode).view(b, t, h, d).transpose(1, 2)
    k = bitlinear(x, p[name + ".wk.weight"], mode).view(b, t, hk, d).transpose(1, 2)
    v = bitlinear(x, p[name + ".wv.weight"], mode).view(b, t, hk, d).transpose(1, 2)
    q, k = rope(q, mode), rope(k, mode)
    k, v = k.repeat_interleave(h // hk, 1), v.repeat_interleave(h // hk, 1)  # head i reads kv head i // (h/hk)
    score = q @ k.transpose(-1, -2) / math.sqrt(d)
    future = torch.ones(t, t, dtype=torch.bool).triu(1)
    y = score.masked_fill(future, -math.inf).softmax(-1) @ v
    return bitlinear(y.transpose(1, 2).reshape(b, t, h * d), p[name + ".wo.weight"], mode)


def feed_forward(p, name, x, mode):
    gate = bitlinear(x, p[name + ".gate.weight"], mode)
    up = bitlinear(x, p[name + ".up.weight"], mode)
    return bitlinear(F.silu(gate) * up, p[name + ".down.weight"], mode)


def sublayer(p, name, f, s0, s1, mode):
    """One mHC-lite step: read both streams, run f on the normalized read, mix and write."""
    m = name + ".mhc."
    a = torch.sigmoid(p[m + "alpha_logit"])
    pre = torch.sigmoid(p[m + "pre_logits"] + p[m + "pre_bias"])
    post = 2 * torch.sigmoid(p[m + "post_logits"] + p[m + "post_bias"])
    read = pre[0] * s0 + pre[1] * s1
    y = f(p, name, rmsnorm(read, p[name + ".norm.weight"]), mode)
    return a * s0 + (1 - a) * s1 + post[0] * y, (1 - a) * s0 + a * s1 + post[1] * y


def logits(p, tokens, mode=REFERENCE):
    """tokens [batch, T] -> [batch, T, vocab]."""
    s0 = s1 = p["tok_embed.weight"][tokens]
    for layer in range(CONFIG["layers"]):
        s0, s1 = sublayer(p, f"blk.{layer}.attn", attention, s0, s1, mode)
        s0, s1 = sublayer(p, f"blk.{layer}.ffn", feed_forward, s0, s1, mode)
    return bitlinear(rmsnorm((s0 + s1) / 2, p["norm.weight"]), p["lm_head.weight"], mode)


def loss_of(p, batch, mode=REFERENCE):
    """Mean cross-entropy in nats over all tokens of one micro-batch."""
    out = logits(p, torch.tensor(batch["inputs"]), mode)
    return F.cross_entropy(out.flatten(0, 1), torch.tensor(batch["targets"]).flatten())


# --- initial values and data ----------------------------------------------------------------------

def initial_values():
    """Name -> float32 tensor, in a fixed order."""
    rng = random.Random(CONFIG["seed_init"])

    def normal(*shape, mean=0.0, std=0.05):
        n = math.prod(shape)
        return torch.tensor([rng.gauss(mean, std) for _ in range(n)], dtype=torch.double).reshape(shape).float()

    c, q, kv = CONFIG, CONFIG["heads"] * CONFIG["head_dim"], CONFIG["kv_heads"] * CONFIG["head_dim"]
    shapes = {"attn.wq": (q, c["dim"]), "attn.wk": (kv, c["dim"]), "attn.wv": (kv, c["dim"]), "attn.wo": (c["dim"], q),
              "ffn.gate": (c["ffn"], c["dim"]), "ffn.up": (c["ffn"], c["dim"]), "ffn.down": (c["dim"], c["ffn"])}
    # A larger embedding has smaller gradients: the norm then passes the clip in both directions.
    p = {"tok_embed.weight": normal(c["vocab"], c["dim"], std=c["init_std_embed"])}
    index = 0
    for layer in range(c["layers"]):
        for part in ("attn", "ffn"):
            name = f"blk.{layer}.{part}"
            p[name + ".norm.weight"] = normal(c["dim"], mean=1.0, std=0.1)
            for linear in (x for x in LINEARS if x.startswith(part)):
                # At std 0.05 the attention scores would be nearly flat, and RoPE would hardly show in the loss.
                std = c["init_std_wq_wk"] if linear in ("attn.wq", "attn.wk") else c["init_std"]
                p[f"blk.{layer}.{linear}.weight"] = normal(*shapes[linear], std=std)
            home = torch.tensor([1.0 if s == index % 2 else -1.0 for s in range(2)])
            p[name + ".mhc.alpha_logit"] = normal(1, mean=2.0, std=0.3)
            p[name + ".mhc.pre_logits"] = normal(2, std=0.3)
            p[name + ".mhc.pre_bias"] = home + normal(2)
            p[name + ".mhc.post_logits"] = normal(2, std=0.3)
            p[name + ".mhc.post_bias"] = home + normal(2)
            index += 1
    p["norm.weight"] = normal(c["dim"], mean=1.0, std=0.1)
    p["lm_head.weight"] = normal(c["vocab"], c["dim"])
    return p


class TokenSource:
    """A Markov chain in which a token has three likely successors, so that there is something to learn."""

    def __init__(self):
        self.rng = random.Random(CONFIG["seed_tokens"])
        self.successors = [self.rng.sample(range(CONFIG["vocab"]), 3) for _ in range(CONFIG["vocab"])]
        self.drawn = self.kept = 0

    def row(self):
        """seq_len + 1 tokens."""
        row = [self.rng.randrange(CONFIG["vocab"])]
        while len(row) <= CONFIG["seq_len"]:
            likely = self.rng.random() < 0.9
            row.append(self.rng.choice(self.successors[row[-1]] if likely else range(CONFIG["vocab"])))
        return row

    def batch(self, p):
        """Sequences on which no activation of the model p comes within activation_margin of a rounding tie."""
        rows = []
        while len(rows) < CONFIG["batch"]:
            candidates = [self.row() for _ in range(64)]
            margins = []
            with torch.no_grad():
                logits(p, torch.tensor(candidates)[:, :-1], {**REFERENCE, "margins": margins})
            good = torch.stack(margins).amin(0) > CONFIG["activation_margin"]
            rows += [row for row, ok in zip(candidates, good.tolist()) if ok]
            self.drawn += len(candidates)
        self.kept += CONFIG["batch"]
        rows = rows[:CONFIG["batch"]]
        return {"inputs": [r[:-1] for r in rows], "targets": [r[1:] for r in rows]}


# --- training -------------------------------------------------------------------------------------

def lr_factor(step):
    if step < CONFIG["warmup_steps"]:
        return (step + 1) / CONFIG["warmup_steps"]
    if step < CONFIG["decay_start"]:
        return 1.0
    p = (step - CONFIG["decay_start"]) / (CONFIG["steps"] - CONFIG["decay_start"])
    return 0.1 + 0.45 * (1 + math.cos(math.pi * p))


def is_ternary(name):
    return name == "lm_head.weight" or any(name.endswith(linear + ".weight") for linear in LINEARS)


def weight_margin(p):
    """Least distance of any |w|/scale from 1/2, where a ternary weight changes."""
    groups = [v.detach().reshape(-1, CONFIG["group"]).abs() for n, v in p.items() if is_ternary(n)]
    return min((g / g.mean(-1, keepdim=True) - 0.5).abs().min().item() for g in groups)


def update(p, optimizer, micros, step, mode):
    """One optimizer step; returns the loss, the gradient norm before the clip and that of each tensor."""
    optimizer.zero_grad()
    total = 0.0
    for micro in micros:
        loss = loss_of(p, micro, mode) / len(micros)
        loss.backward()
        total += loss.item()
    norms = {n: v.grad.double().norm().item() for n, v in p.items()}
    norm = math.sqrt(sum(x * x for x in norms.values()))
    for v in p.values():
        v.grad.mul_(min(1.0, CONFIG["clip"] / norm))
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * lr_factor(step)
    optimizer.step()
    return total, norm, norms


def choose_micros(p, optimizer, source, step):
    """Micro-batches with no activation near a tie now and no weight near one after the update; undoes the update."""
    before, state = {n: v.detach().clone() for n, v in p.items()}, copy.deepcopy(optimizer.state_dict())
    micros = [source.batch(p) for _ in range(CONFIG["micro_batches"])]
    while True:
        update(p, optimizer, micros, step, REFERENCE)
        margin = weight_margin(p)
        with torch.no_grad():
            for n, v in p.items():
                v.copy_(before[n])
        optimizer.load_state_dict(copy.deepcopy(state))
        if margin > CONFIG["weight_margin"]:
            return micros
        micros[-1] = source.batch(p)


def train(init, data, dtype, mode=REFERENCE, steps=CONFIG["steps"], source=None):
    """Runs the recipe from init in the given type and returns what was recorded.

    With a source, data is filled from it on the way instead of being read.
    """
    c = CONFIG
    p = {name: value.to(dtype, copy=True).requires_grad_() for name, value in init.items()}
    optimizer = torch.optim.AdamW([
        {"params": [v for n, v in p.items() if is_ternary(n)], "base": c["lr_ternary"], "weight_decay": c["wd_ternary"]},
        {"params": [v for n, v in p.items() if not is_ternary(n)], "base": c["lr_other"], "weight_decay": c["wd_other"]},
    ], lr=1.0, betas=(c["beta1"], c["beta2"]), eps=c["adam_eps"])
    rec = {"loss": [], "grad_norm": [], "lr_factor": [], "tensor_grad_norm": {}}
    for step in range(steps):
        if source:
            data["steps"].append(choose_micros(p, optimizer, source, step))
        loss, norm, norms = update(p, optimizer, data["steps"][step], step, mode)
        rec["loss"].append(loss)
        rec["grad_norm"].append(norm)
        rec["lr_factor"].append(lr_factor(step))
        if step in (0, steps - 1):
            rec["tensor_grad_norm"][str(step)] = norms
    if source:
        data["eval"] = source.batch(p)
    with torch.no_grad():
        rec["eval_loss"] = loss_of(p, data["eval"], mode).item()
    rec["final"] = {n: {"sum": v.detach().double().sum().item(), "sum_squares": v.detach().double().square().sum().item()}
                    for n, v in p.items()}
    return rec


# --- how well-conditioned the trajectory is -------------------------------------------------------

def relative(a, b):
    """Where b is 0 (a gradient that vanishes identically) the difference itself."""
    return abs(a - b) / (abs(b) or 1.0)


def deviation(rec, ref):
    """Relative deviations of one recording from another, in the same structure."""
    if isinstance(ref, dict):
        return {k: deviation(rec[k], v) for k, v in ref.items() if k not in ("lr_factor", "initial_logits")}
    if isinstance(ref, list):
        return [relative(a, b) for a, b in zip(rec, ref)]
    return relative(rec, ref)


def largest(devs):
    """Elementwise maximum of recordings of the same structure."""
    if isinstance(devs[0], dict):
        return {k: largest([d[k] for d in devs]) for k in devs[0]}
    if isinstance(devs[0], list):
        return [max(x) for x in zip(*devs)]
    return max(devs)


def rounded(v):
    """Two digits are enough for a deviation."""
    if isinstance(v, dict):
        return {k: rounded(x) for k, x in v.items()}
    return [rounded(x) for x in v] if isinstance(v, list) else float(f"{v:.1e}")


def sensitivity(init, data, ref, mode, steps, dtype, noise, runs):
    """Largest deviations from ref over runs whose initial values are off by a relative noise * N(0,1)."""
    devs = []
    for run in range(runs):
        rng = torch.Generator().manual_seed(run)
        noisy = {n: v.double() * (1 + noise * torch.randn(v.shape, generator=rng, dtype=torch.double))
                 for n, v in init.items()}
        devs.append(deviation(train(noisy, data, dtype, mode, steps), ref))
    return {"noise": noise, "runs": runs, **rounded(largest(devs))}


# --- output ---------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    header, raw = {}, b""
    for name, value in tensors.items():
        data = struct.pack(f"<{value.numel()}f", *value.flatten().tolist())
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(raw), len(raw) + len(data)]}
        raw += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + raw)


def write_json(path, value):
    """One line per entry of the first two levels: readable, and short enough to diff."""
    def level(v, depth):
        if depth == 0 or not isinstance(v, dict):
            return json.dumps(v, separators=(",", ":"))
        pad = "  " * (3 - depth)
        return "{\n" + ",\n".join(f"{pad}{json.dumps(k)}: {level(x, depth - 1)}" for k, x in v.items()) + "\n" + pad[2:] + "}"
    with open(path, "w") as f:
        f.write(level(value, 2) + "\n")


def record(init, data, mode, steps, source=None):
    """The float64 and float32 recordings of one mode, and how far they can be trusted."""
    f64 = train(init, data, torch.double, mode, steps, source)
    f32 = train(init, data, torch.float, mode, steps)
    with torch.no_grad():
        first = torch.tensor(data["steps"][0][0]["inputs"][:1])
        f64["initial_logits"] = logits({n: v.double() for n, v in init.items()}, first, mode)[0].tolist()
    return {
        "f64": f64, "f32": f32, "f32_deviation": rounded(deviation(f32, f64)),
        "f32_sensitivity": sensitivity(init, data, f64, mode, steps, torch.float, 2.0 ** -24, 8),
        "f64_sensitivity": sensitivity(init, data, f64, mode, steps, torch.double, 2.0 ** -21, 8),
    }


def main(outdir):
    torch.set_num_threads(1)  # a fixed order of summation
    init, data, source = initial_values(), {"steps": []}, TokenSource()
    result = {"config": CONFIG, "schedule": SCHEDULE,
              "versions": {"torch": torch.__version__, "python": platform.python_version()}}
    result.update(record(init, data, REFERENCE, CONFIG["steps"], source))
    result["sequences"] = {"drawn": source.drawn, "kept": source.kept}
    result["float_activations"] = record(init, data, {**REFERENCE, "act_bits": 0}, CONFIG["float_steps"])
    result["variants"] = {name: {"loss": train(init, data, torch.double, mode, steps=5)["loss"]}
                          for name, mode in VARIANTS.items()}
    os.makedirs(outdir, exist_ok=True)
    write_safetensors(os.path.join(outdir, "init.safetensors"), init)
    write_json(os.path.join(outdir, "batches.json"), data)
    write_json(os.path.join(outdir, "trajectory.json"), result)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 record.py OUTDIR")
    main(sys.argv[1])
