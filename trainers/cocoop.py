"""CoCoOp: a context that every image shifts (arXiv 2203.05557)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import PromptedCLIP, initial_context
from prompting.conditional import ConditionalCLIP, ShiftedContext
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.COCOOP, with the keys and defaults of CoOp's code base."""
    node = cfg.TRAINER.COCOOP = CfgNode()
    node.N_CTX = 16  # context tokens, where they are random at first
    node.CTX_INIT = ""  # words to begin with, which then set N_CTX
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (upstream's own default is fp16)


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Trains a context and how images shift it, by cross entropy."""

    node = "COCOOP"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        words = options.CTX_INIT.replace("_", " ").strip()
        words, context = initial_context(self.backbone, words, options.N_CTX, generator)
        joint_width = self.backbone.text.joint_width
        prompt_learner = ShiftedContext(context, joint_width, generator)
        return ConditionalCLIP(self.backbone, prompt_learner, classnames, words + " {}.")
