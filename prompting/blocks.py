"""One of CLIP's own residual attention blocks, driven from outside on batch-first tokens.

The weights and sub-modules are the block's; only the order of the dimensions and the keys and
values that come from elsewhere are ours.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
GELU_SLOPE = 1.702  # of CLIP's QuickGELU


def run_block(
    block: nn.Module,
    x: Tensor,
    mask: Tensor | None = None,
    past: KeysValues | None = None,
    adapter: Callable[[Tensor], Tensor] | None = None,
    needed: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, KeysValues]:
    """Apply a block.

    Args:
        block: `clip.model.ResidualAttentionBlock`.
        x: tokens (B, L, d).
        mask: additive, (N, P + L) or (B, 1, N, P + L), or None to attend everywhere.
        past: keys and values (H, heads, P, d / heads) of prefixes: each of the H is shared by the
            next B / H sequences.
        adapter: a function of the normalised input, added to the output.
        needed: picks the N tokens (B, N, d) whose output is needed, by default all L. The others
            are attended to all the same.

    Returns:
        The block's output (B, N, d), and its keys and values (B, heads, L, d / heads).
    """
    normed = block.ln_1(x)
    query, *own = _project(block.attn, normed, needed)
    keys, values = own
    if past is not None:
        keys, values = (
            torch.cat([_repeat(before, len(x)), now], dim=2)
            for before, now in zip(past, own, strict=True)
        )
    mixed = _attend(query, keys, values, mask).transpose(1, 2).flatten(2)
    if needed is not None:
        x, normed = needed(x), needed(normed)
    x = x + block.attn.out_proj(mixed)
    x = x + _mlp(block.mlp, block.ln_2(x))
    return x if adapter is None else x + adapter(normed), (own[0], own[1])


def keys_and_values(block: nn.Module, x: Tensor) -> KeysValues:
    """Those of tokens x (B, L, d) in a block, where its output is not needed."""
    _, keys, values = _project(block.attn, block.ln_1(x), lambda normed: normed[:, :0])
    return keys, values


def _project(
    attention: nn.MultiheadAttention,
    normed: Tensor,
    needed: Callable[[Tensor], Tensor] | None,
) -> list[Tensor]:
    """Queries of the needed tokens, keys and values of all: (B, heads, tokens, d / heads) each."""
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, normed.shape[-1]
    if needed is None:
        parts = F.linear(normed, weight, bias).split(width, dim=-1)
    else:
        query = F.linear(needed(normed), weight[:width], bias[:width])
        parts = (query, *F.linear(normed, weight[width:], bias[width:]).split(width, dim=-1))
    return [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts]


def _mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    """The block's own; its x sigmoid(a x) is silu(a x) / a, and the matrix products take a."""
    inner = torch.addmm(
        GELU_SLOPE * mlp.c_fc.bias, x.flatten(0, -2), mlp.c_fc.weight.T, alpha=GELU_SLOPE
    )
    outer = torch.addmm(mlp.c_proj.bias, F.silu(inner), mlp.c_proj.weight.T, alpha=1 / GELU_SLOPE)
    return outer.view(x.shape)


def _repeat(prefixes: Tensor, batch: int) -> Tensor:
    """(H, ...) to (batch, ...): each of them batch / H times in a row."""
    copies = batch // len(prefixes)
    return prefixes[:, None].expand(-1, copies, -1, -1, -1).flatten(0, 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V."""
    if query.is_cuda:
        mask = None if mask is None else mask.to(query.dtype)  # they differ under autocast
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # On a CPU the fused kernel's backward pass is several times slower at these lengths.
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


def causal_mask(length: int, past: int, like: Tensor) -> Tensor:
    """(length, past + length): -inf above the diagonal that starts after the shared prefix.

    Args:
        like: a tensor of its dtype and device.
    """
    mask = torch.full((length, past + length), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu(past + 1)
