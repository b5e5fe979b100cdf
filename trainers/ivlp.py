"""IVLP: independent vision-language prompting, free prompts in both towers (MaPLe's baseline)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import FullRankPrompts, PromptedCLIP, context_text, initial_prompts
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """The node TRAINER.IVLP, with the keys and defaults of MaPLe's code base."""
    cfg.TRAINER.IVLP = prompt_options(tokens=2)


def prompt_options(tokens: int) -> CfgNode:
    """The options of free prompts in both towers; `tokens` is the default of each."""
    node = CfgNode()
    node.N_CTX_TEXT = tokens  # prompt tokens of the text tower
    node.N_CTX_VISION = tokens  # prompt tokens of the image tower
    node.CTX_INIT = "a photo of a"  # words before the class name
    node.PROMPT_DEPTH_TEXT = 9  # prompted layers of the text tower
    node.PROMPT_DEPTH_VISION = 9  # prompted layers of the image tower
    node.PREC = "fp32"  # fp32, amp, bf16, fp16 (the family's own default is fp16)
    return node


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Free prompts in both towers, trained by cross entropy alone."""

    node = "IVLP"
    templates: tuple[str, ...] = ()  # sentences for frozen text features, where they are needed

    def build_prompted(self, names: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        start = initial_prompts(
            self.backbone,
            options.CTX_INIT,
            (options.N_CTX_TEXT, options.N_CTX_VISION),
            (options.PROMPT_DEPTH_TEXT, options.PROMPT_DEPTH_VISION),
            generator,
        )
        template = context_text(options.CTX_INIT, options.N_CTX_TEXT) + " {}."
        return PromptedCLIP(
            self.backbone, FullRankPrompts(start), names, template, templates=self.templates
        )
