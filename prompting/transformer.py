"""One of CLIP's own residual attention blocks, driven from outside on batch-first tokens.

The weights and sub-modules are the block's; the order of the dimensions, who attends to whom, and
which tokens are kept are ours.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# From queries (B, N, d), keys and values (B, L, 2 d) and the number of heads to (B, N, d).
Attend = Callable[[Tensor, Tensor, int], Tensor]
# From attention's matrix (3 d, d) and bias (3 d,), tokens (B, L, d) and which rows of the matrix
# to these rows of queries, keys and values.
Project = Callable[[Tensor, Tensor, Tensor, slice], Tensor]
GELU_SLOPE = 1.702  # CLIP's QuickGELU has it as a number only


def project(weight: Tensor, bias: Tensor, x: Tensor, rows: slice) -> Tensor:
    """Return queries, keys and values (B, L, 3 d) of tokens (B, L, d), or some of their rows."""
    return F.linear(x, weight[rows], bias[rows])


def attend(query: Tensor, key_value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Return softmax(Q K^T / sqrt(d / heads) + mask) V, by heads: (B, N, d).

    Args:
        query: (B, N, d).
        key_value: (B, L, 2 d), the keys in front of the values.
        mask: additive, (N, L) or (B, 1, N, L), or None to attend everywhere.
    """
    parts = (query, *key_value.chunk(2, dim=-1))
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    return _mix(query, key, value, mask).transpose(1, 2).flatten(2)


def run_block(
    block: nn.Module,
    x: Tensor,
    attend: Attend = attend,
    adapter: Callable[[Tensor], Tensor] | None = None,
    needed: Callable[[Tensor], Tensor] | None = None,
    project: Project = project,
) -> Tensor:
    """Apply a block.

    Args:
        block: `ResidualAttentionBlock` of clip or open_clip.
        x: tokens (B, L, d).
        attend: who attends to whom; by default all of a sequence to each other.
        adapter: a function of the normalised input, added to the output.
        needed: picks the N tokens (B, N, d) whose output is needed, by default all L. The others
            are attended to all the same.
        project: makes queries, keys and values of the normalised input.

    Returns:
        (B, N, d).
    """
    w, width = _weights(block, x.device.type), x.shape[-1]
    project = partial(project, w.in_weight, w.in_bias)
    normed = block.ln_1(x)
    if needed is None:
        query, key_value = project(normed, slice(None)).split((width, 2 * width), dim=-1)
    else:
        key_value = project(normed, slice(width, None))
        x, normed = needed(x), needed(normed)
        query = project(normed, slice(width))
    mixed = attend(query, key_value, block.attn.num_heads)
    x = x + _scaled(block, "ls_1", F.linear(mixed, w.out_weight, w.out_bias))
    x = x + _scaled(block, "ls_2", _mlp(block.mlp, w, block.ln_2(x)))
    return x if adapter is None else x + adapter(normed)


def _scaled(block: nn.Module, name: str, x: Tensor) -> Tensor:
    """Apply open_clip's layer scale; OpenAI's blocks have none."""
    scale = getattr(block, name, None)
    return x if scale is None else scale(x)


class _Weights(NamedTuple):
    """Hold what a block's products take: of attention, and of the MLP's two layers."""

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    fc_weight: Tensor
    fc_bias: Tensor  # times GELU_SLOPE
    proj_weight: Tensor
    proj_bias: Tensor


# By what they were made of: a CUDA graph reads those of its precision where they lie.
_prepared: WeakKeyDictionary[nn.Module, dict[tuple, _Weights]] = WeakKeyDictionary()


def _weights(block: nn.Module, device: str) -> _Weights:
    """Return a block's weights; of a frozen block those that were prepared at its first use.

    Autocast casts a frozen weight whenever it is used, which for all of CLIP's are several hundred
    kernels a step. Here it finds them cast.
    """
    attention, layers = block.attn, (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj)
    own = [attention.in_proj_weight, attention.in_proj_bias]
    own += [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else own[0].dtype
    traced = torch.compiler.is_compiling()  # export: what is made then belongs to the trace
    if traced or any(parameter.requires_grad or parameter.is_inference() for parameter in own):
        return _prepare(own, own[0].dtype)
    key = (dtype, *((id(p), p.dtype, p.device, p._version) for p in own))
    kept = _prepared.setdefault(block, {})
    if key not in kept:
        with torch.inference_mode(False):  # or no later step could take a gradient through them
            kept[key] = _prepare(own, dtype)
    return kept[key]


def _prepare(own: list[Tensor], dtype: torch.dtype) -> _Weights:
    weights = _Weights(*own)
    weights = weights._replace(fc_bias=GELU_SLOPE * weights.fc_bias)
    return _Weights(*(weight.to(dtype) for weight in weights))


def _mlp(mlp: nn.Module, w: _Weights, x: Tensor) -> Tensor:
    """Apply the block's MLP; x sigmoid(a x) is silu(a x) / a, and the products take a."""
    if type(mlp.gelu).__name__ != "QuickGELU":  # the `clip` of a checkout has its own
        return mlp(x)
    inner = torch.addmm(w.fc_bias, x.flatten(0, -2), w.fc_weight.T, alpha=GELU_SLOPE)
    outer = torch.addmm(w.proj_bias, F.silu(inner), w.proj_weight.T, alpha=1 / GELU_SLOPE)
    return outer.view(x.shape)


def _mix(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Return the attention of (B, heads, tokens, d / heads)."""
    if query.is_cuda:
        mask = None if mask is None else mask.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # On a CPU the fused kernel's backward pass is several times slower at these lengths.
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    return scores.float().softmax(dim=-1).to(value.dtype) @ value
