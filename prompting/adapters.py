"""Adapters in both towers that share their middle, and their classifier (MMA, CVPR 2024)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from prompting.image_encoder import encode_image
from prompting.layers import scale_gradient
from prompting.model import PromptedCLIP
from prompting.text_encoder import encode_text

Layers = list[Callable[[Tensor], Tensor] | None]


class Adapters(nn.Module):
    """For the layers first..last a bottleneck in each tower; both pass through one shared layer.

        y = scale up(relu(shared(relu(down(x)))))

    As published, the gradients of the weights leave `scale` out.
    """

    def __init__(
        self,
        widths: tuple[int, int],
        layers: range,
        hidden: int,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.layers, self.scale = layers, scale
        self.text_down, self.vision_down = (
            _layers(layers, width, hidden, generator) for width in widths
        )
        self.text_up, self.vision_up = (
            _layers(layers, hidden, width, generator) for width in widths
        )
        self.shared = _layers(layers, hidden, hidden, generator)

    def forward(self) -> tuple[tuple, tuple]:
        """Return no prompts for either tower."""
        return (), ()

    def text(self) -> Layers:
        """Return an adapter or None for each layer of the text tower."""
        return self._tower(self.text_down, self.text_up)

    def vision(self) -> Layers:
        """Return an adapter or None for each layer of the image tower."""
        return self._tower(self.vision_down, self.vision_up)

    def _tower(self, down: nn.ModuleList, up: nn.ModuleList) -> Layers:
        triples = zip(down, self.shared, up, strict=True)
        adapters = [partial(_adapt, *triple, self.scale) for triple in triples]
        return [None] * (self.layers.start - 1) + adapters


def _adapt(down: nn.Linear, shared: nn.Linear, up: nn.Linear, scale: float, x: Tensor) -> Tensor:
    """Apply the adapter to a layer's normalised input (N, L, d), in its dtype."""
    y = scale_gradient(x.type(down.weight.dtype), scale)
    y = scale * up(shared(down(y).relu()).relu()).float()  # 1 / scale is too much for fp16
    return scale_gradient(y, 1 / scale).type(x.dtype)


def _layers(layers: range, inputs: int, outputs: int, generator: torch.Generator) -> nn.ModuleList:
    """Return a linear layer for each, initialised as published: Kaiming, with zero biases."""
    found = nn.ModuleList(nn.utils.skip_init(nn.Linear, inputs, outputs) for _ in layers)
    for layer in found:
        nn.init.kaiming_normal_(
            layer.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )
        nn.init.zeros_(layer.bias)
    return found


class AdaptedCLIP(PromptedCLIP):
    """Classifies with adapters in both towers; its prompts are frozen words."""

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        return encode_image(self.clip, images, prompts, self.prompt_learner.vision())

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        adapters = self.prompt_learner.text()
        return encode_text(self.clip, self.tokenized_prompts, prompts, adapters)
