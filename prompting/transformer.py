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
GELU_SLOPE = 1.702  # CLIP's QuickGELU has it as a number only


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
) -> Tensor:
    """Apply a block.

    Args:
        block: `ResidualAttentionBlock` of clip or open_clip.
        x: tokens (B, L, d).
        attend: who attends to whom; by default all of a sequence to each other.
        adapter: a function of the normalised input, added to the output.
        needed: picks the N tokens (B, N, d) whose output is needed, by default all L. The others
            are attended to all the same.

    Returns:
        (B, N, d).
    """
    attention, width = block.attn, x.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    normed = block.ln_1(x)
    if needed is None:
        query, key_value = F.linear(normed, weight, bias).split((width, 2 * width), dim=-1)
    else:
        key_value = F.linear(normed, weight[width:], bias[width:])
        x, normed = needed(x), needed(normed)
        query = F.linear(normed, weight[:width], bias[:width])
    x = x + _scaled(
        block, "ls_1", attention.out_proj(attend(query, key_value, attention.num_heads))
    )
    x = x + _scaled(block, "ls_2", _mlp(block.mlp, block.ln_2(x)))
    return x if adapter is None else x + adapter(normed)


def _scaled(block: nn.Module, name: str, x: Tensor) -> Tensor:
    """Apply open_clip's layer scale; OpenAI's blocks have none."""
    scale = getattr(block, name, None)
    return x if scale is None else scale(x)


def _mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    """Apply the block's MLP; x sigmoid(a x) is silu(a x) / a, and the products take a."""
    if type(mlp.gelu).__name__ != "QuickGELU":  # the `clip` of a checkout has its own
        return mlp(x)
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
