"""MaPLe: vision prompts that are projections of the text prompts (arXiv 2210.03117)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import PromptedCLIP, context_words, initial_prompts
from prompting.coupled import CoupledPrompts
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.MAPLE, with the keys and defaults of MaPLe's code base."""
    node = cfg.TRAINER.MAPLE = CfgNode()
    node.N_CTX = 2  # prompt tokens of each tower
    node.CTX_INIT = "a photo of a"  # words before the class name; those beyond N_CTX stay frozen
    node.PROMPT_DEPTH = 9  # prompted layers of each tower
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (MaPLe's own default is fp16)


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Trains coupled prompts in both towers by cross entropy."""

    node = "MAPLE"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        prompt_learner, template = self.build_prompts(generator)
        return PromptedCLIP(self.backbone, prompt_learner, classnames, template)

    def build_prompts(self, generator: torch.Generator) -> tuple[CoupledPrompts, str]:
        """Build the prompts of both towers; return them and the text around a class name."""
        options = self.options
        tokens, depth = options.N_CTX, options.PROMPT_DEPTH
        text, vision = initial_prompts(
            self.backbone, options.CTX_INIT, (tokens, tokens), (depth, depth), generator
        )
        prompts = CoupledPrompts(text, vision.shape[-1], generator)
        return prompts, context_words(options.CTX_INIT, tokens, self.backbone.tokenizer) + " {}."
