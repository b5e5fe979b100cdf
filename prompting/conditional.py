"""A context that every image shifts, and its classifier (CoCoOp, arXiv 2203.05557)."""

import torch
from torch import Tensor, nn

from prompting.layers import linear
from prompting.model import PromptedCLIP
from prompting.prompts import Context

TEXTS_AT_ONCE = 2048  # images times classes: bounds the memory of an evaluation


class ShiftedContext(Context):
    """A context (T, d_t), and a bottleneck of D / 16 units that makes its shift from an image."""

    def __init__(self, initial: Tensor, joint_width: int, generator: torch.Generator) -> None:
        super().__init__(initial)
        hidden, width = joint_width // 16, initial.shape[-1]
        self.meta_net = nn.Sequential(
            linear(joint_width, hidden, generator), nn.ReLU(), linear(hidden, width, generator)
        )

    def contexts(self, image: Tensor) -> Tensor:
        """Return a context for each of the images' normalised features (B, D): (B, 1, T, d_t)."""
        return self.ctx + self.meta_net(image)[:, None, None, :]


class ConditionalCLIP(PromptedCLIP):
    """Classifies each image by its own text features."""

    def forward(self, images: Tensor) -> Tensor:
        image = self.image_features(images)
        at_once = max(1, TEXTS_AT_ONCE // len(self.tokenized_prompts.tokens))
        return torch.cat([self._conditional_logits(part) for part in image.split(at_once)])

    def _conditional_logits(self, image: Tensor) -> Tensor:
        text = self.text_features((self.prompt_learner.contexts(image),))  # (B, C, D)
        return self.logit_scale * (text @ image[..., None]).squeeze(-1)

    def text_classifier(self) -> None:
        """Return None: the text depends on the image."""
