"""Precision, decided in one place: what CLIP's weights are held in and what runs under autocast.

    fp32   everything in single precision; works everywhere
    tf32   the same, but a GPU multiplies matrices with 10 bits of mantissa
    amp    weights in fp32, the towers under autocast (fp16 with a gradient scaler on a GPU,
           bf16 on a CPU)
    bf16   CLIP's matrices in bf16
    fp16   CLIP's matrices in fp16, as OpenAI published them (on a GPU with a gradient scaler)
    auto   amp on a GPU, fp32 on a CPU

Prompts, optimiser state and losses are fp32 in all of them.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

WEIGHT_DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "amp": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def settle_precision(precision: str, device: torch.device) -> str:
    """Return what a precision is on a device, and have a GPU compute in it.

    What is set there is the process's: the last precision that was asked for counts.

    Raises:
        ValueError: an unknown precision.
    """
    known = ("auto", *WEIGHT_DTYPES)
    if precision not in known:
        raise ValueError(f'Precision "{precision}" is unknown: choose {", ".join(known)}.')
    if precision == "auto":
        precision = "amp" if device.type == "cuda" else "fp32"
    if device.type == "cuda":
        _set_cuda_flags(tf32=precision == "tf32")
    return precision


def _set_cuda_flags(tf32: bool) -> None:
    """Say what PyTorch would decide by itself, and partly otherwise from version to version."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # of convolutions; by default they have it
    # Sums stay in fp32 where matrices are in half precision.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    # cuDNN's attention builds a plan for each shape that it meets, and shapes change with the
    # classes: off until a measurement shows that it pays.
    torch.backends.cuda.enable_cudnn_sdp(False)


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context in which the towers run."""
    if precision != "amp":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if device.type == "cpu" else torch.float16)


def needs_scaler(precision: str, device: torch.device) -> bool:
    """Return whether small gradients would vanish without a gradient scaler."""
    return precision in ("amp", "fp16") and device.type == "cuda"


def cast_matrices(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold CLIP's matrices in `dtype`; layer norms and embeddings stay fp32, as OpenAI has them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention):
            module.to(dtype)
        for name in ("text_projection", "proj"):
            matrix = getattr(module, name, None)
            if isinstance(matrix, nn.Parameter):
                matrix.data = matrix.data.to(dtype)
