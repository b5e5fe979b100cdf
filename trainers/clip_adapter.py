"""CLIP-Adapter: a bottleneck behind the image tower (arXiv 2110.04544)."""

from collections.abc import Sequence

import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP
from prompting.layers import ResidualAdapter
from prompting.templates import template_for
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.CLIPADAPTER (ours; the values are fixed in CLIP-Adapter's code)."""
    node = cfg.TRAINER.CLIPADAPTER = CfgNode()
    node.RATIO = 0.2  # share of the adapter's output
    node.REDUCTION = 4  # how much narrower the bottleneck is
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16


class ImageAdapter(NoPrompts):
    """The adapter of the image features, next to no prompts."""

    def __init__(self, image: ResidualAdapter) -> None:
        super().__init__()
        self.image = image


class FeatureAdaptedCLIP(PromptedCLIP):
    """Classifies by adapted image features."""

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        return self.prompt_learner.image(super().encode_image(images, prompts))


@TRAINER_REGISTRY.register()
class CLIPAdapter(PromptTrainer):
    """Trains the bottleneck by cross entropy; the text is zero-shot CLIP's."""

    node = "CLIPADAPTER"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options, width = self.options, self.backbone.text.joint_width
        adapter = ResidualAdapter(width, options.REDUCTION, options.RATIO, generator)
        template = template_for(self.cfg.DATASET.NAME, {})
        model = FeatureAdaptedCLIP(self.backbone, ImageAdapter(adapter), classnames, template)
        model.fix_text(model.text_features(()))  # nothing of it is trained
        return model
