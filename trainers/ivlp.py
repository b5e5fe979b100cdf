"""IVLP: independent vision-language prompting, prompts in both towers (MaPLe's baseline)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import FullRankPrompts, PromptedCLIP, context_words, initial_prompts
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.IVLP, with the keys and defaults of MaPLe's code base."""
    cfg.TRAINER.IVLP = prompt_options(tokens=2)


def prompt_options(tokens: int) -> CfgNode:
    """Return the options of independent prompts in both towers; `tokens` is the default of each."""
    node = CfgNode()
    node.N_CTX_TEXT = tokens  # prompt tokens of the text tower
    node.N_CTX_VISION = tokens  # prompt tokens of the image tower
    node.CTX_INIT = "a photo of a"  # words before the class name
    node.PROMPT_DEPTH_TEXT = 9  # prompted layers of the text tower
    node.PROMPT_DEPTH_VISION = 9  # prompted layers of the image tower
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (the family's own default is fp16)
    return node


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Trains independent prompts in both towers, by cross entropy alone."""

    node = "IVLP"
    templates: tuple[str, ...] = ()  # for frozen text features, where they are needed

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        initial = initial_prompts(
            self.backbone,
            options.CTX_INIT,
            (options.N_CTX_TEXT, options.N_CTX_VISION),
            (options.PROMPT_DEPTH_TEXT, options.PROMPT_DEPTH_VISION),
            generator,
        )
        words = context_words(options.CTX_INIT, options.N_CTX_TEXT, self.backbone.tokenizer)
        return PromptedCLIP(
            self.backbone, FullRankPrompts(*initial), classnames, f"{words} {{}}.", self.templates
        )
