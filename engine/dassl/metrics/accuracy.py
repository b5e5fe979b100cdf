"""Compute the top-k accuracy of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor],
    target: torch.Tensor,
    topk: Sequence[int] = (1,),
) -> list[torch.Tensor]:
    """Return the percentage of samples whose label is among the k highest scores, per k.

    Args:
        output: scores (B, C); of a tuple or list the first element.
        target: labels (B,).
        topk: the values of k, none above C.

    Returns:
        One tensor of shape (1,) per k, in percent.
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    ranked = output.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked.eq(target.view(-1, 1))
    return [hits[:, :k].any(dim=1).float().mean().mul(100).view(1) for k in topk]
