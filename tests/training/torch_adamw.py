# SPDX-License-Identifier: Apache-2.0
#
# Eight updates by torch.optim.AdamW after torch.nn.utils.clip_grad_norm_, in float64: with a learning rate that changes,
# gradients below and above the clipping norm, a group with weight decay and one without, and gradients of zero.
#
#   torch_adamw.py GOLDEN_DIR       writes torch_adamw.safetensors
import pathlib
import sys

import safetensors.torch
import torch

from torch_one_step import write_sorted

STEPS, CLIP, DECAY, BETAS, EPSILON = 8, 1.0, 0.1, (0.9, 0.95), 1e-8
SIZES = {"decayed": 40, "plain": 25}


def main(folder):
    generator = torch.Generator().manual_seed(3)
    normal = lambda size: torch.randn(size, generator=generator, dtype=torch.float64)
    parameters = {name: torch.nn.Parameter(normal(size)) for name, size in SIZES.items()}
    optimizer = torch.optim.AdamW(
        [{"params": [parameters["decayed"]], "weight_decay": DECAY}, {"params": [parameters["plain"]], "weight_decay": 0.0}],
        betas=BETAS, eps=EPSILON)
    tensors = {f"start/{name}": p.detach().clone() for name, p in parameters.items()}
    rates, norms = [], []
    for step in range(STEPS):
        rates.append(0.01 * (step + 1) / (1 + step % 3))
        for name, p in parameters.items():
            p.grad = normal(SIZES[name]) * [0.02, 1.0, 1e-5, 0.5][step % 4]
            p.grad[:5] = 0.0
            tensors[f"gradient.{step}/{name}"] = p.grad.clone()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
        tensors |= {f"end.{step}/{name}": p.detach().clone() for name, p in parameters.items()}
    tensors["learning_rate"] = torch.tensor(rates, dtype=torch.float64)
    tensors["norm"] = torch.tensor(norms, dtype=torch.float64)
    metadata = {"source": f"PyTorch {torch.__version__.split('+')[0]} on the CPU, float64: torch.optim.AdamW, "
                          "clip_grad_norm_; tests/training/torch_adamw.py", "steps": str(STEPS), "clip": str(CLIP),
                "weight_decay": str(DECAY), "beta1": str(BETAS[0]), "beta2": str(BETAS[1]), "epsilon": str(EPSILON)}
    write_sorted(pathlib.Path(folder) / "torch_adamw.safetensors", safetensors.torch.save(tensors, metadata))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: torch_adamw.py GOLDEN_DIR")
    main(sys.argv[1])
