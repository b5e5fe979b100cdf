"""VPT: prompts in the image tower alone (arXiv 2203.12119, as MaPLe's code base applies it)."""

import torch
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

from prompting import FullRankPrompts, PromptedCLIP, initial_prompts
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.VPT, with the keys and defaults of MaPLe's code base."""
    node = cfg.TRAINER.VPT = CfgNode()
    node.N_CTX_VISION = 2  # prompt tokens
    node.PROMPT_DEPTH_VISION = 1  # prompted layers
    node.CTX_INIT = "a photo of a"  # the words before the class name, which stay as they are
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (MaPLe's own default is fp16)


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    """Trains independent prompts in the image tower, by cross entropy."""

    node = "VPT"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        initial = initial_prompts(
            self.backbone,
            "",
            (1, options.N_CTX_VISION),
            (0, options.PROMPT_DEPTH_VISION),
            generator,
        )
        words = options.CTX_INIT.replace("_", " ").strip()
        prompt_learner, template = FullRankPrompts(*initial), f"{words} {{}}.".strip()
        model = PromptedCLIP(self.backbone, prompt_learner, classnames, template)
        model.fix_text(model.text_features(()))  # nothing of it is trained
        return model
