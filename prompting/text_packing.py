"""Tokenised prompts end to end: what they share comes once, and nothing is padded.

The tower is causal, so the tokens that all prompts share in front (the prefix) are the same in
every layer whatever follows, and nothing behind a prompt's end matters. For the classes "cat",
"dog house" and "owl", where [.] is a prompt token:

    padded, 77 tokens each:
    SOS [.] [.] a cat .   EOT   0   0 ... 0
    SOS [.] [.] a dog house .   EOT 0 ... 0
    SOS [.] [.] a owl .   EOT   0   0 ... 0

    packed, P + N = 4 + 10 tokens:
    SOS [.] [.] a | cat . EOT | dog house . EOT | owl . EOT
    `-- prefix --'  `-------------- suffixes -------------'

Only attention looks at more than one token. Its mask is the causal one in both parts: prefix tokens
see each other, and each suffix, laid out in a grid (C, L), sees the prefix and itself:

    prefix   x                    suffix of a class   x x x x | x
             x x                                      x x x x | x x
             x x x                                    x x x x | x x x
             x x x x                                  prefix    itself

Where a tower sees the pads, all of them stay: `pad` makes a packing without a prefix.

Letters: C classes, P prefix tokens, L tokens of the longest suffix, N of all suffixes together,
T prompt tokens, H sequences of P + N tokens, d width.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
import torch.nn.functional as F
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
class Packing(Movable):
    """Where the tokens of C prompts stand among P prefix and N suffix tokens.

    Attributes:
        prefix: P; 0 of padded prompts.
        row, column: (P + N,) whose token it is, and where in its prompt; the prefix is row 0's.
        grid: (C, L) which packed token stands there; behind a prompt's end, its last.
        suffix: (N,) where in the grid each suffix token stands.
        end: (C,) which packed token is the prompt's last.
        prefix_mask, suffix_mask: (P, P) and (L, P + L), additive: of prefix tokens over each other,
            and of suffix tokens over prefix and suffix; None: all see each other.
        end_mask: (C, 1, 1, P + L) of each prompt's last token.
        slots: where the first token stands that a prompt token replaces, and one past the last.
        source, replaced: of the tokens between, which of the T prompt tokens replaces it, if any.
        in_order: whether these are the T prompt tokens one after the other.
    """

    prefix: int
    row: Tensor
    column: Tensor
    grid: Tensor
    suffix: Tensor
    end: Tensor
    prefix_mask: Tensor | None
    suffix_mask: Tensor | None
    end_mask: Tensor | None
    slots: tuple[int, int]
    source: Tensor
    replaced: Tensor
    in_order: bool

    def masks(self, dtype: torch.dtype) -> tuple[Tensor | None, ...]:
        """Return prefix, suffix and end masks in a dtype, made at its first use."""
        if dtype not in self._masks:
            with torch.inference_mode(False):
                masks = (self.prefix_mask, self.suffix_mask, self.end_mask)
                self._masks[dtype] = tuple(None if m is None else m.to(dtype) for m in masks)
        return self._masks[dtype]

    @cached_property
    def _masks(self) -> dict[torch.dtype, tuple[Tensor | None, ...]]:
        return {}

    def attend(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """Let each token attend to those before it in its prompt: (H, P + N, d).

        Args:
            query: (H, P + N, d).
            key_value: (H, P + N, 2 d).
        """
        length = self.prefix
        prefix_mask, suffix_mask, _ = self.masks(query.dtype)
        suffix = attend(self._lay_out(query), self._visible(key_value), heads, suffix_mask)
        if not length:
            return suffix.reshape(query.shape)
        prefix = attend(query[:, :length], key_value[:, :length], heads, prefix_mask)
        suffix = suffix.reshape(len(query), -1, query.shape[-1]).index_select(1, self.suffix)
        return torch.cat([prefix, suffix], dim=1)

    def attend_at_ends(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """Do the same for the last token of each prompt alone: (H, C, d) of query (H, C, d)."""
        mask = self.masks(query.dtype)[2]
        if mask is not None and len(query) > 1:
            mask = mask.repeat(len(query), 1, 1, 1)
        rows = query.flatten(0, 1)[:, None]
        mixed = attend(rows, self._visible(key_value), heads, mask)
        return mixed.reshape(len(key_value), len(self.end), -1)

    def at_ends(self, x: Tensor) -> Tensor:
        """Return the last token of each prompt (H, C, d) of packed ones."""
        return x.index_select(1, self.end)

    def _lay_out(self, x: Tensor) -> Tensor:
        """Return the suffix tokens (H C, L, d) of packed ones."""
        count, length = self.grid.shape
        if self.prefix:  # else they lie in the grid's order
            x = x.index_select(1, self.grid.flatten())
        return x.reshape(len(x) * count, length, -1)

    def _visible(self, x: Tensor) -> Tensor:
        """Return what each suffix may see: (H C, P + L, d) of packed tokens."""
        count = len(self.grid)
        if not self.prefix:
            return self._lay_out(x)
        prefix = x[:, None, : self.prefix].expand(-1, count, -1, -1).flatten(0, 1)
        return torch.cat([prefix, self._lay_out(x)], dim=1)

    def fill(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Return x (H, P + N, d) with a prompt in its slots.

        Args:
            prompt: (T, d) for all, (C, T, d) with one per class, or (H, 1, T, d).
        """
        start, stop = self.slots
        if prompt.ndim == 3:
            index = self.row[start:stop] * prompt.shape[1] + self.source
            tokens = prompt.flatten(0, 1)[None].index_select(1, index)
        else:
            tokens = prompt[None] if prompt.ndim == 2 else prompt[:, 0]
            tokens = tokens if self.in_order else tokens.index_select(1, self.source)
        if not self.in_order:
            tokens = torch.where(self.replaced, tokens, x[:, start:stop])
        return torch.cat([x[:, :start], tokens.expand(len(x), -1, -1), x[:, stop:]], dim=1)

    def unpack(self, x: Tensor, into: "Packing") -> Tensor:
        """Return the same tokens x (H, P + N, d) in a packing with a shorter prefix."""
        first = self.end - self.column[self.end] + self.prefix  # of each suffix
        index = torch.where(
            into.column < self.prefix,
            into.column,
            first[into.row] + into.column - self.prefix,
        )
        return x.index_select(1, index)


def pack(end: Tensor, source: Tensor, prefix: int) -> Packing:
    """Lay out prompts whose first `prefix` tokens, at least one, are the same.

    Args:
        end: (C,) position of the last token.
        source: (C, length) which of the T prompt tokens replaces each token, -1 for none.
    """
    count = end + 1 - prefix
    longest = int(count.max())
    column = torch.arange(longest).expand(len(end), -1)
    suffix = (column < count[:, None]).flatten().nonzero().flatten()
    first = prefix + count.cumsum(0) - count
    row = F.pad(suffix // longest, (prefix, 0))
    column_of = torch.cat([torch.arange(prefix), suffix % longest + prefix])
    packed = source[row, column_of]
    used = (packed >= 0).nonzero().flatten().tolist()
    slots = (used[0], used[-1] + 1) if used else (1, 1)
    between, suffix_mask = packed[slice(*slots)], _causal_mask(longest, prefix)
    return Packing(
        prefix=prefix,
        row=row,
        column=column_of,
        grid=first[:, None] + column.minimum(count[:, None] - 1),
        suffix=suffix,
        end=first + count - 1,
        prefix_mask=_causal_mask(prefix, 0),
        suffix_mask=suffix_mask,
        end_mask=suffix_mask[count - 1][:, None, None],
        slots=slots,
        source=between.clamp(min=0),
        replaced=(between >= 0)[:, None],
        in_order=between.tolist() == list(range(int(source.max()) + 1)),
    )


def pad(end: Tensor, source: Tensor, causal: bool) -> Packing:
    """Lay out prompts side by side, each of the full length, for towers that see the pads.

    Where tokens see those behind them, nothing that classes share in front stays the same, so the
    prefix is empty and each prompt is a suffix of its own, of the full length L:

        a   cat EOS pad pad | a   dog house EOS pad | ...       P + N = 0 + C L tokens
        `--- suffix 1 ----'   `----- suffix 2 ----'

    Args:
        end: (C,) position of the token that is read.
        source: (C, L) which of the T prompt tokens replaces each token, -1 for none.
        causal: whether a token sees none behind it.
    """
    length, replacing = source.shape[1], source.flatten()
    index = torch.arange(source.numel())
    grid = index.view(source.shape)
    mask = _causal_mask(length, 0) if causal else None
    return Packing(
        prefix=0,
        row=index // length,
        column=index % length,
        grid=grid,
        suffix=index,
        end=grid[:, 0] + end,
        prefix_mask=None,
        suffix_mask=mask,
        end_mask=None if mask is None else mask[end][:, None, None],
        slots=(0, len(index)),
        source=replacing.clamp(min=0),
        replaced=(replacing >= 0)[:, None],
        in_order=False,
    )


def _causal_mask(length: int, past: int) -> Tensor:
    """Return (length, past + length): -inf above the diagonal that starts after `past` tokens."""
    return torch.full((length, past + length), float("-inf")).triu(past + 1)
