"""TaskRes: a residual on each class's text feature (arXiv 2211.10277)."""

from collections.abc import Sequence

import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP, class_prompts, encode_texts
from prompting.precision import autocast
from prompting.templates import template_for, zero_shot_templates
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.TaskRes, named and with the key as in its code base."""
    node = cfg.TRAINER.TaskRes = CfgNode()
    node.RESIDUAL_SCALE = 0.5  # what the residuals are multiplied by (1.0 in its code base)
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (TaskRes' own default is fp16)


class TextResiduals(NoPrompts):
    """Features t + scale x of the classes, with t frozen and x (C, D) zero at first.

    Args:
        frozen: t (C, D), as the text tower gives it; not saved.
    """

    def __init__(self, frozen: Tensor, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("frozen", frozen, persistent=False)
        self.residuals = nn.Parameter(torch.zeros_like(frozen))

    def features(self) -> Tensor:
        """Return the features (C, D), not normalised."""
        return self.frozen + self.scale * self.residuals


class ResidualCLIP(PromptedCLIP):
    """Classifies by text features with their residuals."""

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        return self.prompt_learner.features()


@TRAINER_REGISTRY.register()
class TaskRes(PromptTrainer):
    """Trains the residuals by cross entropy."""

    node = "TaskRes"
    per_class = "a residual"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        backbone, dataset = self.backbone, self.cfg.DATASET.NAME
        own = template_for(dataset, {})
        templates = dict.fromkeys((*zero_shot_templates(dataset), own))  # for ImageNet seven more
        with autocast(backbone.precision, backbone.device):
            texts = [
                encode_texts(
                    backbone.model, class_prompts(classnames, t), tokenizer=backbone.tokenizer
                )
                for t in templates
            ]
        frozen = torch.stack(texts).float().mean(dim=0)
        learner = TextResiduals(frozen, self.options.RESIDUAL_SCALE)
        return ResidualCLIP(backbone, learner.to(self.device), classnames, own)
