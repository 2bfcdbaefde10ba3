# SPDX-License-Identifier: Apache-2.0
#
# One training step by the code of published models: the classes of Hugging Face transformers (5.x) for OLMoE, Qwen3-MoE,
# Mixtral, DeepSeek-V2 and DeepSeek-V3, made small, with the program's weights put where theirs belong. It is written by
# others from the models themselves, so it also judges the mathematics that torch_model.py repeats.
#
#   torch_published.py GOLDEN_DIR       writes torch_published_NAME.safetensors for every model
#
# These classes compute norms, softmaxes and routers in float32 whatever the model's type, so their gradients are those
# of float32 arithmetic even with float64 weights.
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import safetensors.torch
import torch
import transformers
from torch.nn import functional as F

import torch_model
import torch_one_step as own

DEEPSEEK_EPSILON = {"norm_epsilon": 1e-6}  # their norms of latents know no other
NO_EXTRA_LOSSES = {"aux_coefficient": 0.0, "z_coefficient": 0.0}
CASES = {
    "olmoe": {"qk_norm": "full", "head_dim": 4, "kv_heads": 4, "renormalize": False, "hidden": 16},
    "qwen3_moe": {"qk_norm": "head", "top_k": 3},
    "mixtral": {"layers": 1, "aux_coefficient": 0.1, "head_dim": 6, "tied_head": True},
    "deepseek_v2": own.CASES["mla_softmax"] | DEEPSEEK_EPSILON | {"routed_scaling": 2.0, "balance": "batch"},
    "deepseek_v3": own.CASES["mla_sigmoid"] | DEEPSEEK_EPSILON | own.DENSE_FIRST | {"balance": "batch"},
}


def their_model(name, m):
    common = dict(
        vocab_size=m["vocabulary"], hidden_size=m["hidden"], num_hidden_layers=m["layers"],
        num_attention_heads=m["heads"], num_key_value_heads=m["kv_heads"], num_experts_per_tok=m["top_k"],
        rms_norm_eps=m["norm_epsilon"], max_position_embeddings=m["context"], tie_word_embeddings=m["tied_head"],
        rope_parameters={"rope_type": "default", "rope_theta": m["rope_theta"]}, use_cache=False,
        attn_implementation="eager", experts_implementation="eager", pad_token_id=None, bos_token_id=None,
        eos_token_id=None)
    if name == "olmoe":
        config = transformers.OlmoeConfig(**common, intermediate_size=m["expert_width"], num_experts=m["experts"],
                                          norm_topk_prob=m["renormalize"])
        return transformers.OlmoeForCausalLM(config)
    if name == "qwen3_moe":
        config = transformers.Qwen3MoeConfig(**common, moe_intermediate_size=m["expert_width"], head_dim=m["head_dim"],
                                             num_experts=m["experts"], norm_topk_prob=m["renormalize"],
                                             decoder_sparse_step=1, mlp_only_layers=[])
        return transformers.Qwen3MoeForCausalLM(config)
    if name == "mixtral":
        config = transformers.MixtralConfig(**common, intermediate_size=m["expert_width"], head_dim=m["head_dim"],
                                            num_local_experts=m["experts"], output_router_logits=True,
                                            sliding_window=None)
        return transformers.MixtralForCausalLM(config)
    a = m["mla"]
    latent = dict(
        q_lora_rank=a["q_rank"] or None, kv_lora_rank=a["kv_rank"], qk_nope_head_dim=a["nope_dim"],
        qk_rope_head_dim=a["rope_dim"], v_head_dim=a["value_dim"], n_routed_experts=m["experts"],
        n_shared_experts=m["shared_experts"], moe_intermediate_size=m["expert_width"],
        intermediate_size=m["dense_width"], first_k_dense_replace=m["dense_layers"], n_group=m["route_groups"],
        topk_group=m["route_groups_kept"], routed_scaling_factor=m["routed_scaling"], norm_topk_prob=m["renormalize"])
    if name == "deepseek_v2":
        config = transformers.DeepseekV2Config(**common, **latent, topk_method="group_limited_greedy")
        return transformers.DeepseekV2ForCausalLM(config)
    config = transformers.DeepseekV3Config(**common, **latent, rope_interleave=True, num_mtp_layers=0)
    return transformers.DeepseekV3ForCausalLM(config)


def neighbours(rows):
    """Rows of a half-split rotation in the order of one whose pairs are neighbours."""
    return torch.stack(rows.chunk(2, dim=-2), dim=-2).flatten(-3, -2)


def their_parameters(m, p):
    """Their parameters as functions of ours."""
    H, G, D = m["heads"], m["kv_heads"], m["head_dim"]
    theirs = {"model.embed_tokens.weight": p["embedding"], "model.norm.weight": p["final_norm"],
              "lm_head.weight": p["embedding" if m["tied_head"] else "head"]}
    for layer in range(m["layers"]):
        ours = lambda name: p[f"layer.{layer}/{name}"]
        t = {"input_layernorm.weight": ours("attn_norm"), "post_attention_layernorm.weight": ours("ffn_norm"),
             "self_attn.o_proj.weight": ours("attn_out")}
        if "mla" in m:
            a = m["mla"]
            q = ours("attn_q_b" if a["q_rank"] else "attn_q").unflatten(0, (H, -1))
            q = torch.cat((q[:, : a["nope_dim"]], neighbours(q[:, a["nope_dim"] :])), dim=1).flatten(0, 1)
            t["self_attn.q_b_proj.weight" if a["q_rank"] else "self_attn.q_proj.weight"] = q
            if a["q_rank"]:
                t["self_attn.q_a_proj.weight"] = ours("attn_q_a")
                t["self_attn.q_a_layernorm.weight"] = ours("q_a_norm")
            latent, shared = ours("attn_kv_a").split((a["kv_rank"], a["rope_dim"]))
            t["self_attn.kv_a_proj_with_mqa.weight"] = torch.cat((latent, neighbours(shared)))
            t["self_attn.kv_a_layernorm.weight"] = ours("kv_a_norm")
            t["self_attn.kv_b_proj.weight"] = ours("attn_kv_b")
        else:
            for which, rows in zip("qkv", ours("attn_qkv").split((H * D, G * D, G * D))):
                t[f"self_attn.{which}_proj.weight"] = rows
            if m["qk_norm"] != "none":
                t["self_attn.q_norm.weight"], t["self_attn.k_norm.weight"] = ours("q_norm"), ours("k_norm")

        def feed_forward(prefix, fc1, fc2):
            t[f"{prefix}.gate_proj.weight"], t[f"{prefix}.up_proj.weight"] = ours(fc1).chunk(2)
            t[f"{prefix}.down_proj.weight"] = ours(fc2)

        if layer < m["dense_layers"]:
            feed_forward("mlp", "dense_fc1", "dense_fc2")
        else:
            t["mlp.gate.weight"] = ours("router")
            t["mlp.experts.gate_up_proj"], t["mlp.experts.down_proj"] = ours("fc1"), ours("fc2")
            if m["bias_rate"] > 0:
                t["mlp.gate.e_score_correction_bias"] = ours("router_bias")
            if m["shared_experts"]:
                feed_forward("mlp.shared_experts", "shared_fc1", "shared_fc2")
        theirs |= {f"model.layers.{layer}.{name}": value for name, value in t.items()}
    return theirs


def their_step(name, m, inputs):
    parameters, ids, targets = inputs
    p = {key: value.double().requires_grad_(not key.endswith("bias")) for key, value in parameters.items()}
    model = their_model(name, m).double().train()
    theirs = their_parameters(m, p)
    wanted = set(model.state_dict())
    if set(theirs) != wanted:
        raise RuntimeError(f"{name}: parameters {set(theirs) ^ wanted} have no counterpart")
    for key, value in model.state_dict().items():
        if value.shape != theirs[key].shape:
            raise RuntimeError(f"{name}: {key} is {tuple(value.shape)}, not {tuple(theirs[key].shape)}")
    result = torch.func.functional_call(model, theirs, kwargs={"input_ids": ids})
    token_loss = F.cross_entropy(result.logits.double().flatten(0, 1), targets.flatten(), reduction="none")
    aux = torch.zeros((), dtype=torch.float64)
    if m["aux_coefficient"] > 0:  # theirs counts a token once for each of its experts; it has one layer here
        balance = transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func(
            result.router_logits, m["experts"], m["top_k"])
        aux = m["aux_coefficient"] / m["top_k"] * balance.double()
    loss = token_loss.mean()
    (loss + aux).backward()
    return {"loss": loss.detach(), "aux_loss": aux.detach(), "z_loss": torch.zeros((), dtype=torch.float64),
            "token_loss": token_loss.detach().view_as(targets),
            "gradients": {key: value.grad for key, value in p.items() if value.requires_grad}}


def main(folder):
    for number, (name, options) in enumerate(CASES.items()):
        model = own.DEFAULTS | NO_EXTRA_LOSSES | options
        if "mla" in model:
            model |= NO_EXTRA_LOSSES
        seed, inputs, expected = own.telling_inputs(model, 31000 + 1000 * number)
        result = their_step(name, model, inputs)
        worst = {key: own.gradient_error(value, expected["gradients"][key])
                 for key, value in result["gradients"].items()}
        losses = max(own.loss_error(result[key], expected[key]) for key in ("loss", "aux_loss", "token_loss"))
        key = max(worst, key=worst.get)
        print(f"{name}: seed {seed}; against torch_model.py: losses {losses:.1f} u, gradients {worst[key]:.1f} u ({key})")
        parameters, ids, targets = inputs
        tensors = {f"weight/{key}": value for key, value in parameters.items()}
        tensors |= {"ids": ids.int(), "targets": targets.int()}
        tensors |= {key: result[key].reshape(-1 if key != "token_loss" else targets.shape).contiguous()
                    for key in ("loss", "aux_loss", "z_loss", "token_loss")}
        tensors |= {f"gradient/{key}": value.float().contiguous() for key, value in result["gradients"].items()}
        metadata = {"source": f"transformers {transformers.__version__}, {their_model(name, model).__class__.__name__}, "
                              f"PyTorch {torch.__version__.split('+')[0]} on the CPU; "
                              "tests/training/torch_published.py", "seed": str(seed), "arithmetic": "float32"} | own.describe(name, model)
        path = pathlib.Path(folder) / f"torch_published_{name}.safetensors"
        own.write_sorted(path, safetensors.torch.save(tensors, metadata))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: torch_published.py GOLDEN_DIR")
    main(sys.argv[1])
