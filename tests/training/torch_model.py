# SPDX-License-Identifier: Apache-2.0
#
# The model once more, in PyTorch: an implementation that shares nothing with the program or its oracle but the
# mathematics (src/model/README.md). Derivatives are autograd's, attention is scaled_dot_product_attention, rotation is
# a complex product, and every expert is computed for every token and weighted with zeros where it was not chosen.
import math

import torch
from torch.nn import functional as F


def rotate(x, theta):
    """RoPE of x [B, heads, T, n]: the pair (i, i + n/2) is one complex number."""
    length, n = x.shape[-2:]
    frequency = theta ** (-2.0 * torch.arange(n // 2, dtype=torch.float64) / n)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    turn = torch.polar(torch.ones_like(angle), angle)
    real, imaginary = torch.chunk(x, 2, dim=-1)
    turned = torch.complex(real, imaginary) * turn.to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)
    return torch.cat((turned.real, turned.imag), dim=-1)


def heads_of(x, count):
    """[B, T, count * n] to [B, count, T, n]."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attention(m, p, h):
    eps = m["norm_epsilon"]
    norm = lambda x, gain: F.rms_norm(x, (x.shape[-1],), gain, eps)
    H, G = m["heads"], m["kv_heads"]
    if "mla" in m:
        a = m["mla"]
        if a["q_rank"] > 0:
            q = F.linear(norm(F.linear(h, p["attn_q_a"]), p["q_a_norm"]), p["attn_q_b"])
        else:
            q = F.linear(h, p["attn_q"])
        q_plain, q_turned = heads_of(q, H).split((a["nope_dim"], a["rope_dim"]), dim=-1)
        latent, shared = F.linear(h, p["attn_kv_a"]).split((a["kv_rank"], a["rope_dim"]), dim=-1)
        kv = heads_of(F.linear(norm(latent, p["kv_a_norm"]), p["attn_kv_b"]), H)
        k_plain, v = kv.split((a["nope_dim"], a["value_dim"]), dim=-1)
        k_turned = rotate(heads_of(shared, 1), m["rope_theta"]).expand(-1, H, -1, -1)
        q = torch.cat((q_plain, rotate(q_turned, m["rope_theta"])), dim=-1)
        k = torch.cat((k_plain, k_turned), dim=-1)
    else:
        D = m["head_dim"]
        q, k, v = F.linear(h, p["attn_qkv"]).split((H * D, G * D, G * D), dim=-1)
        if m["qk_norm"] == "full":
            q, k = norm(q, p["q_norm"]), norm(k, p["k_norm"])
        q, k, v = heads_of(q, H), heads_of(k, G), heads_of(v, G)
        if m["qk_norm"] == "head":
            q, k = norm(q, p["q_norm"]), norm(k, p["k_norm"])
        q, k = rotate(q, m["rope_theta"]), rotate(k, m["rope_theta"])
        k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(mixed.transpose(1, 2).flatten(2), p["attn_out"])


def swiglu(h, fc1, fc2):
    gate, up = F.linear(h, fc1).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, fc2)


class Decision:
    """What a router decided, and how clearly: the smallest relative difference between a winner and a loser."""

    def __init__(self):
        self.expert, self.kept, self.margin = None, None, math.inf

    def note(self, winner, loser, size):
        self.margin = min(self.margin, float(((winner - loser) / size).min()))


def choose(m, s, bias, decision):
    """Experts [tokens, K] of the scores s [tokens, E] in the order of falling biased score."""
    c = s + bias
    size = (s + bias.abs()).amax(dim=-1)
    groups, kept = m["route_groups"], m["route_groups_kept"]
    if groups > 1:
        grouped = c.unflatten(-1, (groups, -1))
        best = grouped.topk(1 if m["group_score"] == "max" else 2, dim=-1).values.sum(dim=-1)
        ranked = best.sort(dim=-1, descending=True)
        if kept < groups:
            decision.note(ranked.values[:, kept - 1], ranked.values[:, kept], 2 * size)
        allowed = F.one_hot(ranked.indices[:, :kept], groups).sum(dim=1).bool()
        c = c.masked_fill(~allowed.repeat_interleave(c.shape[-1] // groups, dim=-1), -math.inf)
    ranked = c.sort(dim=-1, descending=True)
    for k in range(min(m["top_k"], c.shape[-1] - 1)):
        decision.note(ranked.values[:, k], ranked.values[:, k + 1], size)
    return ranked.indices[:, : m["top_k"]]


def drop(m, s, chosen, decision):
    """Which of chosen [B, T, E] (0 or 1) each expert serves, by s [B, T, E]."""
    if m["capacity_factor"] == 0:
        return chosen
    T, E = chosen.shape[1:]
    capacity = math.ceil(m["capacity_factor"] * T * m["top_k"] / E)
    if m["drop"] == "position":
        return chosen * (chosen.cumsum(dim=1) <= capacity)
    claim = torch.where(chosen.bool(), s, -1.0)
    ranked = claim.sort(dim=1, descending=True, stable=True)
    if capacity < T:
        last, rejected = ranked.values[:, capacity - 1], ranked.values[:, capacity]
        decision.note(last, torch.where(rejected < 0, -math.inf, rejected), last.abs())
    place = ranked.indices.argsort(dim=1)
    return chosen * (place < capacity)


def experts(m, p, h, decision):
    """h [B, T, C] to (output, auxiliary loss, z loss), coefficients included."""
    B, T, _ = h.shape
    E, K = m["experts"], m["top_k"]
    z = F.linear(h, p["router"])
    s = z.softmax(dim=-1) if m["gate"] == "softmax" else z.sigmoid()
    bias = p["router_bias"] if m["bias_rate"] > 0 else torch.zeros(E, dtype=h.dtype)
    with torch.no_grad():
        expert = choose(m, s.flatten(0, 1), bias, decision).view(B, T, K)
        chosen = F.one_hot(expert, E).sum(dim=2)
        kept = drop(m, s, chosen, decision)
        decision.expert, decision.kept = expert, kept.gather(2, expert)
    weight = s * chosen
    if m["renormalize"]:
        weight = weight / weight.sum(dim=-1, keepdim=True)
    weight = m["routed_scaling"] * weight * kept
    gate, up = torch.einsum("btc,efc->btef", h, p["fc1"]).chunk(2, dim=-1)
    y = torch.einsum("btef,ecf,bte->btc", F.silu(gate) * up, p["fc2"], weight)
    if m["shared_experts"] > 0:
        y = y + swiglu(h, p["shared_fc1"], p["shared_fc2"])
    share = s / s.sum(dim=-1, keepdim=True)
    scope = (0, 1) if m["balance"] == "batch" else (1,)
    f = chosen.to(h.dtype).mean(dim=scope) / K
    aux = m["aux_coefficient"] * (E * (f * share.mean(dim=scope)).sum(dim=-1)).mean()
    z_loss = m["z_coefficient"] * z.logsumexp(dim=-1).square().mean()
    return y, aux, z_loss


def one_step(m, parameters, ids, targets):
    """Loss, its parts, gradients and decisions. parameters: name to tensor; ids, targets [B, T]."""
    leaves = {name: value.clone().requires_grad_(not name.endswith("router_bias")) for name, value in parameters.items()}
    x = F.embedding(ids, leaves["embedding"])
    aux = z_loss = x.new_zeros(())
    decisions = {}
    for layer in range(m["layers"]):
        prefix = f"layer.{layer}/"
        p = {name[len(prefix):]: value for name, value in leaves.items() if name.startswith(prefix)}
        norm = lambda value, gain: F.rms_norm(value, (m["hidden"],), gain, m["norm_epsilon"])
        x = x + attention(m, p, norm(x, p["attn_norm"]))
        h = norm(x, p["ffn_norm"])
        if layer < m["dense_layers"]:
            x = x + swiglu(h, p["dense_fc1"], p["dense_fc2"])
            continue
        decisions[layer] = Decision()
        y, layer_aux, layer_z = experts(m, p, h, decisions[layer])
        x, aux, z_loss = x + y, aux + layer_aux, z_loss + layer_z
    x = F.rms_norm(x, (m["hidden"],), leaves["final_norm"], m["norm_epsilon"])
    logits = F.linear(x, leaves["embedding" if m["tied_head"] else "head"])
    token_loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    loss = token_loss.mean()
    (loss + aux + z_loss).backward()
    return {
        "loss": loss.detach(),
        "aux_loss": aux.detach(),
        "z_loss": z_loss.detach(),
        "token_loss": token_loss.detach(),
        "gradients": {name: value.grad for name, value in leaves.items() if value.requires_grad},
        "decisions": decisions,
    }


def shapes(m):
    """Name to shape of every parameter."""
    C, V, H, G = m["hidden"], m["vocabulary"], m["heads"], m["kv_heads"]
    result = {"embedding": (V, C), "final_norm": (C,)}
    if not m["tied_head"]:
        result["head"] = (V, C)
    for layer in range(m["layers"]):
        own = {"attn_norm": (C,), "ffn_norm": (C,)}
        if "mla" in m:
            a = m["mla"]
            width = H * (a["nope_dim"] + a["rope_dim"])
            if a["q_rank"] > 0:
                own |= {"attn_q_a": (a["q_rank"], C), "q_a_norm": (a["q_rank"],), "attn_q_b": (width, a["q_rank"])}
            else:
                own["attn_q"] = (width, C)
            own["attn_kv_a"] = (a["kv_rank"] + a["rope_dim"], C)
            own["kv_a_norm"] = (a["kv_rank"],)
            own["attn_kv_b"] = (H * (a["nope_dim"] + a["value_dim"]), a["kv_rank"])
            own["attn_out"] = (C, H * a["value_dim"])
        else:
            D = m["head_dim"]
            own["attn_qkv"] = ((H + 2 * G) * D, C)
            own["attn_out"] = (C, H * D)
            if m["qk_norm"] != "none":
                full = m["qk_norm"] == "full"
                own |= {"q_norm": (H * D if full else D,), "k_norm": (G * D if full else D,)}
        if layer < m["dense_layers"]:
            own |= {"dense_fc1": (2 * m["dense_width"], C), "dense_fc2": (C, m["dense_width"])}
        else:
            E, width = m["experts"], m["expert_width"]
            own |= {"router": (E, C), "fc1": (E, 2 * width, C), "fc2": (E, C, width)}
            if m["bias_rate"] > 0:
                own["router_bias"] = (E,)
            if m["shared_experts"] > 0:
                shared = m["shared_experts"] * width
                own |= {"shared_fc1": (2 * shared, C), "shared_fc2": (C, shared)}
        result |= {f"layer.{layer}/{name}": shape for name, shape in own.items()}
    return result
