"""MultiModalAdapter (MMA): adapters in both towers that share their middle (CVPR 2024)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import PromptedCLIP, encode_image, encode_text, require_transformer
from prompting.layers import scale_gradient
from trainers.base import PromptTrainer

Layers = list[Callable[[Tensor], Tensor] | None]


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.MMADAPTER, with the keys and defaults of MMA's code base."""
    node = cfg.TRAINER.MMADAPTER = CfgNode()
    node.TEXT_CTX_INIT = ""  # words before the class name
    node.ADAPTER_START = 4  # first layer with adapters, counted from 1
    node.ADAPTER_END = 12  # last layer with adapters
    node.ADAPTER_DIM = 32  # width of the bottleneck
    node.ADAPTER_SCALE = 0.1  # what their output is multiplied by
    node.PREC = "fp32"  # fp32, amp, bf16, fp16 (MMA's own default is amp)


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


@TRAINER_REGISTRY.register()
class MultiModalAdapter(PromptTrainer):
    """Trains adapters in both towers by cross entropy."""

    node = "MMADAPTER"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        require_transformer(self.backbone)
        options, model = self.options, self.backbone.model
        towers = (model.transformer, model.visual.transformer)
        first, last = options.ADAPTER_START, options.ADAPTER_END
        deepest = min(tower.layers for tower in towers)
        if not 1 <= first <= last <= deepest:
            raise ValueError(
                f"ADAPTER_START {first} and ADAPTER_END {last} must be in this order between 1 "
                f"and {deepest}, the layers of this backbone."
            )
        prompt_learner = Adapters(
            tuple(tower.width for tower in towers),
            range(first, last + 1),
            options.ADAPTER_DIM,
            options.ADAPTER_SCALE,
            generator,
        )
        words = options.TEXT_CTX_INIT.replace("_", " ").strip()
        return AdaptedCLIP(self.backbone, prompt_learner, classnames, f"{words} {{}}.".strip())
