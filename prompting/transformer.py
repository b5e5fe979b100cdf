"""One of CLIP's own residual attention blocks, driven from outside on batch-first tokens.

The weights and sub-modules are the block's; the order of the dimensions, who attends to whom, and
which tokens are kept are ours.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# From queries (B, N, d), keys and values (B, L, 2 d) and the number of heads to (B, N, d).
Attend = Callable[[Tensor, Tensor, int], Tensor]
# From attention, tokens (B, L, d) and the rows of its matrix to those of queries, keys and values.
Project = Callable[[nn.MultiheadAttention, Tensor, slice], Tensor]
GELU_SLOPE = 1.702  # CLIP's QuickGELU has it as a number only


def project(attention: nn.MultiheadAttention, x: Tensor, rows: slice = slice(None)) -> Tensor:
    """Return queries, keys and values (B, L, 3 d) of tokens (B, L, d), or some of their rows."""
    return F.linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows])


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
        block: `clip.model.ResidualAttentionBlock`.
        x: tokens (B, L, d).
        attend: who attends to whom; by default all of a sequence to each other.
        adapter: a function of the normalised input, added to the output.
        needed: picks the N tokens (B, N, d) whose output is needed, by default all L. The others
            are attended to all the same.
        project: makes queries, keys and values of the normalised input.

    Returns:
        (B, N, d).
    """
    attention, width = block.attn, x.shape[-1]
    normed = block.ln_1(x)
    if needed is None:
        query, key_value = project(attention, normed, slice(None)).split((width, 2 * width), dim=-1)
    else:
        key_value = project(attention, normed, slice(width, None))
        x, normed = needed(x), needed(normed)
        query = project(attention, normed, slice(width))
    x = x + attention.out_proj(attend(query, key_value, attention.num_heads))
    x = x + _mlp(block.mlp, block.ln_2(x))
    return x if adapter is None else x + adapter(normed)


def _mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    """Apply the block's MLP; x sigmoid(a x) is silu(a x) / a, and the products take a."""
    inner = torch.addmm(
        GELU_SLOPE * mlp.c_fc.bias, x.flatten(0, -2), mlp.c_fc.weight.T, alpha=GELU_SLOPE
    )
    outer = torch.addmm(mlp.c_proj.bias, F.silu(inner), mlp.c_proj.weight.T, alpha=1 / GELU_SLOPE)
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
