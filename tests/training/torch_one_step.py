# SPDX-License-Identifier: Apache-2.0
#
# One training step by PyTorch (torch_model.py), as golden files and as a live comparison.
#
#   torch_one_step.py make GOLDEN_DIR                     writes torch_one_step_NAME.safetensors for every case
#   torch_one_step.py check DUMP SOURCE_DIR GOLDEN_DIR    runs the program's step (one_step_dump) on every golden file's
#                                                         weights and on new ones, and compares with PyTorch of today
#
# Without PyTorch (2.4 or later) and safetensors `check` says so and exits with 77, which CTest counts as skipped; the
# golden files are then still compared by torch_golden_test.cpp.
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors
    import safetensors.torch
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 4):
        raise ImportError(f"PyTorch {torch.__version__} has no rms_norm")
except ImportError as error:
    print(f"NOT TESTED, PyTorch with safetensors is not usable here: {error}", file=sys.stderr)
    sys.exit(77)

import torch_model

# Tolerance of a gradient, in units of u = 2^-24 (float32) or 2^-53 (float64) and relative to |g| plus the root mean
# square of its tensor; tests/gradient/model_vs_oracle_test.cpp derives the form. Here: 3 layers of at most 42 stages
# forward and back (MLA has 6 products and 4 norms), head and loss: 136 stages; chains of at most 40 terms (vocabulary);
# the largest of 1e5 elements 4.5 deviations out; norms and softmaxes multiply by 4: sqrt(136 * 40) * 4.5 * 4 = 1328.
# Two computations, of which one is exact in comparison. Losses are relative to 1 + |loss|, after half the stages.
GRADIENT_UNITS = 1536
LOSS_UNITS = GRADIENT_UNITS / 2
MARGIN = 1e-3  # no router may decide more narrowly: float32 scores err by LOSS_UNITS u = 5e-5
SEQUENCES, LENGTH = 2, 12

DEFAULTS = {
    "layers": 2, "vocabulary": 40, "hidden": 20, "heads": 4, "kv_heads": 2, "head_dim": 6, "rope_theta": 100.0,
    "norm_epsilon": 1e-3, "qk_norm": "none", "dense_layers": 0, "dense_width": 0, "experts": 8, "top_k": 2,
    "expert_width": 8, "shared_experts": 0, "gate": "softmax", "renormalize": True, "routed_scaling": 1.0,
    "route_groups": 1, "route_groups_kept": 1, "group_score": "max", "bias_rate": 0.0, "capacity_factor": 0.0,
    "drop": "probability", "aux_coefficient": 0.1, "balance": "batch", "z_coefficient": 0.05, "tied_head": False,
    "init_std": 0.02, "context": 16,
}
NEW_KEYS = ("qk_norm", "gate", "routed_scaling", "route_groups", "route_groups_kept", "group_score", "bias_rate",
            "capacity_factor", "drop", "balance")
DENSE_FIRST = {"layers": 3, "dense_layers": 1, "dense_width": 24}
CASES = {
    "gqa_softmax": {"shared_experts": 1, **DENSE_FIRST},
    "gqa_sigmoid": {"gate": "sigmoid", "shared_experts": 2, "routed_scaling": 1.5, "tied_head": True},
    "qk_norm_head": {"qk_norm": "head", "top_k": 3},
    "qk_norm_full": {"qk_norm": "full", "kv_heads": 4, "renormalize": False},
    "mla_softmax": {"mla": {"q_rank": 0, "kv_rank": 10, "nope_dim": 6, "rope_dim": 4, "value_dim": 5},
                    "kv_heads": 4, "head_dim": 10, "renormalize": False, "route_groups": 4, "route_groups_kept": 1,
                    "balance": "sequence", "shared_experts": 1, **DENSE_FIRST},
    "mla_sigmoid": {"mla": {"q_rank": 14, "kv_rank": 10, "nope_dim": 4, "rope_dim": 2, "value_dim": 6},
                    "kv_heads": 4, "head_dim": 6, "gate": "sigmoid", "routed_scaling": 2.5, "route_groups": 4,
                    "route_groups_kept": 2, "group_score": "top2_sum", "bias_rate": 0.01, "balance": "sequence",
                    "shared_experts": 1, "top_k": 3},
    "capacity_probability": {"capacity_factor": 0.75, "drop": "probability"},
    "capacity_position": {"gate": "sigmoid", "capacity_factor": 0.75, "drop": "position", "bias_rate": 0.01},
}


def toml(name, model):
    """The model file; keys whose absence means the default are left out at their default."""
    lines = [f"name = {json.dumps(name)}"]
    for key, value in model.items():
        if key == "mla" or (key in NEW_KEYS and value == DEFAULTS[key]):
            continue
        lines.append(f"{key} = {json.dumps(value)}")
    if "mla" in model:
        lines += ["[mla]"] + [f"{key} = {value}" for key, value in model["mla"].items()]
    return "\n".join(lines) + "\n"


def random_inputs(model, seed):
    """Parameters (float32: matrices N(0, 0.3^2), gains 1 + N(0, 0.1^2), router biases N(0, 0.1^2)), ids, targets."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, shape in sorted(torch_model.shapes(model).items()):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("norm"):
            values = 1 + 0.1 * values
        else:
            values = (0.1 if name.endswith("bias") else 0.3) * values
        parameters[name] = values.float()
    ids, targets = (torch.randint(model["vocabulary"], (SEQUENCES, LENGTH), generator=generator) for _ in range(2))
    return parameters, ids, targets


def step(model, inputs, dtype):
    parameters, ids, targets = inputs
    return torch_model.one_step(model, {name: value.to(dtype) for name, value in parameters.items()}, ids, targets)


def same_decisions(a, b):
    return all(torch.equal(a["decisions"][layer].expert, b["decisions"][layer].expert) and
               torch.equal(a["decisions"][layer].kept, b["decisions"][layer].kept) for layer in a["decisions"])


def shows_its_options(model, inputs, result):
    """No decision is narrow, and groups, bias and capacity each change a decision."""
    if min(decision.margin for decision in result["decisions"].values()) < MARGIN:
        return False
    without = [{"route_groups": 1, "route_groups_kept": 1}] if model["route_groups"] > 1 else []
    without += [{"bias_rate": 0.0}] if model["bias_rate"] > 0 else []
    if model["capacity_factor"] > 0:
        without += [{"capacity_factor": 0.0}, {"drop": "position" if model["drop"] == "probability" else "probability"}]
    return not any(same_decisions(result, step(model | change, inputs, torch.float64)) for change in without)


def telling_inputs(model, first_seed):
    for seed in range(first_seed, first_seed + 1000):
        inputs = random_inputs(model, seed)
        result = step(model, inputs, torch.float64)
        if shows_its_options(model, inputs, result):
            return seed, inputs, result
    raise RuntimeError("1000 seeds do not show what the options do")


def gradient_error(got, expected):
    """Largest error in units of u = 2^-24."""
    got, expected = got.double(), expected.double()
    error = (got - expected).abs() / (expected.abs() + expected.square().mean().sqrt())
    return float(error.nan_to_num(nan=0.0 if torch.equal(got, expected) else torch.inf).max()) * 2.0**24


def loss_error(got, expected):
    got, expected = got.double().reshape(-1), expected.double().reshape(-1)
    return float(((got - expected).abs() / (1 + expected.abs())).max()) * 2.0**24


def describe(name, model):
    """Attributes of a golden file that say which model: the model file, and its keys one by one."""
    keys = {f"model.{key}": str(value) for key, value in model.items() if key != "mla"}
    return {"model": toml(name, model)} | keys | {f"model.mla.{key}": str(value)
                                                  for key, value in model.get("mla", {}).items()}


def write_sorted(path, content):
    """A safetensors file with the header's keys in order: the writer's order changes from run to run."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


def make(folder):
    for number, (name, options) in enumerate(CASES.items()):
        model = DEFAULTS | options
        seed, inputs, result = telling_inputs(model, 1000 * (number + 1))
        parameters, ids, targets = inputs
        tensors = {f"weight/{key}": value for key, value in parameters.items()}
        tensors |= {"ids": ids.int(), "targets": targets.int()}
        tensors |= {key: result[key].reshape(-1 if key != "token_loss" else (SEQUENCES, LENGTH)).contiguous()
                    for key in ("loss", "aux_loss", "z_loss", "token_loss")}
        tensors |= {f"gradient/{key}": value.contiguous() for key, value in result["gradients"].items()}
        for layer, decision in result["decisions"].items():
            tensors[f"expert/layer.{layer}"] = decision.expert.flatten(0, 1).int().contiguous()
            tensors[f"kept/layer.{layer}"] = decision.kept.flatten(0, 1).int().contiguous()
        single = step(model, inputs, torch.float32)
        worst = max(gradient_error(single["gradients"][key], value) for key, value in result["gradients"].items())
        metadata = {"source": f"PyTorch {torch.__version__.split('+')[0]} on the CPU, float64, autograd; "
                              "tests/training/torch_one_step.py", "seed": str(seed), "arithmetic": "float64",
                    "float32_gradient_error": f"{worst:.1f} units of 2^-24, by the same code in float32"}
        metadata |= describe(name, model)
        path = pathlib.Path(folder) / f"torch_one_step_{name}.safetensors"
        write_sorted(path, safetensors.torch.save(tensors, metadata))
        margin = min(decision.margin for decision in result["decisions"].values())
        print(f"{path.name}: seed {seed}, {path.stat().st_size} bytes, loss {float(result['loss']):.4f}, "
              f"margin {margin:.4f}, float32 {worst:.1f} u")


def run_program(dump, source, name, model, inputs):
    parameters, ids, targets = inputs
    with tempfile.TemporaryDirectory() as folder:
        at = lambda file: os.path.join(folder, file)
        with open(at("model.toml"), "w") as file:
            file.write(toml(name, model))
        safetensors.torch.save_file(parameters, at("weights.safetensors"))
        numpy.save(at("ids.npy"), ids.int().numpy())
        numpy.save(at("targets.npy"), targets.int().numpy())
        subprocess.run([dump, "step", at("model.toml"), os.path.join(source, "studies/recipes/f32.toml"),
                        at("weights.safetensors"), at("ids.npy"), at("targets.npy"), at("out.safetensors")], check=True)
        return safetensors.torch.load_file(at("out.safetensors"))


def compare(title, got, expected):
    """Problems of the program's step; prints the worst errors."""
    problems = []
    losses = {key: loss_error(got[key], expected[key]) for key in ("loss", "aux_loss", "z_loss", "token_loss")}
    problems += [f"{key}: {error:.0f} u" for key, error in losses.items() if not error <= LOSS_UNITS]
    gradients = {}
    for key, value in expected["gradients"].items():
        gradients[key] = gradient_error(got[f"gradient/{key}"], value)
        if not gradients[key] <= GRADIENT_UNITS:
            problems.append(f"gradient of {key}: {gradients[key]:.0f} u")
    for layer, decision in expected["decisions"].items():
        if not torch.equal(got[f"expert/layer.{layer}"].long(), decision.expert.flatten(0, 1)):
            problems.append(f"layer {layer} chooses other experts")
        if not torch.equal(got[f"weight/layer.{layer}"] != 0, decision.kept.flatten(0, 1).bool()):
            problems.append(f"layer {layer} drops other slots")
    worst = max(gradients, key=gradients.get)
    print(f"{title}: losses {max(losses.values()):.1f} of {LOSS_UNITS:.0f} u, "
          f"gradients {gradients[worst]:.1f} of {GRADIENT_UNITS} u ({worst})")
    return [f"{title}: {problem}" for problem in problems]


def check(dump, source, golden):
    problems = []
    for name, options in CASES.items():
        model = DEFAULTS | options
        path = os.path.join(golden, f"torch_one_step_{name}.safetensors")
        file = safetensors.torch.load_file(path)
        inputs = ({key[len("weight/"):]: value for key, value in file.items() if key.startswith("weight/")},
                  file["ids"].long(), file["targets"].long())
        with safetensors.safe_open(path, "pt") as opened:
            if opened.metadata()["model"] != toml(name, model):
                problems.append(f"{name}: the golden file was made for another model")
        today = step(model, inputs, torch.float64)
        worst = max(gradient_error(value, file[f"gradient/{key}"]) for key, value in today["gradients"].items())
        if not worst <= GRADIENT_UNITS * 2.0**-28:  # two float64 computations
            problems.append(f"{name}: PyTorch {torch.__version__} gives other gradients than the golden file: {worst} u")
        problems += compare(f"{name}, golden weights", run_program(dump, source, name, model, inputs), today)
        seed, inputs, result = telling_inputs(model, 77000)
        problems += compare(f"{name}, seed {seed}", run_program(dump, source, name, model, inputs), result)
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "make":
        make(sys.argv[2])
    elif len(sys.argv) == 5 and sys.argv[1] == "check":
        sys.exit(check(*sys.argv[2:]))
    else:
        sys.exit("usage: torch_one_step.py make GOLDEN_DIR | check DUMP SOURCE_DIR GOLDEN_DIR")
