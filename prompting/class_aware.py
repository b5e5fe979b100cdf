"""Prompts made from the frozen text features of the classes (TCP, arXiv 2311.18231)."""

import torch
from clip.model import QuickGELU
from torch import Tensor, nn

from prompting.layers import linear
from prompting.prompts import Context


class ClassAwarePrompts(Context):
    """A context (T, d) in layer 1, and in a deeper layer prompts (C, T, d) made of text features.

    Args:
        initial: the context.
        layer: the deeper layer, 2 or more.
        frozen_text: normalised features (C, D) of the classes; they are not saved.
    """

    def __init__(
        self, initial: Tensor, layer: int, frozen_text: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__(initial)
        tokens, width = initial.shape
        joint = frozen_text.shape[1]
        self.between = layer - 2
        self.register_buffer("frozen_text", frozen_text, persistent=False)
        self.meta_net = nn.Sequential(
            linear(joint, joint // 4, generator),
            QuickGELU(),
            linear(joint // 4, tokens * width, generator),
        )

    def forward(self) -> tuple[tuple[Tensor | None, ...], tuple[Tensor, ...]]:
        """Return the text prompts of layers 1 to `layer`, and no vision prompts."""
        deep = self.meta_net(self.frozen_text).view(-1, *self.ctx.shape)
        return (self.ctx, *[None] * self.between, deep), ()
