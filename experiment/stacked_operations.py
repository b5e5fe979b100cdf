"""Operations of which `torch.func.vmap` makes more than they need, on stacks of seeds.

PyTorch's rules split a matrix product with a bias into two or three kernels, and leave a mask that
all seeds share as it was for one, which the fused attention kernels refuse. Here the seeds become
part of the batch. Gradients flow through what the `vmap` methods call, which are plain operations.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Stacked(torch.autograd.Function):
    """Share what the operations have in common."""

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        """Keep nothing: what is no stack has no gradient."""


class _Linear(_Stacked):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def vmap(info, in_dims: tuple, x: Tensor, *matrix: Tensor | None) -> tuple[Tensor, int]:
        if in_dims[1:] != (None, None):  # each seed has its own
            return torch.func.vmap(F.linear, in_dims)(x, *matrix), 0
        return F.linear(x.movedim(in_dims[0], 0), *matrix), 0


class _Addmm(_Stacked):
    @staticmethod
    def forward(bias: Tensor, x: Tensor, matrix: Tensor, alpha: float) -> Tensor:
        return torch.addmm(bias, x, matrix, alpha=alpha)

    @staticmethod
    def vmap(
        info, in_dims: tuple, bias: Tensor, x: Tensor, matrix: Tensor, alpha: float
    ) -> tuple[Tensor, int]:
        if in_dims[0] is not None or in_dims[2] is not None:
            stacked = torch.func.vmap(torch.addmm, in_dims[:3])
            return stacked(bias, x, matrix, alpha=alpha), 0
        rows = x.movedim(in_dims[1], 0).flatten(0, 1)
        return torch.addmm(bias, rows, matrix, alpha=alpha).unflatten(0, (info.batch_size, -1)), 0


class _Attention(_Stacked):
    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    @staticmethod
    def vmap(info, in_dims: tuple, *tensors: Tensor | None) -> tuple[Tensor, int]:
        seeds = info.batch_size
        *qkv, mask = (
            x if dim is None else x.movedim(dim, 0) for x, dim in zip(tensors, in_dims, strict=True)
        )
        query, key, value = (
            (x.expand(seeds, *x.shape) if dim is None else x).flatten(0, 1)
            for x, dim in zip(qkv, in_dims, strict=False)
        )
        if mask is not None and mask.ndim > 2:  # one for each of the batch
            mask = mask.expand(seeds, *mask.shape[-4:]).flatten(0, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.unflatten(0, (seeds, -1)), 0


class StackedOperations(TorchFunctionMode):
    """Within it these operations treat a stack of seeds as one batch."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.linear and not kwargs:
            return _Linear.apply(*args, *[None] * (3 - len(args)))
        if function is torch.addmm and list(kwargs) == ["alpha"]:
            return _Addmm.apply(*args, kwargs["alpha"])
        if function is F.scaled_dot_product_attention and list(kwargs) == ["attn_mask"]:
            return _Attention.apply(*args, kwargs["attn_mask"])
        return function(*args, **kwargs)
