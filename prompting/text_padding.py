"""Tokenised prompts side by side, each of the full length, for towers that see the pads.

Where a token sees those behind it, nothing that classes share in front stays the same, and pads
count: there is nothing to pack. This has the answers of `text_packing.Packing` for such towers.

    a   cat EOS pad pad | a   dog house EOS pad | ...       C L tokens

Letters: C classes, L tokens of a text, T prompt tokens, H sequences of C L tokens, d width.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from prompting.transformer import attend

Own = TypeVar("Own", bound="Movable")


class Movable:
    """A dataclass whose tensors, and what else can move, go from device to device."""

    def to(self: Own, device: torch.device) -> Own:
        """Return the same on another device."""
        moved = {k: v.to(device) for k, v in vars(self).items() if hasattr(v, "to")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Padding(Movable):
    """Where the tokens of C prompts stand among C L.

    Attributes:
        row, column: (C L,) whose token it is, and where in its prompt.
        end: (C,) which token is read.
        source: (C, L) which of the T prompt tokens replaces this token, -1 for none.
        mask: (L, L), additive, of a causal tower; None: all see each other.
    """

    row: Tensor
    column: Tensor
    end: Tensor
    source: Tensor
    mask: Tensor | None
    prefix = 0  # how many tokens are computed once for all

    def attend(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """Let the tokens of each prompt attend to each other: (H, C L, d).

        Args:
            query: (H, C L, d).
            key_value: (H, C L, 2 d).
        """
        mask = None if self.mask is None else self.mask.to(query.dtype)
        mixed = attend(self._lay_out(query), self._lay_out(key_value), heads, mask)
        return mixed.reshape(query.shape)

    def attend_at_ends(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """Do the same for the tokens that are read: (H, C, d) of query (H, C, d)."""
        mask = self.mask
        if mask is not None:
            rows = mask[self.column[self.end]].to(query.dtype)
            mask = rows[:, None, None].repeat(query.shape[0], 1, 1, 1)
        mixed = attend(query.flatten(0, 1)[:, None], self._lay_out(key_value), heads, mask)
        return mixed.reshape(query.shape)

    def at_ends(self, x: Tensor) -> Tensor:
        """Return the tokens that are read (H, C, d) of all."""
        return x.index_select(1, self.end)

    def fill(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Return x (H, C L, d) with a prompt in its slots.

        Args:
            prompt: (T, d) for all, (C, T, d) with one per class, or (H, 1, T, d).
        """
        source = self.source.flatten()
        index = source.clamp(min=0)
        if prompt.ndim == 3:
            index = self.row * prompt.shape[1] + index
            tokens = prompt.flatten(0, 1)[None]
        else:
            tokens = prompt[None] if prompt.ndim == 2 else prompt[:, 0]
        return torch.where((source >= 0)[:, None], tokens.index_select(1, index), x)

    def unpack(self, x: Tensor, into: "Padding") -> Tensor:
        """Return x: prompts of one class and of all are laid out alike."""
        return x

    def _lay_out(self, x: Tensor) -> Tensor:
        """Return each prompt as its own sequence: (H C, L, d)."""
        return x.reshape(-1, self.source.shape[1], x.shape[-1])


def pad(end: Tensor, source: Tensor, causal: bool) -> Padding:
    """Lay out prompts.

    Args:
        end: (C,) position of the token that is read.
        source: (C, L) which of the T prompt tokens replaces each token, -1 for none.
        causal: whether a token sees none behind it.
    """
    count, length = source.shape
    index = torch.arange(count * length)
    first = torch.arange(count) * length
    mask = torch.full((length, length), float("-inf")).triu(1) if causal else None
    return Padding(index // length, index % length, first + end, source, mask)
