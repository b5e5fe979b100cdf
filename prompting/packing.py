"""Sentences end to end: what they share comes once, and nothing is padded.

Letters: C sentences, P leading tokens that all of them share, L own tokens of the longest, N own
tokens of all together, T prompt tokens, H sequences of P + N tokens, d width.

The tower is causal, so the shared tokens are the same in every layer whatever follows, and nothing
behind a sentence's end matters. Only attention looks at more than one token: for it own tokens are
laid out in a grid (C, L) and back.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from prompting.blocks import attend


@dataclass(frozen=True)
class Packing:
    """Where the tokens of C sentences stand among P shared and N own ones.

    Attributes:
        shared: P.
        row, column: (P + N,) whose token it is, and where in the sentence; shared ones are row 0's.
        grid: (C, L) which packed token stands there; behind a sentence's end, its last.
        own: (N,) where in the grid each own token stands.
        end: (C,) which packed token is the sentence's last.
        head_mask, mask: (P, P) and (L, P + L), additive: of shared tokens over each other, and of
            own ones over shared and own ones.
        source: (P + N,) which of the prompt's T tokens stands in for it, -1 for none.
        slots: where the first such token stands, and one past the last.
    """

    shared: int
    row: Tensor
    column: Tensor
    grid: Tensor
    own: Tensor
    end: Tensor
    head_mask: Tensor
    mask: Tensor
    source: Tensor
    slots: tuple[int, int]

    def to(self, device: torch.device) -> "Packing":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()}
        return Packing(**moved)

    def attend(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """Each token attends to those before it in its sentence: (H, P + N, d).

        Args:
            query: (H, P + N, d).
            key_value: (H, P + N, 2 d).
        """
        shared = self.shared
        head = attend(query[:, :shared], key_value[:, :shared], heads, self.head_mask)
        own = attend(self._laid_out(query), self._visible(key_value), heads, self.mask)
        own = own.view(len(query), -1, query.shape[-1]).index_select(1, self.own)
        return torch.cat([head, own], dim=1)

    def attend_at_ends(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """The same for the last token of each sentence alone: (H, C, d) of query (H, C, d)."""
        query = query.flatten(0, 1)[:, None]
        rows = self.column[self.end] - self.shared
        mask = self.mask[rows][:, None, None].repeat(len(query) // len(rows), 1, 1, 1)
        mixed = attend(query, self._visible(key_value), heads, mask)
        return mixed.view(len(key_value), len(rows), -1)

    def at_ends(self, x: Tensor) -> Tensor:
        """The last token of each sentence (H, C, d) of packed ones."""
        return x.index_select(1, self.end)

    def _laid_out(self, x: Tensor) -> Tensor:
        """Own tokens (H C, L, d) of packed ones."""
        count, length = self.grid.shape
        return x.index_select(1, self.grid.flatten()).view(len(x) * count, length, -1)

    def _visible(self, x: Tensor) -> Tensor:
        """What the own tokens of each sentence may see: (H C, P + L, d) of packed ones."""
        count = len(self.grid)
        shared = x[:, None, : self.shared].expand(-1, count, -1, -1).flatten(0, 1)
        return torch.cat([shared, self._laid_out(x)], dim=1)

    def fill(self, x: Tensor, prompt: Tensor) -> Tensor:
        """x (H, P + N, d) with a prompt in its slots.

        Args:
            prompt: (T, d) for all, (C, T, d) with one a sentence, or (H, 1, T, d).
        """
        start, stop = self.slots
        source = self.source[start:stop]
        index = source.clamp(min=0)
        if prompt.ndim == 3:
            index = self.row[start:stop] * prompt.shape[1] + index
            tokens = prompt.flatten(0, 1)[None]
        else:
            tokens = prompt[None] if prompt.ndim == 2 else prompt[:, 0]
        tokens = tokens.index_select(1, index)
        filled = torch.where((source >= 0)[:, None], tokens, x[:, start:stop])
        return torch.cat([x[:, :start], filled, x[:, stop:]], dim=1)

    def unpack(self, x: Tensor, into: "Packing") -> Tensor:
        """The same tokens x (H, P + N, d) in a packing that shares fewer."""
        first = self.end + 1 - (self.column[self.end] + 1 - self.shared)  # own token of each
        index = torch.where(
            into.column < self.shared,
            into.column,
            first[into.row] + into.column - self.shared,
        )
        return x.index_select(1, index)


def pack(end: Tensor, source: Tensor, shared: int) -> Packing:
    """Lay sentences out, whose first `shared` tokens, at least one, are the same.

    Args:
        end: (C,) position of the last token.
        source: (C, length) which of the prompt's T tokens stands in for each token, -1 for none.
    """
    count = end + 1 - shared
    longest = int(count.max())
    column = torch.arange(longest).expand(len(end), -1)
    own = (column < count[:, None]).flatten().nonzero().flatten()
    first = shared + count.cumsum(0) - count
    row = F.pad(own // longest, (shared, 0))
    column_of = torch.cat([torch.arange(shared), own % longest + shared])
    packed = source[row, column_of]
    used = (packed >= 0).nonzero().flatten().tolist()
    return Packing(
        shared=shared,
        row=row,
        column=column_of,
        grid=first[:, None] + column.minimum(count[:, None] - 1),
        own=own,
        end=first + count - 1,
        head_mask=_causal_mask(shared, 0),
        mask=_causal_mask(longest, shared),
        source=packed,
        slots=(used[0], used[-1] + 1) if used else (1, 1),
    )


def _causal_mask(length: int, past: int) -> Tensor:
    """(length, past + length): -inf above the diagonal that starts after `past` tokens."""
    return torch.full((length, past + length), float("-inf")).triu(past + 1)
