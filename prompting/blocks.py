"""One of CLIP's own residual attention blocks, driven from outside on batch-first tokens.

The weights and sub-modules are the block's; only the order of the dimensions and the keys and
values that come from elsewhere are ours.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


def run_block(
    block: nn.Module,
    x: Tensor,
    mask: Tensor | None = None,
    past: KeysValues | None = None,
    adapter: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, KeysValues]:
    """Apply a block.

    Args:
        block: `clip.model.ResidualAttentionBlock`.
        x: tokens (B, L, d).
        mask: (L, P + L) additive, or None to attend everywhere.
        past: keys and values (H, heads, P, d / heads) of prefixes: each of the H is shared by the
            next B / H sequences.
        adapter: a function of the normalised input, added to the output.

    Returns:
        The block's output (B, L, d), and its keys and values (B, heads, L, d / heads).
    """
    attention = block.attn
    batch, length, width = x.shape
    heads = attention.num_heads
    normed = block.ln_1(x)
    qkv = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    qkv = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    query, key, value = qkv.unbind()
    own = (key, value)
    if past is not None:
        key, value = (
            torch.cat([_repeat(before, batch), now], dim=2)
            for before, now in zip(past, own, strict=True)
        )
    mixed = _attend(query, key, value, mask).transpose(1, 2).reshape(batch, length, width)
    x = x + attention.out_proj(mixed)
    x = x + block.mlp(block.ln_2(x))
    return x if adapter is None else x + adapter(normed), own


def _repeat(prefixes: Tensor, batch: int) -> Tensor:
    """(H, ...) to (batch, ...): each of them batch / H times in a row."""
    copies = batch // len(prefixes)
    return prefixes[:, None].expand(-1, copies, -1, -1, -1).flatten(0, 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V."""
    if query.is_cuda:
        mask = None if mask is None else mask.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # On a CPU the fused kernel's backward pass is several times slower at these lengths.
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


def causal_mask(length: int, past: int, device: torch.device) -> Tensor:
    """(length, past + length): -inf above the diagonal that starts after the shared prefix."""
    mask = torch.full((length, past + length), float("-inf"), device=device)
    return mask.triu(past + 1)
