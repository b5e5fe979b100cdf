"""Precision, decided in one place: what CLIP's weights are held in and what runs under autocast.

    fp32   everything in single precision; works everywhere
    amp    weights in fp32, the towers under autocast (fp16 with a gradient scaler on a GPU,
           bf16 on a CPU)
    bf16   CLIP's matrices in bf16
    fp16   CLIP's matrices in fp16, as OpenAI published them

Prompts, optimiser state and losses are fp32 in all four.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

WEIGHT_DTYPES = {
    "fp32": torch.float32,
    "amp": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def check_precision(precision: str) -> None:
    """Raise ValueError for anything but fp32, amp, bf16, fp16."""
    if precision not in WEIGHT_DTYPES:
        raise ValueError(f'Precision "{precision}" is unknown: choose {", ".join(WEIGHT_DTYPES)}.')


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context in which the towers run."""
    if precision != "amp":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if device.type == "cpu" else torch.float16)


def needs_scaler(precision: str, device: torch.device) -> bool:
    """Return whether small gradients would vanish without a gradient scaler."""
    return precision == "amp" and device.type == "cuda"


def cast_matrices(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold CLIP's matrices in `dtype`; layer norms and embeddings stay fp32, as OpenAI has them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention):
            module.to(dtype)
        for name in ("text_projection", "proj"):
            matrix = getattr(module, name, None)
            if isinstance(matrix, nn.Parameter):
                matrix.data = matrix.data.to(dtype)
