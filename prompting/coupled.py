"""Vision prompts that are projections of the text prompts (MaPLe, arXiv 2210.03117)."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from prompting.layers import linear


class CoupledPrompts(nn.Module):
    """Text prompts (J, T, d_t), and a projection per layer that makes vision prompts of them."""

    def __init__(self, initial: Tensor, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.text = nn.Parameter(initial.clone())
        first, deeper = (linear(initial.shape[-1], width, generator) for _ in range(2))
        # As published: the deeper layers' projections all begin with the same weights.
        copies = [deepcopy(deeper) for _ in range(len(initial) - 1)]
        self.projections = nn.ModuleList([first, *copies])

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return text prompts (J, T, d_t) and vision prompts (J, T, d_v)."""
        pairs = zip(self.projections, self.text, strict=True)
        return self.text, torch.stack([project(prompt) for project, prompt in pairs])
