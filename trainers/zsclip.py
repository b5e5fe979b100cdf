"""Zero-shot CLIP: one hand-written template per data set, or an ensemble (CoOp's protocol)."""

import logging

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP
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
        template = self.template()
        logger.info('Template: "%s"', template)
        return PromptedCLIP(self.backbone, NoPrompts(), classnames, template)

    def template(self) -> str:
        """Return the template that was given, or the data set's."""
        return self.options.TEMPLATE or template_for(self.cfg.DATASET.NAME, {})

    def check_cfg(self, cfg: CfgNode) -> None:
        if cfg.TEST.NO_TEST:
            raise ValueError(
                f"{cfg.TRAINER.NAME} does nothing but test, and TEST.NO_TEST is True: set it False."
            )

    def train(self) -> None:
        self.test()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load nothing: zero-shot CLIP has no prompts."""


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Zero-shot CLIP with the average of seven templates and one more.

    That is TEMPLATE or, but for ImageNet, the data set's own.
    """

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        model = super().build_clip(classnames, generator)
        templates = IMAGENET_TEMPLATES_SELECT
        if self.options.TEMPLATE or self.cfg.DATASET.NAME != "ImageNet":
            templates = (*templates, self.template())
        model.fix_ensemble(templates)
        return model
