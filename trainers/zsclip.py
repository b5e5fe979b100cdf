"""Zero-shot CLIP: one hand-written template per data set, or an ensemble (CoOp's protocol)."""

import logging

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP, frozen_text_features
from prompting.templates import IMAGENET_TEMPLATES_SELECT, template_for
from trainers.base import PromptTrainer

logger = logging.getLogger("dassl")


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.ZSCLIP (ours; upstream's trainer has none)."""
    node = cfg.TRAINER.ZSCLIP = CfgNode()
    node.TEMPLATE = ""  # such as "a photo of a {}."; empty: the data set's own
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Evaluates CLIP as it is; there is nothing to train."""

    node = "ZSCLIP"
    requires_training = False

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        template = self.options.TEMPLATE or template_for(self.cfg.DATASET.NAME, {})
        logger.info('Template: "%s"', template)
        return PromptedCLIP(self.backbone, NoPrompts(), classnames, template)

    def train(self) -> None:
        self.test()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load nothing: zero-shot CLIP has no prompts."""


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Zero-shot CLIP with the average of seven templates and, but for ImageNet, the data set's."""

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        model = super().build_clip(classnames, generator)
        own = template_for(self.cfg.DATASET.NAME, {})
        templates = IMAGENET_TEMPLATES_SELECT
        if self.cfg.DATASET.NAME != "ImageNet":
            templates = (*templates, own)
        model.fix_text(frozen_text_features(self.backbone, classnames, templates, normalize=True))
        return model
